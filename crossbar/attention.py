"""Multi-head attention on arrays: its projections run there; scores and sums over values, digitally.

Both factors of those products change with every input, which devices that are written once do not do.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .layers import ArrayLayer, Builder
from .mapping import TiledMatrix, Written


class ArrayMultiheadAttention(ArrayLayer):
    """`torch.nn.MultiheadAttention` on arrays."""

    o: TiledMatrix
    _qkv_same_embed_dim = False
    """Keeps torch's encoder layers from their fused digital path, which would bypass the arrays."""

    def __init__(self, layer: nn.MultiheadAttention, build: Builder) -> None:
        self._joint = layer._qkv_same_embed_dim
        super().__init__(layer, build)
        self.out_proj = layer.out_proj
        self.batch_first, self.num_heads = layer.batch_first, layer.num_heads

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The projections of queries, keys, values and outputs."""
        layer: Any = self.digital
        if self._joint:
            joint = layer.in_proj_weight
            found = {name: (part, joint) for name, part in zip("qkv", joint.chunk(3), strict=True)}
        else:
            found = {name: (getattr(layer, f"{name}_proj_weight"),) * 2 for name in "qkv"}
        return found | {"o": (layer.out_proj.weight,) * 2}

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention`."""
        layer: Any = self.digital
        single = query.dim() == 2
        if single:
            query, key, value = (a.unsqueeze(1) for a in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif self.batch_first:
            query, key, value = (a.transpose(0, 1) for a in (query, key, value))
        written = self.written()
        q, k, v = self._projected(query, key, value, written)
        b, heads = q.shape[1], layer.num_heads
        mask = _merged(attn_mask, key_padding_mask, b, heads, q.dtype)
        if layer.bias_k is not None:
            k, v = torch.cat([k, layer.bias_k.expand(1, b, -1)]), torch.cat([v, layer.bias_v.expand(1, b, -1)])
            mask = None if mask is None else nn.functional.pad(mask, (0, 1))
        if layer.add_zero_attn:
            k, v = (nn.functional.pad(a, (0, 0, 0, 0, 0, 1)) for a in (k, v))
            mask = None if mask is None else nn.functional.pad(mask, (0, 1))
        q, k, v = (a.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for a in (q, k, v))  # [b, heads, length, d]
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        share = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        kept = nn.functional.dropout(share, layer.dropout, self.training)
        out = self.o((kept @ v).permute(2, 0, 1, 3).flatten(-2), written["o"])
        out = out if layer.out_proj.bias is None else out + layer.out_proj.bias
        if single:
            out, share = out.squeeze(1), share.squeeze(0)
        elif self.batch_first:
            out = out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, share.mean(-3) if average_attn_weights else share

    def _projected(
        self, query: Tensor, key: Tensor, value: Tensor, written: dict[str, Written | None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        layer: Any = self.digital
        biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        parts = []
        for name, x, bias in zip("qkv", (query, key, value), biases, strict=True):
            out = getattr(self, name)(x, written[name])
            parts.append(out if bias is None else out + bias)
        return parts[0], parts[1], parts[2]


def _merged(attn_mask: Tensor | None, padding: Tensor | None, b: int, heads: int, dtype: torch.dtype) -> Tensor | None:
    """Both masks as numbers to add to the scores, [b or 1, heads or 1, queries or 1, keys]."""
    total: Tensor | None = None
    if attn_mask is not None:
        attn_mask = _additive(attn_mask, dtype)
        total = attn_mask.view(b, heads, *attn_mask.shape[1:]) if attn_mask.dim() == 3 else attn_mask[None, None]
    if padding is not None:
        padding = _additive(padding, dtype)[:, None, None]
        total = padding if total is None else total + padding
    return total


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)
