"""Mixing under torch's modes: compiled, in autocast, in inference mode, it stays what it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def uncompiled(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that ``torch.compile`` calls as it is, whatever it makes of the caller.

    NumPy draws and decides here: traced, it would fail, or draw the same in every step.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        # Torch's own decorator would load its compiler (a second) where nothing is compiled.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def autocast_off(images: Tensor) -> AbstractContextManager[object] | None:
    """Return what leaves autocast, where it is on: a mix is arithmetic in the images' dtype."""
    kind = "cpu" if images.is_cpu else images.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else None


@contextmanager
def differentiable(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of which gradients can be taken, also in inference mode and without a graph."""
    inferred = torch.is_inference_mode_enabled() or any(one.is_inference() for one in tensors)
    with torch.inference_mode(False) if inferred else nullcontext(), torch.enable_grad():
        yield tuple(one.clone() for one in tensors) if inferred else tensors
