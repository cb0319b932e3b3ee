"""An agent's state: complete, a copy, plain data, and refused where it does not fit."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

from automix.agents.learning.agent_state import agent_state_dict, load_agent_state_dict, with_replay
from automix.agents.learning.algorithms import AGENTS
from automix.core.seeding import borrowed_global_rng
from automix.core.snapshots import from_bytes, to_bytes
from tests.agents import surrogate_runs
from tests.cases import each

BUDGET = 4

every_agent = each("name", list(AGENTS))


def built(name: str, seed: int = 0, words: tuple[str, ...] = ()) -> BaseAlgorithm:
    """Return an agent before it has learned; call it inside ``borrowed_global_rng``."""
    settings = surrogate_runs.settings_of(name, *surrogate_runs.tiny_words(name), *words)
    agent = surrogate_runs.built(settings, BUDGET, seed)
    agent.set_logger(Logger(folder=None, output_formats=[]))
    return agent


def learn(agent: BaseAlgorithm) -> None:
    agent.learn(2 * agent.env.num_envs * BUDGET)


def whole(agent: BaseAlgorithm) -> bytes:
    return to_bytes(with_replay(agent, agent_state_dict(agent)))


@every_agent
def test_a_fresh_agent_of_another_seed_takes_all_of_a_state_over(name):
    with borrowed_global_rng(1):
        donor = built(name, seed=1)
        learn(donor)
        state = whole(donor)
    with borrowed_global_rng(2):
        heir = built(name, seed=2)
        assert whole(heir) != state
        load_agent_state_dict(heir, from_bytes(state))
        assert whole(heir) == state
        parameters = torch.nn.utils.parameters_to_vector(heir.policy.parameters())
        if name == "ars":
            assert torch.equal(heir.weights, donor.weights)
            assert torch.equal(heir.weights, parameters)
        if name == "recurrent_ppo":
            assert float(heir._last_lstm_states.pi[0].abs().sum()) > 0


@every_agent
def test_neither_the_donor_nor_the_heir_changes_a_state(name):
    with borrowed_global_rng(0):
        donor, heir = built(name), built(name)
        learn(donor)
        state = agent_state_dict(donor)
        before = to_bytes(state)
        donor.learn(donor.env.num_envs * BUDGET, reset_num_timesteps=False)
        assert to_bytes(state) == before
        given = from_bytes(whole(donor))
        before = to_bytes(given)
        load_agent_state_dict(heir, given)
        heir.env.reset()
        heir.learn(heir.env.num_envs * BUDGET, reset_num_timesteps=False)
        assert to_bytes(given) == before


def test_a_learned_weight_of_the_entropy_is_part_of_it():
    settings = surrogate_runs.settings_of("sac", *surrogate_runs.tiny_words("sac"))
    env = surrogate_runs.environments(settings, BUDGET, 0)
    with borrowed_global_rng(0):
        agents = [SAC("MlpPolicy", env, ent_coef=f"auto_{start}", seed=0) for start in (0.5, 0.9)]
        for agent in agents:
            agent.set_logger(Logger(folder=None, output_formats=[]))
        load_agent_state_dict(agents[1], with_replay(agents[0], agent_state_dict(agents[0])))
        assert float(agents[1].log_ent_coef.detach().exp()) == pytest.approx(0.5)
        (parameter,) = agents[1].ent_coef_optimizer.param_groups[0]["params"]
        assert parameter is agents[1].log_ent_coef, "what the optimizer moves is what is used"


def test_the_replay_buffer_counts_up_to_its_fill():
    with borrowed_global_rng(0):
        agent = built("dqn")
        learn(agent)
        state = with_replay(agent, agent_state_dict(agent))
    assert state["replay"]["content"]["observations"].shape[:2] == (8, 4)
    assert agent.replay_buffer.buffer_size == 50_000


@each(
    "words, error", [(("agent.net_arch=[9]",), RuntimeError), (("agent.group_size=4",), ValueError)]
)
def test_a_state_of_another_form_is_refused(words, error):
    with borrowed_global_rng(0):
        donor, heir = built("dqn"), built("dqn", words=words)
        learn(donor)
        with pytest.raises(error):
            load_agent_state_dict(heir, with_replay(donor, agent_state_dict(donor)))


def test_hyper_parameters_stay_those_it_was_built_with():
    with borrowed_global_rng(0):
        donor, heir = built("dqn"), built("dqn", words=("agent.gamma=0.5",))
        load_agent_state_dict(heir, with_replay(donor, agent_state_dict(donor)))
        assert heir.gamma == 0.5


@each("name", ["dqn", "recurrent_ppo"])
def test_what_is_missing_is_refused(name):
    with borrowed_global_rng(0):
        agent = built(name)
        agent._last_obs = agent.env.reset()
        state = with_replay(agent, agent_state_dict(agent))
        read = [key for key, value in state.items() if value is not None]
        assert len(read) >= 7
        for key in read:
            with pytest.raises(KeyError, match=key):
                load_agent_state_dict(agent, {k: v for k, v in state.items() if k != key})
