"""A snapshot comes back equal to what was written, and nothing else is taken for one."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save

from automix.core.errors import DataError
from automix.core.snapshots import FORM, from_bytes, load_snapshot, save_snapshot, to_bytes
from tests.cases import each
from tests.same import assert_same

STATE = {
    "numbers": [1, 2.5, float("inf"), None, True, "ä"],
    "tuple": (0.9, (0.999,)),
    "optimizer": {0: {"step": torch.tensor(3.0)}, 1: {}},
    "half": torch.ones(2, 3, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 4),
    "known": np.array([True, False]),
    "generator": np.random.Generator(np.random.PCG64(3)).bit_generator.state,
    "shares": [view := torch.arange(6).reshape(2, 3), view.T],
}


def test_what_is_written_comes_back(tmp_path):
    save_snapshot(tmp_path / "s", STATE)
    assert_same(load_snapshot(tmp_path / "s"), STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_state_is_copied():
    tensor = torch.zeros(2)
    content = to_bytes({"x": tensor})
    tensor += 1
    assert from_bytes(content)["x"].tolist() == [0, 0]


@each("value", [object(), {1.5: 0}, {True: 0}, {"x": {1, 2}}, print])
def test_what_is_no_data_is_refused(value):
    with pytest.raises(TypeError, match="a snapshot cannot hold"):
        to_bytes(value)


def of_form(form) -> bytes:
    text = form if isinstance(form, str) else json.dumps(form)
    return save({FORM: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)})


@each(
    "content",
    [
        b"",
        b"{}",
        pickle.dumps({"x": 1}),
        to_bytes(STATE)[:-1],
        save({"x": torch.zeros(1)}),
        of_form("nonsense"),
        of_form({"tensor": "0", "device": None}),
        of_form({"dict": [["a"]]}),
        of_form({"dict": 3}),
        of_form("[" * 100_000),
    ],
)
def test_what_is_no_snapshot_is_named(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(DataError, match=r"/s is not a snapshot"):
        load_snapshot(tmp_path / "s")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="s does not exist"):
        load_snapshot(tmp_path / "s")
