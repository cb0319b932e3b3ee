"""From an algorithm of stable-baselines3 to the net of an exported policy.

Each function takes what ``predict(deterministic=True)`` computes, and nothing else: no critics, no
target nets, no spread of a distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch.nn as nn
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from automix.policy.policy_net import Layer, Memory, PolicyNet

TakeNet = Callable[[BaseAlgorithm], PolicyNet]


def actor_critic(agent: BaseAlgorithm) -> PolicyNet:
    """Take the policy half of PPO, A2C and their kin, an LSTM in front of it if there is one."""
    policy: Any = agent.policy
    lstm = getattr(policy, "lstm_actor", None)
    return PolicyNet(
        layers=_layers([policy.mlp_extractor.policy_net, policy.action_net]),
        activation="tanh",
        output="clip" if isinstance(agent.action_space, spaces.Box) else "logits",
        memory=None if lstm is None else _memory(lstm),
    )


def action_values(agent: BaseAlgorithm) -> PolicyNet:
    """Take the value net of DQN."""
    policy: Any = agent.policy
    return PolicyNet(layers=_layers([policy.q_net.q_net]), activation="relu", output="values")


def mean_quantiles(agent: BaseAlgorithm) -> PolicyNet:
    """Take the quantile net of QR-DQN, the mean over quantiles folded into its last layer."""
    policy: Any = agent.policy
    net = policy.quantile_net
    *body, (weight, bias) = _layers([net.quantile_net])
    # The outputs are ordered quantile by quantile, the actions of each side by side.
    weight = weight.reshape(net.n_quantiles, -1, weight.shape[1]).mean(0)
    last = weight, bias.reshape(net.n_quantiles, -1).mean(0)
    return PolicyNet(layers=[*body, last], activation="relu", output="values")


def squashed_mean(agent: BaseAlgorithm) -> PolicyNet:
    """Take the actor of SAC and TQC: the mean of its Gaussian, squashed."""
    policy: Any = agent.policy
    layers = _layers([policy.actor.latent_pi, policy.actor.mu])
    return PolicyNet(layers=layers, activation="relu", output="tanh")


def squashed(agent: BaseAlgorithm) -> PolicyNet:
    """Take the actor of TD3."""
    policy: Any = agent.policy
    return PolicyNet(layers=_layers([policy.actor.mu]), activation="relu", output="tanh")


def linear(agent: BaseAlgorithm) -> PolicyNet:
    """Take the linear policy of ARS, which no probabilities belong to."""
    policy: Any = agent.policy
    output = "clip" if isinstance(agent.action_space, spaces.Box) else "values"
    return PolicyNet(layers=_layers([policy.action_net]), output=output)


def of_plain_observations(net: PolicyNet, agent: BaseAlgorithm) -> PolicyNet:
    """Fold the scaling of observations that an agent was learned with, if any, into its net."""
    scaling = agent.get_vec_normalize_env()
    if scaling is None:
        return net
    seen: Any = scaling.obs_rms
    scale = 1 / np.sqrt(seen.var + scaling.epsilon)
    if net.memory is not None:
        weight, bias = _unscaled(net.memory.seen, net.memory.bias, seen.mean, scale)
        return replace(net, memory=replace(net.memory, seen=weight, bias=bias))
    return replace(net, layers=[_unscaled(*net.layers[0], seen.mean, scale), *net.layers[1:]])


def _unscaled(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Layer:
    """Return the layer that does with x what this one does with ``(x - mean) * scale``."""
    wide = weight.astype(np.float64) * scale
    return wide.astype(np.float32), (bias - wide @ mean).astype(np.float32)


def _layers(parts: Iterable[nn.Module]) -> list[Layer]:
    linear = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear)]
    return [(_array(layer.weight), _array(layer.bias)) for layer in linear]


def _memory(lstm: Any) -> Memory:
    # torch adds both biases to the same gates.
    bias = _array(lstm.bias_ih_l0) + _array(lstm.bias_hh_l0)
    return Memory(_array(lstm.weight_ih_l0), _array(lstm.weight_hh_l0), bias)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().copy()
