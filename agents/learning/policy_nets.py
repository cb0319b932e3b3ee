"""From an algorithm of stable-baselines3 to the net of an exported policy.

Each function takes what ``predict(deterministic=True)`` computes, and nothing else: no critics, no
target nets, no spread of a distribution. ``load_net`` goes the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from automix.core.errors import ConfigError
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
    if scaling is None or not scaling.norm_obs:
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


WARM = (actor_critic, linear)
"""The agents that can go on from a policy are those whose nets are taken by one of these."""


def load_net(agent: BaseAlgorithm, net: PolicyNet) -> None:
    """Let an agent that has not learned yet choose as a net does; its critic stays as it is.

    Raises:
        ConfigError: If the agent's own net has other layers.
    """
    policy: Any = agent.policy
    body = [policy.mlp_extractor.policy_net] if hasattr(policy, "mlp_extractor") else []
    own, lstm = _linear([*body, policy.action_net]), getattr(policy, "lstm_actor", None)
    shapes = [weight.shape for weight, _ in net.layers]
    if shapes != [tuple(layer.weight.shape) for layer in own]:
        raise ConfigError(
            f"the policy's layers are {_widths(shapes)}, those of the agent "
            f"{_widths([layer.weight.shape for layer in own])}",
            "give the env.observations, env.actions and agent.net_arch that it was learned with",
        )
    with torch.no_grad():
        for layer, (weight, bias) in zip(own, net.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        if net.memory is not None and lstm is not None:
            lstm.weight_ih_l0.copy_(torch.from_numpy(net.memory.seen))
            lstm.weight_hh_l0.copy_(torch.from_numpy(net.memory.kept))
            lstm.bias_ih_l0.copy_(torch.from_numpy(net.memory.bias))
            lstm.bias_hh_l0.zero_()
    if hasattr(agent, "weights"):
        # ARS's own copy of its policy.
        agent.weights = nn.utils.parameters_to_vector(policy.parameters()).detach()


def _widths(shapes: Sequence[Sequence[int]]) -> str:
    return " -> ".join(map(str, [shapes[0][1], *(shape[0] for shape in shapes)]))


def _linear(parts: Iterable[nn.Module]) -> list[nn.Linear]:
    return [m for part in parts for m in part.modules() if isinstance(m, nn.Linear)]


def _layers(parts: Iterable[nn.Module]) -> list[Layer]:
    return [(_array(layer.weight), _array(layer.bias)) for layer in _linear(parts)]


def _memory(lstm: Any) -> Memory:
    # torch adds both biases to the same gates.
    bias = _array(lstm.bias_ih_l0) + _array(lstm.bias_hh_l0)
    return Memory(_array(lstm.weight_ih_l0), _array(lstm.weight_hh_l0), bias)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().copy()
