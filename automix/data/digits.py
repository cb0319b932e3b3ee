"""scikit-learn's digits: 1 797 real 8x8 images of ten classes, embedded in its wheel."""

from __future__ import annotations

import numpy as np
import torch

from automix.core.extras import require
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.image_set import ImageSet, InMemory


@DATASETS.register("digits", DatasetInfo(embedded=True))
def digits(source: DataSource) -> ImageSet:
    """Hand-written digits, 8x8 grey, no download (Alpaydin and Kaynak 1998, UCI)."""
    require("sklearn")
    from sklearn.datasets import load_digits  # late: half a second that other sets need not pay

    bunch = load_digits()
    images = torch.from_numpy((bunch.images / 16.0).astype(np.float32))[:, None]
    return ImageSet(
        name="digits",
        pixels=InMemory(images),
        labels=bunch.target.astype(np.int64),
        class_names=tuple(str(name) for name in bunch.target_names),
        shape=(1, 8, 8),
    )
