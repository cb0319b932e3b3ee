"""How many nets to put into one stack: as many as memory holds, and no more than pays."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from automix.data.memory import free_memory
from automix.training.batches.task_tensors import TaskTensors
from automix.training.settings import TrainerSettings

SHARE = 0.5
"""Of the free memory, what one stack may take."""

BESIDE_ACTIVATIONS = 4
"""Copies of the weights that a training holds: themselves, gradients, two of the optimizer."""

CACHE = 10 * 2**20
"""Bytes of activations that a stack on a CPU may have. Larger ones hold more and were not faster
(results/tried.md)."""


def largest_stack(
    net: nn.Module, data: TaskTensors, settings: TrainerSettings, device: torch.device
) -> int:
    """Return how many members of a form one stack may have, at least 1.

    On a CPU this is a property of net and batch, unless memory is short: results must not hang on
    what else the machine does, and the size of a stack can move last digits.
    """
    activations = settings.batch_size * activation_bytes(net, data.task.images.shape)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    # The forward pass keeps its activations, and the backward pass makes their slopes.
    each = (BESIDE_ACTIVATIONS + settings.model_ema) * weights + 2 * activations
    if device.type == "cuda":
        return max(1, int(SHARE * free_memory(device) / each))
    return max(1, int(min(SHARE * free_memory() / each, CACHE / activations)))


def activation_bytes(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the bytes of all layers' outputs for one image of a shape (c, h, w)."""
    total = 0

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    probe = copy.deepcopy(net).eval()
    for module in probe.modules():
        if not list(module.children()):
            module.register_forward_hook(add)
    with torch.no_grad():
        probe(torch.zeros(1, *shape))
    return total
