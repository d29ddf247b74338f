"""Products on a GPU: what the fused Triton kernel takes, packed, when it applies, and the same in torch."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from devicelab.errors import MissingDependencyError
from devicelab.noise import BOLTZMANN, CHARGE

from .compiled import version
from .converters import steps
from .gpu_oracle import LINEAR, POLYNOMIAL, SIGNS, TABLE, in_torch, normal
from .optional import loaded
from .windows import Image, Source, Window

if TYPE_CHECKING:
    from .chip import Written
    from .mapping import TiledMatrix

MOST_BITS = 22
"""Of converters in the kernel: its rounding is exact that far."""
_PACKED: WeakKeyDictionary[TiledMatrix, tuple[Any, dict[str, Tensor]]] = WeakKeyDictionary()
_READS: WeakKeyDictionary[TiledMatrix, Tensor] = WeakKeyDictionary()
_REFINE: WeakKeyDictionary[TiledMatrix, int] = WeakKeyDictionary()


def kernels() -> ModuleType | None:
    """The Triton kernel, or None where Triton is not installed or cannot be used."""
    return loaded("gpu_product_kernel")


def suits(chip: TiledMatrix, x: Tensor) -> bool:
    """Whether the kernel computes a matrix's products: float32 on a GPU, and more to do than one plain product."""
    c = chip.config
    law = c.adc.bits is None or (c.adc.law == "linear" and c.adc.bits <= MOST_BITS)
    return (
        x.device.type == "cuda"
        and x.dtype == torch.float32
        and not chip._solved
        and not chip.watching
        and law
        and (c.dac.bits is None or c.dac.bits <= MOST_BITS)
        and c.dac.encoding != "bit-serial"
        and (chip._partials_matter or c.nonlinear)
        and kernels() is not None
    )


def product(chip: TiledMatrix, source: Source, written: Written) -> Tensor:
    """What the arrays answer, in the shape and units of the result.

    Gradients go straight through converters.
    """
    lay, c = chip.layout, chip.config
    pack = _pack(chip, written)
    unit = chip.top / ((chip.devices_on_chip.high - chip.devices_on_chip.low) * c.v_read)
    if chip.has_input_range:
        peak = chip.input_range.view(1)
    elif chip._scale_free and not c.nonlinear:
        peak = torch.ones_like(unit).view(1)
    else:
        peak = source.peaks().flatten()
        peak = torch.where(peak > 0, peak, 1.0)
    if isinstance(source, Image):
        offsets, corners, size = _places(source.window, source.channels, source.spatial, source.x.device)
        area = source.x[0, 0].numel()
        strides = lay.matrices * source.channels * area, source.channels * area
    else:
        offsets, corners, size = _line(chip.n_in, source.x.device)
        strides = chip.n_in, 0
    if chip.order_in is not None:
        offsets = offsets[chip.order_in]
    noisy = bool(c.devices.read_noise or c.devices.bandwidth)
    out: Tensor = tiled_gpu(
        source.x.contiguous(),
        peak.reciprocal(),
        offsets,
        corners,
        *(pack[name] for name in ("weights", "step", "zero", "limit", "spread", "shot")),
        _next_read(chip, source.x.device) if noisy else pack["none"],
        *(pack[name] for name in ("nodes", "bins", "coefficients")),
        unit * peak,
        pack["base"],
        [len(corners), c.rows, lay.idle_rows, *strides],
        [
            _kind(chip, pack),
            0 if c.dac.bits is None else steps(c.dac.bits),
            chip.has_input_range,
            0 if c.adc.bits is None else steps(c.adc.bits),
            c.partial_sums == "analog",
            not (chip.offset is None and c.sense.saturation is None),
            noisy,
            c.scheme == "offset",
            _refine(chip, pack),
        ],
        [2 * BOLTZMANN * c.devices.temperature / CHARGE, c.v_read],
    )
    if isinstance(source, Image):
        return out.reshape(len(source.x), lay.matrices * lay.n_out, *size)
    return out.reshape(len(source.x), lay.n_out)


