"""RL-Mix's policy net for stable-baselines3, with the same weights for every image of a batch.

The published net takes the batch for channels, and gives each place in it weights of its own,
although batches are shuffled. Here every image goes through the same layers, and sees the others as
their mean: the choice for an image moves with it to another place, and places without an image
choose nothing and count for nothing.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor
from torch.distributions import Categorical, Independent

from automix.envs.rlmix.training import GRID

CHANNELS, ANSWERS, FEATURES = 8, 32, 64
"""Widths: of the convolutions, of what is made of the logits, of what is known of an image."""
HIDDEN = 64
"""Of the two layers of actor and critic: stable-baselines3's default, as published."""
NEVER = -1e4
"""A score that has a probability of exactly 0."""


class ImageFeatures(BaseFeaturesExtractor):
    """The published extractor (convolutions 3x3 and 2x2; a layer for the logits), image by image.

    Logits are sorted, so that it does not matter which class is which.

    Args:
        observation_space: Of ``automix/RLMix-v0``.

    Its features are (n, B * (2 * FEATURES + 1)): of each place what is known of its image, the mean
    of the images that are there, and whether it has one.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        self.places, classes = places_and_classes(observation_space)
        super().__init__(observation_space, self.places * (2 * FEATURES + 1))
        self.maps = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.answers = nn.Sequential(nn.Linear(classes, ANSWERS), nn.ReLU())
        seen = CHANNELS * (GRID - 3) ** 2 + ANSWERS
        self.both = nn.Sequential(nn.Linear(seen, FEATURES), nn.ReLU())

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Map observations of n batches to features."""
        present = observations["present"]
        n = len(present) * self.places
        # Maps sum to 1: scaled to a mean of 1 and to about the same size as the logits.
        maps = self.maps(GRID * GRID * observations["saliency"].view(n, 1, GRID, GRID))
        logits = observations["logits"].view(n, -1).sort(descending=True).values
        own = self.both(torch.cat([maps, self.answers(logits)], 1)).view(*present.shape, -1)
        there = present[..., None]
        mean = (own * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([own, mean.expand_as(own), there], 2).flatten(1)


class ImageHeads(nn.Module):
    """Actor and critic above the features: the one for each image, the other for their mean.

    Args:
        places: B.
    """

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places
        self.latent_dim_pi, self.latent_dim_vf = places * (HIDDEN + 1), HIDDEN
        self.actor, self.critic = _two_layers(2 * FEATURES), _two_layers(FEATURES)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (n, ...) to what actions and what values are read from."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Return (n, B * (HIDDEN + 1)): hidden values, and whether there is an image."""
        known, there = features.unflatten(1, (self.places, -1)).split([2 * FEATURES, 1], 2)
        return torch.cat([self.actor(known), there], 2).flatten(1)

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return (n, HIDDEN)."""
        return self.critic(features[:, FEATURES : 2 * FEATURES])  # every place has the mean


def _two_layers(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())


class ImageScores(nn.Module):
    """Scores of the choices for each image, (n, B, choices); the first one where there is none."""

    def __init__(self, places: int, choices: int) -> None:
        super().__init__()
        self.places, self.layer = places, nn.Linear(HIDDEN, choices)
        first = torch.full((choices,), NEVER)
        first[0] = 0.0
        self.register_buffer("nobody", first)

    def forward(self, latent: Tensor) -> Tensor:
        """Map what the actor gives."""
        hidden, there = latent.unflatten(1, (self.places, -1)).split([HIDDEN, 1], 2)
        return torch.where(there > 0, self.layer(hidden), self.get_buffer("nobody"))


class ImageChoices(CategoricalDistribution):
    """One choice for each image, independent of the others given the batch.

    In one tensor: stable-baselines3's own distribution for ``MultiDiscrete`` takes a call for each
    image.

    Args:
        places: B.
        choices: Of each.
    """

    distribution: Independent  # type: ignore[assignment]

    def __init__(self, places: int, choices: int) -> None:
        super().__init__(choices)
        self.places = places

    def proba_distribution_net(self, latent_dim: int) -> nn.Module:
        """Return the layer that the scores come from."""
        return ImageScores(self.places, self.action_dim)

    def proba_distribution(self, action_logits: Tensor) -> ImageChoices:
        """Take over scores (n, B, choices)."""
        self.distribution = Independent(Categorical(logits=action_logits), 1)
        return self

    def mode(self) -> Tensor:
        """Return the likeliest choices, (n, B)."""
        return self.distribution.base_dist.logits.argmax(2)


class ImagePolicy(MultiInputActorCriticPolicy):
    """Actor and critic for ``automix/RLMix-v0``, on top of ``ImageFeatures``."""

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.action_space, spaces.MultiDiscrete)
        choices = self.action_space.nvec
        self.mlp_extractor = ImageHeads(len(choices))  # type: ignore[assignment]
        self.action_dist = ImageChoices(len(choices), int(choices[0]))


def places_and_classes(space: spaces.Dict) -> tuple[int, int]:
    """Return B and K of an observation space."""
    sizes = {name: int(np.prod(part.shape or ())) for name, part in space.spaces.items()}
    return sizes["present"], sizes["logits"] // sizes["present"]
