"""The state of a wrapped environment is kept whole, or not at all."""

from __future__ import annotations

import pytest

from automix.agents.vec_env.env_state import CannotKeepError, env_state
from tests.agents.vec_env.envs import Counting, Forgetful, KeptWalk, Walk


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
