"""A net in stages: what it makes of images up to a stage, and what it makes of that."""

from __future__ import annotations

import torch.nn as nn


def has_stages(net: nn.Module) -> bool:
    """Return whether a net can be cut into stages."""
    return False