def _kind(chip: TiledMatrix, pack: dict[str, Tensor]) -> int:
    if not chip.config.nonlinear:
        return LINEAR
    if chip.config.dac.encoding == "pulse-width":
        return SIGNS
    return POLYNOMIAL if pack["coefficients"].dim() == 2 else TABLE


Places = tuple[Tensor, Tensor, tuple[int, ...]]
_PLACES: dict[tuple[Window, int, tuple[int, ...], torch.device], Places] = {}


def _places(window: Window, channels: int, spatial: tuple[int, ...], device: torch.device) -> Places:
    """Offsets of a window's inputs and its corners, made once."""
    key = window, channels, spatial, device
    known = None if torch.compiler.is_compiling() else _PLACES.get(key)
    if known is None:
        offsets, corners = window.offsets(channels, spatial, device), window.corners(spatial, device)
        known = offsets.to(torch.int32), corners.to(torch.int32), window.size(spatial)
        if not torch.compiler.is_compiling():
            _PLACES[key] = known
    return known


def _line(n_in: int, device: torch.device) -> Places:
    whole = torch.int32
    return torch.arange(n_in, dtype=whole, device=device), torch.zeros(1, dtype=whole, device=device), ()


def _next_read(chip: TiledMatrix, device: torch.device) -> Tensor:
    """Seed of the matrix's noise and the number of this read, [2]; counted on the device, so that graphs count too."""
    chip.reads += 1
    kept = _READS.get(chip)
    if kept is None or kept.device != device:
        seed = np.random.SeedSequence([chip.config.seed, chip.stream, 0x5EAD]).generate_state(1, np.uint64)
        kept = torch.tensor([int(seed.view(np.int64)[0]), chip.reads - 1], device=device)
        _READS[chip] = kept
    kept[1:] += 1
    return kept.clone()


def drawn(chip: TiledMatrix, shape: torch.Size, device: torch.device) -> Tensor:
    """Normal numbers for one read of arrays whose products torch computes, made on the device."""
    noise = _next_read(chip, device)
    return normal(noise, torch.zeros_like(noise[:1]), torch.arange(shape.numel(), device=device)).view(shape)


def _pack(chip: TiledMatrix, written: Written) -> dict[str, Tensor]:
    """What was written, in codes; made once for what the arrays hold."""
    if written.matrix is None:
        raise TypeError("these arrays have no matrix")
    if written.matrix is not chip.matrix or torch.compiler.is_compiling():
        return packed(chip, written)
    made_of = [(a, version(a)) for a in (chip.matrix, chip.g, chip.adc_range, chip.gain, chip.offset, chip.order_out)]
    kept = _PACKED.get(chip)
    if kept is None or any(a is not b or i != j for (a, i), (b, j) in zip(kept[0], made_of, strict=True)):
        kept = made_of, packed(chip, written)
        _PACKED[chip] = kept
    return kept[1]


