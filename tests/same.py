"""One comparison of nested states, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def assert_same(got: Any, wanted: Any, where: str = "state") -> None:
    """Equal to the last bit, types and the order of keys included; a failure says where."""
    assert type(got) is type(wanted), f"{where}: {type(got).__name__}, {type(wanted).__name__}"
    if isinstance(wanted, dict):
        assert list(got) == list(wanted), where
        for key, value in wanted.items():
            assert_same(got[key], value, f"{where}: {key}")
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted), where
        for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
            assert_same(one, other, f"{where}: {number}")
    elif isinstance(wanted, torch.Tensor | np.ndarray):
        assert got.dtype == wanted.dtype, where
        same = torch.equal if isinstance(wanted, torch.Tensor) else np.array_equal
        assert same(got, wanted), where
    else:
        assert got == wanted, where
