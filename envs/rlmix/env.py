"""``automix/RLMix-v0``: an episode is one epoch of a training, a step is one mini-batch.

Paper: Luong et al. 2023, arXiv:2212.04875, RL-Mix. What is as published and what was repaired:
docs/rlmix.md.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from torch import Tensor

from automix.core.errors import ConfigError
from automix.envs.codec import checked
from automix.envs.groups import after_the_end
from automix.envs.mix_env import draw_start, image_world
from automix.envs.rlmix.training import GRID, RATIO, BatchSaliency, BatchTraining
from automix.envs.worlds import ImageWorld
from automix.mixes.rmix import PERCENTILES
from automix.mixing.actions import MixAction
from automix.saliency import normalised
from automix.training.metrics import LOSS_CAP

Observation = dict[str, np.ndarray]


class RLMixEnv(gymnasium.Env[Observation, np.ndarray]):
    """Choose, batch by batch, how much of each image's salient part is kept.

    ## Action space
    ``MultiDiscrete([10] * B)``: for each image of the batch, which percentile of its own saliency
    is the threshold of its R-Mix mask (0, 0.11 ... 0.99). B is ``trainer.batch_size``; places
    beyond the end of a smaller batch are ignored.

    ## Observation space
    A ``Dict`` of flat float32 boxes about the next batch, unmixed, in the order of its images:
    ``saliency`` (B * 8 * 8), gradient maps that sum to 1; ``logits`` (B * K), log-probabilities of
    the classes from -20 to 0; ``present`` (B), 1 where there is an image. All else is 0 where there
    is none, and after the last batch of an epoch.

    ## Rewards
    Cosine similarity, in [0, 1], of the gradient maps of the clean and the mixed batch at the same
    weights. 0 if one has no gradient or is not finite.

    ## Starting state
    ``reset()`` after the end of an episode goes on with the next epoch of the same classifier.
    With a seed or options, before the first episode, amid one and after the last epoch it draws
    a task and fresh weights. ``options={"task": TaskSpec, "seed": int}`` gives both instead.

    ## Episode end
    *Terminated* after the last batch of an epoch. ``info["metrics"]`` holds the epoch's record,
    ``info["finished"]`` says whether the training is over, ``info["diverged"]`` whether it failed:
    it goes on then, without reward.

    Args:
        world: Where tasks and training runs come from; the digits family if not given.

    Raises:
        ConfigError: If the trainer's label rule needs what its net has not.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's form)

    def __init__(self, world: ImageWorld | None = None) -> None:
        self._world = world or image_world()
        self._world.check([MixAction("rmix", RATIO, "gradient")])
        places, classes = self._world.trainer.batch_size, self._world.num_classes
        self.action_space = spaces.MultiDiscrete([len(PERCENTILES)] * places)
        self._parts = {
            "saliency": _box(0.0, 1.0, places * GRID * GRID),
            "logits": _box(-LOSS_CAP, 0.0, places * classes),
            "present": _box(0.0, 1.0, places),
        }
        self.observation_space = spaces.Dict({**self._parts})  # type: ignore[assignment]
        self.training: BatchTraining | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an epoch, of the same training or of a fresh one; show its first batch."""
        super().reset(seed=seed)
        training = self.training
        goes_on = training is not None and training.epoch_over and not training.finished
        if training is None or seed is not None or options or not goes_on:
            training = self.training = self._start(options or {})
        training.begin_epoch()
        return self._observed(training.look()), {"task": asdict(self._spec)}

    def _start(self, options: dict[str, Any]) -> BatchTraining:
        drawn = draw_start(self._world, self.np_random)
        self._spec, own_seed = options.get("task", drawn[0]), options.get("seed", drawn[1])
        return BatchTraining(self._world.start([self._spec]), own_seed, self._world.device)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Mix the batch that was shown, train on it, and show the next."""
        training = self.training
        if training is None:
            raise ConfigError("step was called before reset", "call env.reset() first")
        if training.epoch_over:
            raise after_the_end()
        reward = training.step(checked(action, self.action_space)[: self._count])
        record, ended = training.history[-1], training.epoch_over
        info: dict[str, Any] = {"diverged": record.diverged, "finished": training.finished}
        if ended:
            info["metrics"] = dict(vars(record))
        return self._observed(None if ended else training.look()), reward, ended, False, info

    def _observed(self, look: BatchSaliency | None) -> Observation:
        """Lay what is known of a batch into places; None leaves them empty."""
        self._count = 0 if look is None else len(look.logits)
        seen = {name: np.zeros(part.shape, np.float32) for name, part in self._parts.items()}
        if look is not None:
            sure = look.logits.log_softmax(1).nan_to_num(-LOSS_CAP).clamp(-LOSS_CAP, 0.0)
            _put(seen["saliency"], normalised(look.cells))
            _put(seen["logits"], sure)
            seen["present"][: self._count] = 1.0
        return seen


def _box(low: float, high: float, size: int) -> spaces.Box:
    # Flat: what has three dimensions, stable-baselines3 takes for an image of bytes.
    return spaces.Box(low, high, (size,), np.float32)


def _put(row: np.ndarray, values: Tensor) -> None:
    """Write values to the start of a row."""
    row[: values.numel()] = values.flatten().cpu().numpy()
