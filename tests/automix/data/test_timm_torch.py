"""torchvision's sets under timm's names, read by torchvision from files of its own formats."""

from __future__ import annotations

import hashlib
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision.datasets import CIFAR10, SVHN

from automix.data import DataSource, load, timm_torch
from automix.data.image_set import OnDisk
from automix.errors import ConfigError, ResourceError
from tests.automix.data.checks import picture, pixels_of, refused, save_picture

TRAIN = np.stack([picture(seed, (28, 28)) for seed in range(4)])
TEST = np.stack([picture(seed, (28, 28)) for seed in (10, 11)])


def read(name, root, **settings):
    return load(DataSource(dataset=f"torch/{name}", root=str(root), **settings))


def write_idx(path, array):
    """Write the format of MNIST and its kin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path):
    """A FashionMNIST of four training and two test images."""
    raw = tmp_path / "FashionMNIST" / "raw"
    write_idx(raw / "train-images-idx3-ubyte", TRAIN)
    write_idx(raw / "train-labels-idx1-ubyte", np.array([9, 0, 3, 0]))
    write_idx(raw / "t10k-images-idx3-ubyte", TEST)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array([3, 9]))
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*non-writable:UserWarning")
class TestFashion:
    def test_training_and_test_file_become_pool_and_test_part(self, fashion, monkeypatch):
        monkeypatch.setattr("automix.data.pictures._check_classes", lambda *_: None)
        images = read("fashion_mnist", fashion)
        assert images.name == "torch/fashion_mnist"
        assert images.shape == (1, 28, 28)
        assert images.labels.tolist() == [9, 0, 3, 0, 3, 9]
        assert images.test.tolist() == [4, 5]
        assert images.class_names[9] == "Ankle boot"
        expected = np.concatenate([TRAIN, TEST])[..., None]
        np.testing.assert_allclose(pixels_of(images), expected, atol=1e-4)