def packed(chip: TiledMatrix, written: Written) -> dict[str, Tensor]:
    """The kernel's arrays, see `gpu_product_kernel.tiled`; differentiable with respect to what was written."""
    lay, c, matrix = chip.layout, chip.config, written.matrix
    if matrix is None:
        raise TypeError("these arrays have no matrix")
    matrix = matrix.to(chip.g.dtype)  # tables answer in float64

    def columns(a: Tensor) -> Tensor:
        """[..., channels, K outputs] as [..., channels, n_out] in the order of the results."""
        a = a[..., : lay.n_out]
        return a if chip.order_out is None else a[..., chip.order_out.argsort()]

    r = 1 if c.partial_sums == "analog" else lay.row_tiles
    shape = lay.matrices, r, lay.channels, matrix.shape[-1]
    one = matrix.new_ones(())
    codes = 0 if c.adc.bits is None else steps(c.adc.bits)
    step = (chip.adc_range / codes).clamp_min(torch.finfo(matrix.dtype).tiny) if codes else one
    step = step.expand(shape)
    gain = step.reciprocal() if chip.gain is None else chip.gain / step
    zero = torch.zeros_like(step) if chip.offset is None else chip.offset / step
    limit = (c.sense.saturation * chip.full_scale if c.sense.saturation is not None else torch.inf) / step
    weights = (matrix.unflatten(2, (-1, c.rows)) * gain[:, :, None, None]).permute(0, 4, 1, 2, 3, 5)
    coefficients = torch.stack([matrix.new_full((), c) for c in lay.coefficients()])
    found = {
        "weights": columns(weights),  # [M, C, R, F, rows, n_out]
        "step": columns((step * coefficients[:, None]).transpose(1, 2)),
        "zero": columns(zero.transpose(1, 2)),
        "limit": columns(limit.transpose(1, 2)),
        "none": torch.zeros(2, dtype=torch.int64, device=matrix.device),
        "base": matrix.new_zeros(1),
    }
    found["spread"] = found["shot"] = found["base"].view(1, 1, 1, 1, 1)
    if c.devices.read_noise or c.devices.bandwidth:
        g = written.g.detach()
        relative = lay.sensed((chip.devices_on_chip.read_spread(g) * g) ** 2, combine=False)
        total = lay.sensed(g, combine=False) * (2 * CHARGE * c.devices.bandwidth)
        square = gain.unsqueeze(2).square()  # [M, R or 1, 1, channels, K outputs]
        for name, a in (("spread", relative), ("shot", total)):
            found[name] = columns((a * square).permute(0, 3, 1, 2, 4).to(matrix.dtype))
    if c.scheme == "offset":
        zeros = lay.zero(found["base"])
        low, high = chip.devices_on_chip.low, chip.devices_on_chip.high
        middle = chip.devices_on_chip.level(low + (high - low) * zeros)
        found["base"] = ((middle * coefficients).sum() * c.v_read).view(1)
    found |= _law(chip, found["base"])
    return {name: a.contiguous() for name, a in found.items()}


def _law(chip: TiledMatrix, like: Tensor) -> dict[str, Tensor]:
    """The cells' functions: a table in units of the largest input, or polynomials."""
    none = torch.zeros(1, dtype=like.dtype, device=like.device)
    found = {"nodes": none, "bins": none.to(torch.int32), "coefficients": none}
    c = chip.config
    if not c.nonlinear or c.dac.encoding == "pulse-width":
        return found
    if chip._smooth is not None:
        return found | {"coefficients": chip._smooth.to(like)}
    table = chip._basis(like.device, c.v_read)
    bins, _ = binned(table.nodes)
    return {
        "nodes": (table.nodes / c.v_read).to(like),
        "bins": bins.to(torch.int32),
        "coefficients": table.pieces.detach().permute(2, 0, 1).to(like),
    }


