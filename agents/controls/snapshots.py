"""A snapshot of trainings in two files: JSON for its form and numbers, safetensors for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from automix.files import read_json, write_json
from automix.population import Snapshot

FORM, TENSORS = "snapshot.json", "snapshot.safetensors"


def save_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write both files into an existing folder."""
    tensors: dict[str, Tensor] = {}
    write_json(folder / FORM, _written(snapshot, tensors))
    save_file(tensors, folder / TENSORS)


def load_snapshot(folder: Path) -> Snapshot:
    """Read what ``save_snapshot`` wrote; tuples come back as lists."""
    snapshot: Snapshot = _read(read_json(folder / FORM), load_file(folder / TENSORS))
    return snapshot


def _written(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON can say it, with tensors and arrays moved aside."""
    if isinstance(value, dict):
        return {"dict": {key: _written(item, tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_written(item, tensors) for item in value]
    if isinstance(value, (Tensor, np.ndarray)):
        name = str(len(tensors))
        tensor = torch.as_tensor(value)
        tensors[name] = tensor.cpu().contiguous()
        device = str(tensor.device) if isinstance(value, Tensor) else None
        return {"tensor": name, "device": device}
    return value


def _read(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_read(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: _read(item, tensors) for key, item in value["dict"].items()}
    tensor, device = tensors[value["tensor"]], value["device"]
    return tensor.numpy() if device is None else tensor.to(device)
