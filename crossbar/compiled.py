"""The bridge from a matrix on arrays to the compiled tiled product: what it takes, packed, and when it applies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .converters import steps
from .fast import _in_threads, bins_of
from .lut_cells import LutCells
from .optional import loaded
from .windows import Image, Source

if TYPE_CHECKING:
    from .chip import Chip

MR = 6
"""Outputs that the kernel computes together; `tile_kernel.MR`."""


def kernel() -> ModuleType | None:
    """The compiled kernel, or None where numba is missing or has nowhere to keep what it compiled."""
    return loaded("tile_kernel")


def version(a: Tensor | None) -> int:
    """Changes of a tensor in place so far; what was made in inference mode does not count them."""
    return 0 if a is None or a.is_inference() else a._version


def suits(chip: Chip, u: Tensor) -> bool:
    """Whether the kernel can compute a matrix's products: float32 on a CPU, a linear converter, no noise of reads."""
    c = chip.config
    return (
        u.device.type == "cpu"
        and u.dtype == torch.float32
        and c.adc.bits is not None
        and c.adc.law == "linear"
        and not (c.devices.read_noise or c.devices.bandwidth or chip.watching)
        and (c.sense.saturation is None or chip.adc_range.dim() == 0)
        and kernel() is not None
    )


def packed(chip: Chip, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weights [M, blocks, k, MR], first word lines of tiles, steps and offsets [M, tiles, blocks MR], largest code.

    Args:
        chip: The matrix's arrays.
        matrix: What a write left on them, [M, R, F rows, channels, K outputs].
    """
    lay, c = chip.layout, chip.config
    tall = matrix.shape[2] // c.rows * c.rows
    step, gain, zeros = converter(chip)
    weights = matrix * gain.unsqueeze(2)
    most = torch.full((), largest_code(chip), dtype=matrix.dtype, device="cpu")
    weights, step, zeros = (a[..., : lay.n_out] for a in (weights, step, zeros))
    if chip.order_out is not None:
        back = chip.order_out.argsort()
        weights, step, zeros = (a[..., back] for a in (weights, step, zeros))
    # word lines in the order of `lines`, those without an input left out
    weights = weights.unflatten(2, (-1, c.rows))  # [M, R, F, rows, channels, n_out]
    idle = lay.idle_rows
    first, rest = weights[:, :1, :, idle:], weights[:, 1:]
    flat = torch.cat([a.flatten(1, 3).flatten(2) for a in (first, rest)], dim=1)  # [M, k, columns]
    features = tall // c.rows
    ends = features * (torch.arange(lay.row_tiles + 1, device="cpu") * c.rows - idle)
    ends[0] = 0
    starts = ends[[0, -1]] if c.partial_sums == "analog" else ends
    pad = -flat.shape[-1] % MR
    blocks = torch.nn.functional.pad(flat, (0, pad)).unflatten(2, (-1, MR)).transpose(1, 2).contiguous()
    step, zeros = (torch.nn.functional.pad(a.flatten(2), (0, pad)).contiguous() for a in (step, zeros))
    return blocks, starts, step, zeros, most


def converter(chip: Chip) -> tuple[Tensor, Tensor, Tensor]:
    """Step of every converter [A], steps per ampere at its input, and steps that it adds.

    Each [M, R, channels, K outputs]; R is 1 where row tiles share a converter.
    """
    step = (chip.adc_range / steps(chip.config.adc.bits or 2)).clamp_min(torch.finfo(chip.adc_range.dtype).tiny)
    step = step.expand(chip._sensed_shape)
    gain = step.reciprocal() if chip.gain is None else chip.gain / step
    zeros = torch.zeros_like(step) if chip.offset is None else chip.offset / step
    return step, gain, zeros


def largest_code(chip: Chip) -> float:
    """Largest code of the converters, or the code at which the integrator saturates."""
    codes, saturation = float(steps(chip.config.adc.bits or 2)), chip.config.sense.saturation
    if saturation is None:
        return codes
    step = (chip.adc_range / codes).clamp_min(torch.finfo(chip.adc_range.dtype).tiny)
    return min(codes, float((saturation * chip.full_scale / step.amax()).round()))


def lines(chip: Chip, inputs: Tensor, features: int, apart: int) -> Tensor:
    """Place of every word line's input, tile by tile, and within a tile feature by feature.

    Args:
        chip: The matrix's arrays.
        inputs: Place of every input of a window.
        features: Number of features.
        apart: From one feature of an input to the next.
    """
    lay, rows = chip.layout, chip.config.rows
    inputs = inputs if chip.order_in is None else inputs[chip.order_in]
    shifts = torch.arange(features, device="cpu").unsqueeze(1) * apart
    first = rows - lay.idle_rows
    parts = [(inputs[:first] + shifts).flatten()]
    if lay.row_tiles > 1:
        parts.append((inputs[first:].view(-1, 1, rows) + shifts).flatten())
    return torch.cat(parts)


def products(chip: Chip, source: Source, features: list[Tensor], pack: tuple[Tensor, ...]) -> Tensor:
    """Sums of converted column currents, in the shape of the result.

    Args:
        chip: The matrix's arrays.
        source: What is multiplied.
        features: Functions of the inputs, each like `source.x`.
        pack: From `packed`.
    """
    lay = chip.layout
    x = features[0] if len(features) == 1 else torch.stack(features)
    g = Geometry.of(chip, source)
    offsets = lines(chip, g.inputs, len(features), features[0].numel())
    columns = lay.channels * lay.n_out
    flat = _tiled_product(
        x.contiguous().flatten(), g.shifts, offsets, g.corners, *pack, g.places, columns, g.stride, g.total
    )
    return g.shaped(flat)


@dataclass(frozen=True)
class Geometry:
    """Where windows (or vectors) lie in flat inputs, and their outputs in flat outputs."""

    inputs: Tensor  # place of every input from the corner of a window
    corners: Tensor  # [p]
    places: Tensor  # of the positions in the outputs, [p]
    stride: int  # from one output to the next
    shifts: Tensor  # where each matrix's inputs and outputs begin, [M, 2]
    total: int  # outputs
    shaped: Callable[..., Tensor]  # from flat outputs to the result's shape: channels combined

    @staticmethod
    def of(chip: Chip, source: Source) -> Geometry:
        """That of a matrix's inputs."""
        lay = chip.layout
        columns, batch = lay.channels * lay.n_out, len(source.x)
        if not isinstance(source, Image):

            def rows(flat: Tensor, back: Tensor | None = None) -> Tensor:
                parts = flat.view(lay.channels, lay.n_out, batch)
                return _combined(parts if back is None else parts[:, back], lay.coefficients(), 0).T

            corners, places = torch.arange(batch, device="cpu") * lay.n_in, torch.arange(batch, device="cpu")
            shifts = torch.zeros(1, 2, dtype=torch.int64, device="cpu")
            return Geometry(torch.arange(lay.n_in, device="cpu"), corners, places, batch, shifts, batch * columns, rows)
        spatial, channels = source.spatial, source.channels
        area, size, corner = math.prod(spatial), source.window.size(spatial), source.window.corners(spatial)
        positions, images = len(corner), torch.arange(batch, device="cpu").unsqueeze(1)

        def planes(flat: Tensor, back: Tensor | None = None) -> Tensor:
            parts = flat.view(batch, lay.matrices, lay.channels, lay.n_out, positions)
            out = _combined(parts if back is None else parts[..., back, :], lay.coefficients(), 2)
            return out.reshape(batch, lay.matrices * lay.n_out, *size)

        return Geometry(
            source.window.offsets(channels, spatial),
            (images * (lay.matrices * channels * area) + corner).flatten(),
            (images * (lay.matrices * columns * positions) + torch.arange(positions, device="cpu")).flatten(),
            positions,
            torch.arange(lay.matrices, device="cpu").unsqueeze(1)
            * torch.tensor([channels * area, columns * positions], device="cpu"),
            batch * lay.matrices * columns * positions,
            planes,
        )


def _combined(out: Tensor, coefficients: list[float], dim: int) -> Tensor:
    """The sum over channels."""
    if coefficients == [1.0]:
        return out.squeeze(dim)
    parts = zip(out.unbind(dim), coefficients, strict=True)
    total: Tensor = sum(part * c for part, c in parts)  # type: ignore[assignment]
    return total


def features(cells: LutCells, v: Tensor) -> list[Tensor]:
    """`cells.features(v)` by the compiled kernel, in float32, without gradients."""
    pieces = cells.pieces.permute(2, 0, 1).float().contiguous()
    found = _tabulated(v.contiguous().flatten(), cells.nodes.float(), pieces)
    return list(found.view(-1, *v.shape))


@torch.library.custom_op("devicelab::tabulated", mutates_args=())
def _tabulated(x: Tensor, nodes: Tensor, pieces: Tensor) -> Tensor:
    """Piecewise cubics, see `tile_kernel.tabulated`, over torch's threads."""
    compiled = kernel()
    if compiled is None:  # `suits` saw to it
        raise RuntimeError("no compiled kernel")
    out = x.new_empty(pieces.shape[1], len(x))
    fixed = x.numpy(), nodes.numpy(), bins_of(nodes.numpy()), pieces.numpy(), out.numpy()
    if len(x):
        _in_threads(lambda first, stop: compiled.tabulated(*fixed, first, stop), len(x))
    return out


@_tabulated.register_fake
def _(x: Tensor, nodes: Tensor, pieces: Tensor) -> Tensor:
    return x.new_empty(pieces.shape[1], len(x))


def polynomials(u: Tensor, coefficients: Tensor) -> list[Tensor]:
    """Polynomials without a constant term by the compiled kernel, in float32, without gradients.

    Args:
        u: Numbers within -1..1.
        coefficients: [rank, terms], the first of each row 0.
    """
    return list(_powers(u.contiguous().flatten(), coefficients.float()).view(-1, *u.shape))


@torch.library.custom_op("devicelab::powers", mutates_args=())
def _powers(x: Tensor, coefficients: Tensor) -> Tensor:
    """Polynomials, see `tile_kernel.powers`, over torch's threads."""
    compiled = kernel()
    if compiled is None:  # `suits` saw to it
        raise RuntimeError("no compiled kernel")
    out = x.new_empty(len(coefficients), len(x))
    fixed = x.numpy(), coefficients.numpy(), out.numpy()
    if len(x):
        _in_threads(lambda first, stop: compiled.powers(*fixed, first, stop), len(x))
    return out


@_powers.register_fake
def _(x: Tensor, coefficients: Tensor) -> Tensor:
    return x.new_empty(len(coefficients), len(x))


@torch.library.custom_op("devicelab::tiled_product", mutates_args=())
def _tiled_product(
    x: Tensor,
    shifts: Tensor,
    offsets: Tensor,
    corners: Tensor,
    weights: Tensor,
    starts: Tensor,
    step: Tensor,
    zeros: Tensor,
    most: Tensor,
    places: Tensor,
    columns: int,
    stride: int,
    total: int,
) -> Tensor:
    """The kernel's product, see `tile_kernel.product`, over torch's threads."""
    compiled = kernel()
    if compiled is None:  # `suits` saw to it
        raise RuntimeError("no compiled kernel")
    out = x.new_empty(total)
    fixed = [a.numpy() for a in (x, shifts, offsets, corners, weights, starts, step, zeros)]
    tail = most.numpy()[()], out.numpy(), places.numpy(), columns, stride
    groups = -(-len(corners) // (compiled.LANES * compiled.PANELS))
    if groups:
        _in_threads(lambda first, stop: compiled.product(*fixed, *tail, first, stop), groups)
    return out


@_tiled_product.register_fake
def _(x: Tensor, *args: object) -> Tensor:
    total = args[-1]
    assert isinstance(total, int | torch.SymInt)  # noqa: S101
    return x.new_empty(total)
