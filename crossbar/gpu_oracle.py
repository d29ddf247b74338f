"""The fused product of `gpu_product` in torch: the kernel's oracle, and what its gradients follow."""

from __future__ import annotations

import torch
from torch import Tensor

from .devices import through

LINEAR, POLYNOMIAL, TABLE, SIGNS = range(4)
ROTATIONS, KEYS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
"""Constants of Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011, DOI 10.1145/2063384.2063405)."""


def in_torch(
    x: Tensor,
    per_unit: Tensor,
    offsets: Tensor,
    corners: Tensor,
    weights: Tensor,
    step: Tensor,
    zero: Tensor,
    limit: Tensor,
    spread: Tensor,
    shot: Tensor,
    noise: Tensor,
    nodes: Tensor,
    bins: Tensor,
    coefficients: Tensor,
    factor: Tensor,
    base: Tensor,
    sizes: list[int],
    choices: list[int],
    numbers: list[float],
    *,
    ideal: bool = False,
) -> Tensor:
    """The same as `tiled_gpu` in torch: its oracle, and, with an `ideal` ADC and no noise, what gradients follow."""
    _, rows, idle, _, matrix_stride = sizes
    kind, dac, clamp, codes, analog, _, noisy, shifted, _ = choices
    matrices, channels, row_tiles, _, _, columns = weights.shape
    images, positions = len(x), len(corners)
    at = torch.arange(matrices, device=x.device).view(-1, 1, 1) * matrix_stride + corners.view(-1, 1) + offsets
    u = x.flatten(1)[:, at] * per_unit.view(-1, 1, 1, 1)  # [images, M, positions, n_in]
    u = u.clamp(-1, 1) if clamp else u
    u = through((u.detach() * dac).round() / dac, u) if dac else u
    u = torch.nn.functional.pad(u, (idle, 0)).unflatten(-1, (row_tiles, rows))
    functions = _functions(u, kind, nodes, coefficients)  # [..., R, F, rows]
    i = torch.einsum("bmprfk,mcrfkn->bmpcrn", functions, weights)
    if noisy and not ideal:
        v = u * numbers[1]
        hot = torch.where(v != 0, numbers[0], 0.0) + v.abs()
        variance = torch.einsum("bmprk,mcrkn->bmpcrn", v * v, spread) + torch.einsum("bmprk,mcrkn->bmpcrn", hot, shot)
        vector = torch.arange(images * positions, device=x.device).view(images, 1, positions, 1, 1, 1)
        column = torch.arange(channels * columns, device=x.device).view(1, 1, 1, channels, 1, columns)
        stage = torch.arange(matrices * row_tiles, device=x.device).view(1, matrices, 1, 1, row_tiles, 1)
        i = i + variance.sqrt() * normal(noise, stage, vector * (channels * columns) + column)
    if analog:
        i = i.sum(-2, keepdim=True)
    lines = (1, matrices, 1, channels, -1, columns)
    i = i + zero.view(lines)
    i = i.clamp(-limit.view(lines), limit.view(lines))
    i = i.round().clamp(-codes, codes) if codes and not ideal else i
    out = (i * step.view(lines)).sum((3, 4))  # [images, M, positions, n_out]
    if shifted:
        out = out - base * u.sum((-1, -2)).unsqueeze(-1)
    return (out * factor.view(-1, 1, 1, 1)).mT


def _functions(u: Tensor, kind: int, nodes: Tensor, coefficients: Tensor) -> Tensor:
    """Functions of the inputs [..., rows] as [..., F, rows]."""
    if kind == SIGNS:
        return torch.stack([u.clamp(min=0), u.clamp(max=0)], dim=-2)
    if kind == POLYNOMIAL:
        rows = []
        for row in coefficients.unbind():
            value = row[-1] * u
            for c in row[1:-1].flip(0).unbind():
                value = (value + c) * u
            rows.append(value)
        return torch.stack(rows, dim=-2)
    if kind == TABLE:
        inside = u.clamp(nodes[0], nodes[-1])
        low = (torch.searchsorted(nodes, inside.detach().contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
        t = ((inside - nodes[low]) / (nodes[low + 1] - nodes[low])).unsqueeze(-1)
        c = coefficients[low]  # [..., rows, F, 4]
        return (c[..., 0] + t * (c[..., 1] + t * (c[..., 2] + t * c[..., 3]))).mT
    return u.unsqueeze(-2)


def normal(noise: Tensor, stage: Tensor, element: Tensor) -> Tensor:
    """Standard normal float32 numbers of Philox 4x32-10 and Box and Muller's transform, as the kernel's.

    Args:
        noise: Seed and number of the read, [2] int64.
        stage: Which of several draws; broadcasts with `element`.
        element: Which number of the draw.
    """
    low = 0xFFFFFFFF
    stage, element = torch.broadcast_tensors(stage, element)
    read = noise[1].expand(element.shape)
    a, b, c, d = (n & low for n in (element, stage, read, torch.zeros_like(read)))
    keys = [noise[0] & low, (noise[0] >> 32) & low]
    for _ in range(10):
        (high_a, low_a), (high_c, low_c) = _wide(a, ROTATIONS[0]), _wide(c, ROTATIONS[1])
        a, b, c, d = high_c ^ b ^ keys[0], low_c, high_a ^ d ^ keys[1], low_a
        keys = [(key + step) & low for key, step in zip(keys, KEYS, strict=True)]
    size, angle = ((n >> 8).to(torch.float32) for n in (a, b))
    return torch.sqrt(-2 * torch.log((size + 1) * 0.5**24)) * torch.cos(angle * (0.5**24 * 2 * torch.pi))


def _wide(a: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of the product of 32-bit numbers, held in int64."""
    upper, lower = a >> 16, a & 0xFFFF
    top, bottom = upper * factor, lower * factor  # 48 bits each
    total = bottom + ((top & 0xFFFF) << 16)
    return (top >> 16) + (total >> 32), total & 0xFFFFFFFF
