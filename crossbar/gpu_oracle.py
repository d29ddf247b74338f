"""The fused product of `gpu_product` in torch: the kernel's oracle, and what its gradients follow."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .config import ADC, DAC
from .converters import convert_current, reads

LINEAR, POLYNOMIAL, TABLE, SIGNS = range(4)
ROTATIONS, KEYS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
"""Constants of Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011, DOI 10.1145/2063384.2063405)."""


def in_torch(
    x: Tensor,
    peak: Tensor,
    offsets: Tensor,
    corners: Tensor,
    weights: Tensor,
    halves: Tensor,
    back: Tensor,
    step: Tensor,
    zero: Tensor,
    limit: Tensor,
    spread: Tensor,
    shot: Tensor,
    variances: Tensor,
    loud: Tensor,
    noise: Tensor,
    nodes: Tensor,
    bins: Tensor,
    coefficients: Tensor,
    sizes: Tensor,
    digits: Tensor,
    unit: Tensor,
    base: Tensor,
    counts: list[int],
    choices: list[int],
    numbers: list[float],
    *,
    ideal: bool = False,
) -> Tensor:
    """The same as `tiled_gpu` in torch: its oracle, and, with an `ideal` ADC and no noise, what gradients follow."""
    _, rows, idle, _, matrix_stride = counts
    kind, dac, digit, _, clamp, _, _, adc, codes, analog, sensed, noisy, shifted, _ = choices
    matrices, channels, row_tiles, _, _, columns = weights.shape
    images, positions = len(x), len(corners)
    peak = torch.where(peak >= torch.finfo(peak.dtype).tiny, peak, 1.0)  # smaller ones have no reciprocal
    at = torch.arange(matrices, device=x.device).view(-1, 1, 1) * matrix_stride + corners.view(-1, 1) + offsets
    u = x.flatten(1)[:, at] * peak.reciprocal().view(-1, 1, 1, 1)  # [images, M, positions, n_in]
    u = u.clamp(-1, 1) if clamp else u
    lines = (1, matrices, 1, channels, -1, columns)
    total: Tensor = torch.zeros((), dtype=x.dtype, device=x.device)
    encoding: Literal["amplitude", "bit-serial"] = "bit-serial" if digit else "amplitude"
    bits = dac.bit_length() + 1 if dac else None
    parts = list(reads(u, DAC(bits=bits, encoding=encoding, slice_bits=digit or 1)))
    # where nothing happens to the currents of a tile, they need not be kept apart
    whole = (weights * step[..., None, None, :]).sum(1) if ideal and not sensed else None
    for plane, (weight, part) in enumerate(parts):
        one = torch.nn.functional.pad(part, (idle, 0)).unflatten(-1, (row_tiles, rows))
        answers = functions(one, kind, nodes, coefficients)
        if whole is not None:
            total = total + weight * torch.einsum("bmprfk,mrfkn->bmpn", answers, whole)
            continue
        i = torch.einsum("bmprfk,mcrfkn->bmpcrn", answers, weights)
        if analog:
            i = i.sum(-2, keepdim=True)
        if noisy and not ideal:
            v = one * numbers[1]
            hot = torch.where(v != 0, numbers[0], 0.0) + v.abs()
            each = [torch.einsum("bmprk,mcrkn->bmpcrn", a, b) for a, b in ((v * v, spread), (hot, shot))]
            variance = each[0] + each[1]
            variance = variance.sum(-2, keepdim=True) if analog else variance
            vector = torch.arange(images * positions, device=x.device).view(images, 1, positions, 1, 1, 1)
            tile = torch.arange(matrices * variance.shape[-2], device=x.device).view(1, matrices, 1, 1, -1, 1)
            channel = torch.arange(channels, device=x.device).view(-1, 1, 1)
            stage = (tile * channels + channel) * len(parts) + plane
            i = i + variance.sqrt() * normal(noise, stage, vector, torch.arange(columns, device=x.device))
        i = i + zero.view(lines)
        i = i.clamp(-limit.view(lines), limit.view(lines))
        if adc and not ideal:
            law: Literal["linear", "log"] = "linear" if adc == 1 else "log"
            full = i.new_tensor(float(codes) if adc == 1 else 1.0)
            i = convert_current(i, full, ADC(bits=codes.bit_length() + 1, law=law, decades=numbers[2]))
        total = total + weight * (i * step.view(lines)).sum((3, 4))  # [images, M, positions, n_out]
    if shifted:
        # every read passes the gradient of its share of the whole
        total = total - base * sum(weight * part.sum(-1, keepdim=True) for weight, part in parts)
    return (total * (unit * peak).view(-1, 1, 1, 1)).mT


def functions(u: Tensor, kind: int, nodes: Tensor, coefficients: Tensor) -> Tensor:
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


def normal(noise: Tensor, stage: Tensor, vector: Tensor, column: Tensor) -> Tensor:
    """Standard normal float32 numbers of Philox 4x32-10 and Box and Muller's transform, as the kernel's.

    One call of Philox makes four: for two neighbouring columns, and two vectors eight apart.

    Args:
        noise: Seed and number of the read, [2] int64.
        stage: Which of several draws; broadcasts with `vector` and `column`.
        vector: Which row of the draw.
        column: Which column.
    """
    low = 0xFFFFFFFF
    stage, vector, column = torch.broadcast_tensors(stage, vector, column)
    read = noise[1].expand(vector.shape)
    a, b, c, d = (n & low for n in (vector // 16 * 8 + vector % 8, column // 2, read, stage))
    keys = [noise[0] & low, (noise[0] >> 32) & low]
    for _ in range(10):
        (high_a, low_a), (high_c, low_c) = _wide(a, ROTATIONS[0]), _wide(c, ROTATIONS[1])
        a, b, c, d = high_c ^ b ^ keys[0], low_c, high_a ^ d ^ keys[1], low_a
        keys = [(key + step) & low for key, step in zip(keys, KEYS, strict=True)]
    far = vector // 8 % 2 == 1
    size, turn = torch.where(far, c, a), torch.where(far, d, b)
    # the upper two bits are a quadrant, and the next 24 how far into it, from its middle
    share = (turn >> 30).double() + ((turn >> 6) & 0xFFFFFF).double() * 0.5**24 - 0.5
    angle = share * (torch.pi / 2)
    part = torch.where(column % 2 == 1, angle.sin(), angle.cos()).to(torch.float32)
    return torch.sqrt(-2 * torch.log(((size >> 8).to(torch.float32) + 1) * 0.5**24)) * part


def _wide(a: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of the product of 32-bit numbers, held in int64."""
    upper, lower = a >> 16, a & 0xFFFF
    top, bottom = upper * factor, lower * factor  # 48 bits each
    total = bottom + ((top & 0xFFFF) << 16)
    return (top >> 16) + (total >> 32), total & 0xFFFFFFFF
