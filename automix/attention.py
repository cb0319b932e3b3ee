"""What a transformer's attention says of the images: maps of it, and labels carried along it."""

from __future__ import annotations

import torch.nn as nn


def has_attention(net: nn.Module) -> bool:
    """Return whether a net's attention can be looked at."""
    return False
