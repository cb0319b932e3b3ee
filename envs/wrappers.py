"""Other action spaces for an environment that is already made: one list of choices, or numbers.

They are for agents that cannot take ``MultiDiscrete``: DQN wants one list, SAC wants numbers. Who
makes the environment can ask for the same with ``ActionSettings(space=...)``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from automix.envs.codec import ActionCodec, Space, checked
from automix.mixing.actions import nearest_action
from automix.mixing.boxed import parts_of


class _OtherActions(gymnasium.ActionWrapper[np.ndarray, np.ndarray, np.ndarray]):
    """Reads actions of one space and hands the same mix to an environment of another."""

    def __init__(self, env: gymnasium.Env[np.ndarray, np.ndarray], space: Space) -> None:
        super().__init__(env)
        self._inner: ActionCodec = env.get_wrapper_attr("codec")
        self.codec = ActionCodec(replace(self._inner.settings, space=space))
        self.action_space = self.codec.space  # type: ignore[assignment]

    def action(self, action: np.ndarray) -> np.ndarray:
        """Return the action of the wrapped environment that plays the same mix."""
        return self._inner.encode(self.codec.decode(action))

    def action_masks(self) -> np.ndarray:
        """Return which actions are offered, for maskable agents."""
        return self.codec.masks()


class FlatActions(_OtherActions):
    """``Discrete``: one list of all mixes that differ; for DQN and QR-DQN, fine for others.

    Args:
        env: A ``MixEnv``.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env, "flat")


class BoxActions(_OtherActions):
    """``Box``: method logits, a ratio, saliency logits, each in [-1, 1]; for SAC, TD3 and TQC.

    The environment plays the closest of the ratios that it offers, so the lowest number of the
    ratio is 0 only where it offers 0. ``ActionSettings(space="box")`` plays ratios between them.

    Args:
        env: A ``MixEnv``.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env, "box")

    def action(self, action: np.ndarray) -> np.ndarray:
        """Return the action of the wrapped environment that plays the closest mix."""
        offered = self._inner.settings
        vocabulary = offered.methods, offered.ratios, offered.saliency
        method, wanted, saliency = parts_of(checked(action, self.action_space), *vocabulary)
        ratio = min(offered.ratios, key=lambda one: abs(one - wanted))
        return self._inner.encode(nearest_action(method, ratio, saliency))
