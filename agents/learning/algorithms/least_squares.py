"""Least squares: what each choice is worth, linear in what is seen, fitted to whole episodes.

By the performance difference lemma (Kakade and Langford 2002, lemma 6.1) an episode earns what
the first choice at every step would, plus the sum of what its own choices are worth in the states
in which they were made. Here that worth is linear in the observation, and one regression on all
episodes so far gives it: Monte Carlo control with least squares (Sutton and Barto 2018, sections
9.8 and 10.1). As in Lagoudakis and Parr 2003 (Journal of Machine Learning Research 4) no episode is
thrown away and no step size is chosen. Members of a group share task, weights and batches, so that
both sides of the regression are centred in the group: what makes one task harder than another
drops out. It explores by drawing choices from the softmax of what they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo, AgentSettings
from automix.agents.learning.policy_nets import linear
from automix.agents.learning.sb3 import DEVICE
from automix.core.settings import setting

ALIKE = 2.0
"""Prior variance of what all choices but the first have in common, over that of each by itself."""


class LinearWorth(ActorCriticPolicy):
    """One affine layer from observations to choices, and the sums that it is fitted to.

    The sums are buffers, so that they are saved and resumed with the weights.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, net_arch=[])
        assert isinstance(self.action_space, spaces.Discrete)
        seen = int(np.prod(self.observation_space.shape or ())) + 1
        size = (int(self.action_space.n) - 1) * seen
        nn.init.zeros_(self.action_net.weight)
        for name, shape in {
            "products": (size, size),  # of what choices met, summed over episodes
            "earned": (size,),  # the same times what the episode earned
            "states": (seen, seen),  # products of observations, summed over steps
            "prior": (size,),  # what the weights are pulled to: those that learning began with
            "episodes": (),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))


class LeastSquares(OnPolicyAlgorithm):
    """Monte Carlo control with linear worths.

    Args:
        env: The environments, group by group.
        settings: Of the agent.
        budget: Actions of an episode.
        seed: Of what is drawn.
    """

    def __init__(
        self, env: VecEnv, settings: LeastSquaresSettings, budget: int, seed: int
    ) -> None:
        self.ridge, self.temperature = settings.ridge, settings.temperature
        self.group_size = settings.group_size
        super().__init__(
            LinearWorth,
            env,
            learning_rate=0.0,
            n_steps=budget,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=0.0,
            max_grad_norm=1.0,
            use_sde=False,
            sde_sample_freq=-1,
            seed=seed,
            device=DEVICE,
            supported_action_spaces=(spaces.Discrete,),
        )

    def train(self) -> None:
        """Add the last round to the sums and fit the weights to them anew."""
        policy: Any = self.policy
        if not policy.episodes:
            policy.prior.copy_(self._weights().ravel())
        met, states, earned = self._round()
        policy.products += met.T @ met
        policy.earned += met.T @ earned
        policy.states += states.T @ states
        policy.episodes += len(earned)
        weights = self._fitted()
        with torch.no_grad():
            logits = weights / self.temperature
            policy.action_net.weight[1:] = logits[:, 1:].float()
            policy.action_net.bias[1:] = logits[:, 0].float()
        missed = earned - met @ weights.ravel()
        share = 1 - float((missed**2).mean() / (earned**2).mean().clamp(min=1e-12))
        self._n_updates += 1
        self.logger.record("train/explained_variance", share)

    def _weights(self) -> torch.Tensor:
        """Return the weights of all choices but the first, (choices - 1, 1 + d), as worths."""
        net: Any = self.policy.action_net
        both = torch.cat([net.bias[:, None], net.weight], 1).detach().double()
        # Only differences matter: the first choice is worth 0.
        return (both[1:] - both[:1]) * self.temperature

    def _round(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what each episode's choices met, all states, and what each episode earned."""
        buffer: Any = self.rollout_buffer
        steps, members = buffer.rewards.shape
        seen = torch.as_tensor(buffer.observations.reshape(steps, members, -1)).double()
        seen = torch.cat([torch.ones(steps, members, 1, dtype=torch.float64), seen], 2)
        chosen = torch.as_tensor(buffer.actions.reshape(steps, members)).long()
        choices = self.policy.action_net.out_features  # type: ignore[union-attr]
        which = nn.functional.one_hot(chosen, int(choices)).double()[..., 1:]
        met = torch.einsum("tma,tms->mas", which, seen).flatten(1)
        earned = torch.as_tensor(buffer.rewards.sum(0)).double()
        return self._centred(met), seen.flatten(0, 1), self._centred(earned)

    def _centred(self, values: torch.Tensor) -> torch.Tensor:
        groups = values.unflatten(0, (-1, self.group_size))
        return (groups - groups.mean(1, keepdim=True)).flatten(0, 1)

    def _fitted(self) -> torch.Tensor:
        """Return the weights of a ridge regression, (choices - 1, 1 + d).

        Observations are centred and scaled to a deviation of 1 in it, so that the penalty means the
        same for each of them.
        """
        policy: Any = self.policy
        moments = policy.states / policy.states[0, 0]
        mean = moments[0, 1:]
        spread = (moments.diagonal()[1:] - mean**2).clamp(min=1e-8).sqrt()
        scale = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), torch.diag(1 / spread))
        scale[1:, 0] = -mean / spread  # (1, x) -> (1, (x - mean) / spread)
        choices = policy.prior.numel() // len(scale)
        alone = torch.eye(choices, dtype=torch.float64)
        wide = torch.kron(alone, scale)
        back = torch.kron(alone, torch.linalg.inv(scale).contiguous())
        pull = self.ridge * torch.kron(
            torch.linalg.inv(alone + ALIKE).contiguous(), torch.eye(len(scale), dtype=torch.float64)
        )
        left = wide @ policy.products @ wide.T + pull
        right = wide @ policy.earned + pull @ (back.T @ policy.prior)
        return (wide.T @ torch.linalg.solve(left, right)).unflatten(0, (choices, -1))


@dataclass(frozen=True, kw_only=True)
class LeastSquaresSettings(AgentSettings):
    """Settings of least squares; ``learning_rate`` plays no part, as every fit is exact."""

    name: str = setting("least_squares", affects="shape")
    ridge: float = setting(30.0, above=0)
    """Penalty on squared weights, for observations with a deviation of 1: so many episodes' worth
    of belief in what learning began with."""
    temperature: float = setting(0.15, above=0)
    """Choices are drawn in proportion to exp(worth / temperature), in units of the reward: with
    ``env.reward.scale=10`` 0.15 is 1.5 points of accuracy."""


@AGENTS.register(
    "least_squares", AgentInfo(settings=LeastSquaresSettings, spaces=("flat",), net=linear)
)
def least_squares(
    settings: LeastSquaresSettings, env: VecEnv, budget: int, seed: int
) -> LeastSquares:
    """Monte Carlo control with linear worths; a fit to all episodes so far after every round."""
    return LeastSquares(env, settings, budget, seed)
