"""Where the tokens of a net lie, and how what they hold moves from block to block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from torch import Tensor

Query = Literal["class", "mean"]
"""Who looks: the tokens that the head reads (the class token, where there is one), or all places
of the image alike."""


class Layout(Protocol):
    """Where the tokens of a net lie. It is made anew for each look, and holds no tensors."""

    attentions: Sequence[Any]
    """timm's attention modules, in the order in which images pass them."""
    alike: int
    """Number of last blocks whose tokens lie as those of the last one."""

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of what the last block looks at, for images of a size."""
        ...

    def begun(self, weights: Tensor) -> Tensor:
        """Return the labels of the first tokens, from weights (b, 1, h, w) of the pixels."""
        ...

    def passed(self, block: int, labels: Tensor, attention: Tensor) -> Tensor:
        """Return labels behind a block, from those behind the block before.

        Args:
            block: From 0 on.
            labels: In a form of the layout's own.
            attention: (b', q, k): rows of queries, which sum to 1.
        """
        ...

    def read(self, labels: Tensor) -> Tensor:
        """Return labels behind the last block where the head reads them, (b,)."""
        ...

    def looked_at(
        self, block: int, attention: Tensor, query: Query, size: tuple[int, int], *, even: bool
    ) -> Tensor:
        """Return what the tokens of a query look at, added up, (b, h', w'), in any scale.

        Args:
            block: One of the last that are ``alike``, from -1 down.
            attention: (b', q, k), 0 or more.
            query: Who looks.
            size: Height and width of the images.
            even: Whether what a token gives to padding goes to the others that it looks at, so
                that all tokens that look count alike.
        """
        ...
