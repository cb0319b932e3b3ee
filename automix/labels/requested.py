"""Requested: the label follows the draw, even where the mask could not."""

from __future__ import annotations

import numpy as np

from automix.labels import LABEL_RULES, MixRecord


@LABEL_RULES.register("requested")
def requested(record: MixRecord) -> np.ndarray:
    """Weigh the own label by the drawn share, not corrected for clipped boxes.

    The CutMix paper's first form; users report that it can do better than the corrected label
    (pytorch-image-models issue 8).
    """
    return 1 - record.share
