"""All that an agent depends on at the start of a rollout, as plain data, and back.

stable-baselines3 saves agents through pickle, and without generators, last observations and
statistics. What is listed here is enough for an agent that is built from the same settings to go on
bit for bit, whichever of ``automix.agents.learning.algorithms`` it is.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd

from automix.core.seeding import global_rng_state, set_global_rng_state

_COUNTERS = (
    *("num_timesteps", "_episode_num", "_n_updates", "_n_calls"),
    *("exploration_rate", "_current_progress_remaining"),
)
_LAST = ("_last_obs", "_last_original_obs", "_last_episode_starts")
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def agent_state_dict(agent: BaseAlgorithm) -> dict[str, Any]:
    """Return a copy of an agent's state at the start of a rollout, but for its replay buffer.

    That would be too much to copy at every rollout: ``with_replay`` adds it. Call it inside
    ``borrowed_global_rng``, whose generators are part of the state.
    """
    lstm_states = getattr(agent, "_last_lstm_states", None)
    buffer = _replay_buffer(agent)
    return copy.deepcopy(
        {
            "parameters": agent.get_parameters(),
            "entropy": _log_entropy(agent),
            "counters": {n: getattr(agent, n) for n in _COUNTERS if hasattr(agent, n)},
            "last": {name: getattr(agent, name) for name in _LAST},
            "lstm": lstm_states and tuple(lstm_states),
            "replay": buffer and {"pos": buffer.pos, "full": buffer.full},
            "scaling": _scaling(agent),
            "logged": _logged(agent.logger),
            "actions": agent.action_space.np_random.bit_generator.state,
            "generators": global_rng_state(),
        }
    )


def with_replay(agent: BaseAlgorithm, state: dict[str, Any]) -> dict[str, Any]:
    """Return an agent's state with the content of its replay buffer.

    May be called later than ``agent_state_dict``, but in the same rollout: what was stored since
    is stored in the same places when the rollout is replayed, and learned from only after it.
    """
    buffer = _replay_buffer(agent)
    if buffer is None:
        return state
    fill = buffer.buffer_size if state["replay"]["full"] else state["replay"]["pos"]
    content = {name: getattr(buffer, name)[:fill] for name in _BUFFER}
    return state | {"replay": state["replay"] | {"content": content}}


def load_agent_state_dict(agent: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Let a freshly built agent go on from a state; hyper-parameters stay those it was built with.

    Call it inside ``borrowed_global_rng``.

    Raises:
        ValueError, RuntimeError, KeyError, TypeError: If the state is not of such an agent.
    """
    state = copy.deepcopy(state)  # optimizers keep and change what they are given
    names = agent._get_torch_save_params()[0]
    agent.set_parameters({name: state["parameters"][name] for name in names})
    if (log_entropy := _log_entropy(agent)) is not None:
        log_entropy.copy_(state["entropy"])
    if hasattr(agent, "weights"):
        # ARS's own copy of its policy.
        agent.weights = torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach()
    for name in _COUNTERS:
        if hasattr(agent, name):
            setattr(agent, name, type(getattr(agent, name))(state["counters"][name]))
    for name in _LAST:
        setattr(agent, name, state["last"][name])
    if hasattr(agent, "_last_lstm_states"):
        agent._last_lstm_states = type(agent._last_lstm_states)(*state["lstm"])
    _refill(agent, state["replay"])
    _rescale(agent, state["scaling"])
    _log_again(agent.logger, state["logged"])
    agent.action_space.np_random.bit_generator.state = state["actions"]
    set_global_rng_state(state["generators"])


def _log_entropy(agent: BaseAlgorithm) -> torch.Tensor | None:
    """Return the logarithm of SAC's weight of the entropy where it is learned."""
    found = getattr(agent, "log_ent_coef", None)
    return None if found is None else found.detach()


def _replay_buffer(agent: BaseAlgorithm) -> ReplayBuffer | None:
    return getattr(agent, "replay_buffer", None)


def _refill(agent: BaseAlgorithm, replay: dict[str, Any] | None) -> None:
    buffer = _replay_buffer(agent)
    if buffer is None or replay is None:
        return
    buffer.pos, buffer.full = replay["pos"], replay["full"]
    fill = buffer.size()
    for name in _BUFFER:
        getattr(buffer, name)[:fill] = replay["content"][name]


def _scaling(agent: BaseAlgorithm) -> dict[str, Any] | None:
    """Return what ``VecNormalize`` has seen, if there is one around the environments."""
    scaler = agent.get_vec_normalize_env()
    if scaler is None:
        return None
    return {
        "observations": vars(scaler.obs_rms) if scaler.norm_obs else None,
        "rewards": vars(scaler.ret_rms),
        "returns": scaler.returns,
    }


def _rescale(agent: BaseAlgorithm, scaling: dict[str, Any] | None) -> None:
    scaler = agent.get_vec_normalize_env()
    if scaler is None or scaling is None:
        return
    if scaler.norm_obs:
        _restore_mean(scaler.obs_rms, scaling["observations"])
    _restore_mean(scaler.ret_rms, scaling["rewards"])
    scaler.returns = scaling["returns"]


def _restore_mean(running: Any, state: dict[str, Any]) -> None:
    assert isinstance(running, RunningMeanStd)
    running.mean, running.var = np.asarray(state["mean"]), np.asarray(state["var"])
    running.count = state["count"]


def _logged(logger: Logger) -> dict[str, Any]:
    return {
        "values": dict(logger.name_to_value),
        "counts": dict(logger.name_to_count),
        "excluded": dict(logger.name_to_excluded),
    }


def _log_again(logger: Logger, logged: dict[str, Any]) -> None:
    for kept, name in (
        (logger.name_to_value, "values"),
        (logger.name_to_count, "counts"),
        (logger.name_to_excluded, "excluded"),
    ):
        kept.clear()
        kept.update(logged[name])
