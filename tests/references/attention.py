"""Transformers token by token: attention from its formula, and labels of all classes along it.

Written from the papers' equations with weights of timm's modules, without windows as batches,
rolls, fused kernels or hooks.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor


def heads_of(tokens: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Linear layer, cut into heads: (n, c) to (heads, n, d)."""
    projected = tokens @ weight.T + (0 if bias is None else bias)
    return projected.view(len(tokens), heads, -1).transpose(0, 1)


def softmax_of(queries: Tensor, keys: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attention (heads, q, k) of one image."""
    scores = torch.einsum("hqd,hkd->hqk", queries, keys) / queries.shape[-1] ** 0.5 + bias
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def vit_attention(attn: nn.Module, tokens: Tensor) -> Tensor:
    """(heads, n, n) of tokens (n, c) that the block's norm has seen."""
    c = tokens.shape[1]
    parts = [
        (attn.qkv.weight[i * c : (i + 1) * c], attn.qkv.bias[i * c : (i + 1) * c]) for i in (0, 1)
    ]
    queries, keys = (heads_of(tokens, *part, attn.num_heads) for part in parts)
    return softmax_of(queries, keys)


def vit_blocks(net: nn.Module, image: Tensor) -> list[Tensor]:
    """(heads, n, n) of each block, for one image (c, h, w)."""
    tokens, found = net._pos_embed(net.patch_embed(image[None])), []
    for block in net.blocks:
        found.append(vit_attention(block.attn, block.norm1(tokens)[0]))
        tokens = block(tokens)
    return found


def swin_attention(block: nn.Module, tokens: Tensor) -> Tensor:
    """(heads, n, n) between the tokens of a map (h, w, c) that the block's norm has seen.

    A token meets those whose shifted places are in one window and on one side of the border that
    the shift moved into it. Places beyond the map fill up windows with keys of zeros.
    """
    attn, (rows, columns, c) = block.attn, tokens.shape
    (wh, ww), (sh, sw) = block.window_size, block.shift_size
    high, wide = -(-rows // wh) * wh, -(-columns // ww) * ww
    places = [(y, x) for y in range(high) for x in range(wide)]
    content = torch.stack([
        tokens[(y + sh) % rows, (x + sw) % columns] if y < rows and x < columns else torch.zeros(c)
        for y, x in places
    ])  # fmt: skip
    parts = [
        (attn.qkv.weight[i * c : (i + 1) * c], attn.qkv.bias[i * c : (i + 1) * c]) for i in (0, 1)
    ]
    queries, keys = (heads_of(content, *part, attn.num_heads) for part in parts)
    bias = torch.full((attn.num_heads, len(places), len(places)), -float("inf"))
    for q, one in enumerate(places):
        for k, other in enumerate(places):
            if (one[0] // wh, one[1] // ww) != (other[0] // wh, other[1] // ww):
                continue
            dy, dx = one[0] - other[0] + wh - 1, one[1] - other[1] + ww - 1
            bias[:, q, k] = attn.relative_position_bias_table[dy * (2 * ww - 1) + dx]
            if _side(one, block, high, wide) != _side(other, block, high, wide):
                bias[:, q, k] -= 100
    found = softmax_of(queries, keys, bias)
    real = [i for i, (y, x) in enumerate(places) if y < rows and x < columns]
    home = [((y + sh) % rows) * columns + (x + sw) % columns for y, x in (places[i] for i in real)]
    unshifted = torch.zeros(attn.num_heads, rows * columns, rows * columns)
    for q, to_q in zip(real, home, strict=True):
        for k, to_k in zip(real, home, strict=True):
            unshifted[:, to_q, to_k] = found[:, q, k]
    return unshifted


def _side(place: tuple[int, int], block: nn.Module, high: int, wide: int) -> tuple[int, ...]:
    """On which side of the borders that shifting moved a place lies."""
    (sh, sw), (wh, ww) = block.shift_size, block.window_size
    if not (sh or sw):
        return (0, 0)
    ends = [(place[0], high, wh, sh), (place[1], wide, ww, sw)]
    return tuple((at >= size - window) + (at >= size - shift) for at, size, window, shift in ends)


def pvt_attention(attn: nn.Module, tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(heads, n, m) of tokens (n, c) that the block's norm has seen."""
    queries = heads_of(tokens, attn.q.weight, attn.q.bias, attn.num_heads)
    sources = tokens
    if attn.sr is not None:
        reduced = attn.sr(tokens.T.reshape(1, -1, *size))
        sources = attn.norm(reduced[0].flatten(1).T)
    c = tokens.shape[1]
    return softmax_of(
        queries, heads_of(sources, attn.kv.weight[:c], attn.kv.bias[:c], attn.num_heads)
    )


def averaged(labels: Tensor, size: int, stride: int, padding: int = 0) -> Tensor:
    """Mean of labels (h, w, k) over squares, of which what lies outside does not count."""
    rows, columns = labels.shape[:2]
    starts = [range(-padding, n + padding - size + 1, stride) for n in (rows, columns)]
    return torch.stack([
        torch.stack([
            labels[max(y, 0) : y + size, max(x, 0) : x + size].flatten(0, 1).mean(0)
            for x in starts[1]
        ])
        for y in starts[0]
    ])  # fmt: skip