def binned(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The interval between nodes in which each of a row of equal bins starts, and the most nodes within one."""
    edges = nodes[0] + (nodes[-1] - nodes[0]) * torch.arange(4 * len(nodes), device=nodes.device) / (4 * len(nodes))
    bins = (torch.searchsorted(nodes, edges, right=True) - 1).clamp(0, len(nodes) - 2)
    return bins, (torch.cat([bins[1:], bins.new_tensor([len(nodes) - 2])]) - bins).max()


def _refine(chip: TiledMatrix, pack: dict[str, Tensor]) -> int:
    """The most nodes of the table within one bin."""
    if _kind(chip, pack) != TABLE:
        return 0
    if chip not in _REFINE:
        _REFINE[chip] = int(binned(chip._basis(torch.device("cpu"), chip.config.v_read).nodes)[1])
    return _REFINE[chip]


@torch.library.custom_op("devicelab::tiled_gpu", mutates_args=())
def tiled_gpu(
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
) -> Tensor:
    """Products on tiles, from inputs to converted sums, [images, M, n_out, positions].

    Args:
        x: Inputs, [images, ...].
        per_unit: Reciprocal of the largest input, of all or of every image.
        offsets: Where the inputs of a window lie from its corner, [n_in].
        corners: Where windows begin, [positions].
        weights: Codes per feature, [M, channels, R, features, rows, n_out].
        step: A a code, [M, channels, R or 1, n_out].
        zero: Code at no current, like `step`.
        limit: Codes at which the integrator saturates, like `step`.
        spread: Squared codes of noise per V^2, [M, channels, R, rows, n_out].
        shot: The same per V.
        noise: Seed and number of the read, [2].
        nodes: Of a table, in units of the largest input.
        bins: Piece in which each of a row of equal bins starts.
        coefficients: Of polynomials, [features, terms], or of a table, [pieces, features, 4].
        factor: Of the results, of all or of every image.
        base: What is taken off for every unit of the inputs' sum, [1].
        sizes: Positions, rows of a tile, idle rows of the first; from image to image and from matrix to matrix in `x`.
        choices: Kind of cell, DAC steps, whether to clamp, ADC steps, whether tiles are added before they are
            converted, whether there is a sense circuit, noise, an offset; nodes of the table within a bin.
        numbers: Voltage below which thermal noise prevails [V], `v_read` [V].
    """
    compiled = kernels()
    if compiled is None:
        raise MissingDependencyError("products on a GPU need triton", hint="pip install triton")
    positions, rows, idle, image_stride, matrix_stride = sizes
    kind, dac, clamp, codes, analog, sensed, noisy, shifted, refine = choices
    matrices, channels, row_tiles, features, _, columns = weights.shape
    images = len(x)
    out = x.new_empty(images, matrices, columns, positions)
    vectors = images * positions
    if not out.numel():
        return out
    block = {"BM": 64 if vectors > 32 else 16, "BN": 32 if columns > 16 else 16, "BK": 32 if rows > 16 else 16}
    grid = -(-vectors // block["BM"]), -(-columns // block["BN"]), matrices
    compiled.tiled[grid](
        x, per_unit, offsets, corners, weights, step, zero, limit, spread, shot, noise, nodes, bins, coefficients,
        factor, base, out, vectors, positions, columns, row_tiles, rows, idle, image_stride, matrix_stride, len(nodes),
        len(bins), *numbers, float(codes), int(len(per_unit) > 1),
        KIND=kind, FEATURES=features, TERMS=coefficients.shape[-1], REFINE=refine, CHANNELS=channels, DAC_STEPS=dac,
        CLAMP=bool(clamp), CONVERT=codes > 0, ANALOG=bool(analog), SENSED=bool(sensed), NOISE=bool(noisy),
        SHIFTED=bool(shifted), PRECISION="tf32x3", num_warps=4, **block,
    )  # fmt: skip
    return out


@tiled_gpu.register_fake
def _(x: Tensor, per_unit: Tensor, offsets: Tensor, corners: Tensor, weights: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(len(x), weights.shape[0], weights.shape[-1], len(corners))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors = [a for a in inputs if isinstance(a, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.rest = inputs[len(tensors) :]


DIFFERENTIABLE = (0, 4, 14)
"""Arguments of `tiled_gpu` with gradients: inputs, weights, factor."""


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    tensors = list(ctx.saved_tensors)
    wanted = [k for k in DIFFERENTIABLE if ctx.needs_input_grad[k]]
    with torch.enable_grad():
        for k in wanted:
            tensors[k] = tensors[k].detach().requires_grad_()
        out = in_torch(*tensors, *ctx.rest, ideal=True)
        found = torch.autograd.grad(out, [tensors[k] for k in wanted], gradient)
    grads: list[Tensor | None] = [None] * (len(tensors) + len(ctx.rest))
    for k, grad in zip(wanted, found, strict=True):
        grads[k] = grad
    return tuple(grads)


tiled_gpu.register_autograd(_backward, setup_context=_setup)
