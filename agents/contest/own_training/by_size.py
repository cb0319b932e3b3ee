"""Big Transfer's rule: mix where there are images enough.

Kolesnikov et al. 2020, arXiv:1912.11370, section 3.3 (BiT-HyperRule).
"""

from __future__ import annotations

from collections.abc import Sequence

from automix.agents.contest.own_training import SETTLING, Settled, SettlingInfo
from automix.data.tasks import TaskSpec
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import PLAIN, MixAction

MEDIUM = 200
"""Training images. The rule's own line is at 20,000, in sets of 1,000 to 1.3 million images: 42 %
of the way on a logarithmic scale. The embedded suite has sets of 50 to 1,600, where the same share
of the way comes to 200."""


@SETTLING.register("by_size", SettlingInfo())
def by_size(world: ImageWorld, spec: TaskSpec, seed: int, actions: Sequence[MixAction]) -> Settled:
    """No mixing below 200 training images, from there on the weakest mixup on offer.

    The rule's mixup draws shares from Beta(0.1, 0.1), which mixes little.
    """
    mixups = [action for action in actions if action.method == "mixup" and action.mixes]
    small = world.train_size(spec) < MEDIUM or not mixups
    return Settled(action=PLAIN if small else min(mixups, key=lambda mixup: mixup.ratio))
