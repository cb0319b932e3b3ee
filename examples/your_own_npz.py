"""Write images and labels as an npz file: python examples/your_own_npz.py [file.npz]."""

import sys

import numpy as np
from sklearn.datasets import load_digits

from automix.data import DataSource, load

path = sys.argv[1] if len(sys.argv) > 1 else "my_digits.npz"
digits = load_digits()
np.savez_compressed(
    path,
    images=(digits.images * 15.9).astype(np.uint8),  # (n, h, w), 0 to 255
    labels=digits.target,  # (n,) ints
    class_names=np.array([f"a {name}" for name in digits.target_names]),
)
found = load(DataSource(dataset="npz", root=path))
print(f"{path}: {len(found.labels)} images of shape {found.shape}, classes {found.class_names}")
print(f"python run.py train task=npz task.root={path}")
