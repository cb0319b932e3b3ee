"""Nested state as one safetensors file, and back: no pickle, nothing but data.

Tensors and arrays are stored as they are. All else, numbers, text and the nesting itself, is JSON,
stored beside them as the tensor ``form`` of bytes. What comes back is equal to what was written,
types included.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from automix.core.errors import DataError
from automix.core.files import read_bytes, write_bytes

FORM = "form"


def to_bytes(state: Any) -> bytes:
    """Return a state as the content of a safetensors file.

    Args:
        state: Dicts (keys: text or whole numbers), lists, tuples, tensors, arrays, text, numbers,
            truth values and None, nested in any way.

    Raises:
        TypeError: If there is anything else in it.
    """
    tensors: dict[str, Tensor] = {}
    form = json.dumps(_written(state, tensors)).encode()
    tensors[FORM] = torch.frombuffer(bytearray(form), dtype=torch.uint8)
    return save(tensors)


def from_bytes(content: bytes, where: str = "the state") -> Any:
    """Return the state that ``to_bytes`` was given.

    Tensors come back on the device they were on, or on the CPU where there is no such device.

    Args:
        content: Of a file.
        where: What an error calls it.

    Raises:
        DataError: If it is no such content.
    """
    try:
        tensors = load(content)
        return _read(json.loads(bytes(tensors[FORM].numpy())), tensors)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as e:
        raise DataError(f"{where} is not a snapshot: {' '.join(str(e).split())}") from None


def save_snapshot(path: Path, state: Any) -> None:
    """Write a state into one file, which is whole or absent."""
    write_bytes(path, to_bytes(state))


def load_snapshot(path: Path) -> Any:
    """Read what ``save_snapshot`` wrote.

    Raises:
        DataError: If the file cannot be read or is not a snapshot.
    """
    return from_bytes(read_bytes(path, most=math.inf), str(path))


def _written(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON can say it, with tensors and arrays moved aside."""
    if isinstance(value, dict):
        # As pairs: JSON knows no numbers as keys, which optimizers have.
        return {"dict": [[_key(key), _written(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_written(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_written(item, tensors) for item in value]
    if isinstance(value, Tensor | np.ndarray):
        name = str(len(tensors))
        tensor = torch.as_tensor(value)
        # A copy, because safetensors refuses tensors that share memory.
        tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        device = str(tensor.device) if isinstance(value, Tensor) else None
        return {"tensor": name, "device": device}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a snapshot cannot hold a {type(value).__name__}")


def _key(key: Any) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    raise TypeError(f"a snapshot cannot hold the key {key!r}")


def _read(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_read(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: _read(item, tensors) for key, item in value["dict"]}
    if "tuple" in value:
        return tuple(_read(item, tensors) for item in value["tuple"])
    tensor, device = tensors[value["tensor"]], value["device"]
    if device is None:
        return tensor.numpy()
    return tensor.to(device if _there(device) else "cpu")


def _there(device: str) -> bool:
    return not device.startswith("cuda") or torch.cuda.is_available()
