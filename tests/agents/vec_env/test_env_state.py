"""The state of a wrapped environment is kept whole, or not at all."""

from __future__ import annotations

import pytest

from automix.agents.vec_env.env_state import CannotKeepError, env_state, load_env_state
from tests.agents.vec_env.envs import Counting, Forgetful, KeptWalk, Walk, same, wrapped_walk


def test_a_wrapped_environment_goes_on_from_its_state():
    env = wrapped_walk()
    env.reset(seed=3)
    for _ in range(4):
        env.step(1)
    content = env_state(env)
    other = wrapped_walk()
    load_env_state(other, content)
    for _ in range(2):
        outcome = env.step(2)
        same(other.step(2), outcome)
    assert outcome[2] or outcome[3]
    assert outcome[4]["episode"]["l"] <= 6
    same(other.reset(), env.reset())
    (total,) = other.get_wrapper_attr("get_episode_rewards")()
    assert round(total, 6) == outcome[4]["episode"]["r"]


def test_what_cannot_be_kept_whole_is_not_kept_at_all():
    """What is set from outside is set again, and need not be kept."""
    painted = Counting(KeptWalk())
    painted.colours = {"red"}
    for env, why in (
        (Walk(), "Walk offers no state_dict"),
        (Forgetful(KeptWalk()), "Forgetful holds seen, a set"),
        (painted, "Counting holds colours, a set"),
    ):
        env.reset(seed=0)
        with pytest.raises(CannotKeepError, match=why):
            env_state(env)
    assert env_state(painted, given={"colours"})
