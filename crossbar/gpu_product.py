"""Products on a GPU: what the fused Triton kernel takes, packed, when it applies, and the same in torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from devicelab.errors import MissingDependencyError

from .compiled import version
from .converters import steps
from .gpu_oracle import POLYNOMIAL, SIGNS, TABLE, in_torch, normal
from .gpu_packing import LAWS, digit, kind, noisy, packed, thermal_voltage, together, whole
from .gpu_packing import binned as binned
from .optional import loaded, on_its_device
from .windows import Image, Source, Window

if TYPE_CHECKING:
    from .chip import Written
    from .mapping import TiledMatrix

BLOCK = 1024
"""Inputs that a program prepares."""
MOST_BITS = 22
"""Of converters that kernels round for with one sum."""
MOST_DIGIT_BITS = 10
"""Of one read of a bit-serial input: digits are exact as halves so far."""
_PACKED: WeakKeyDictionary[TiledMatrix, tuple[Any, dict[str, Tensor]]] = WeakKeyDictionary()
_READS: WeakKeyDictionary[TiledMatrix, Tensor] = WeakKeyDictionary()
_REFINE: WeakKeyDictionary[TiledMatrix, int] = WeakKeyDictionary()


@dataclass(frozen=True)
class Launch:
    """How much one program of the kernel takes on."""

    vectors: int
    columns: int
    rows: int  # at a time, of a tile
    warps: int
    stages: int  # of copies under way
    digits: int = 1  # of bit-serial inputs, while weights are held


LAUNCHES = {
    "few": Launch(16, 64, 64, 4, 3, 4),
    "plain": Launch(64, 128, 32, 4, 3),
    "tall": Launch(64, 64, 64, 4, 2),
    "noise": Launch(64, 32, 64, 4, 2),
    "digits": Launch(64, 64, 16, 4, 2, 4),
    "noise of digits": Launch(64, 32, 32, 4, 2),
}
"""By what is computed: up to `FEW` vectors; more of them on tiles of up to `SHORT` rows, or on others, or whatever else
converters do than round; with noise of reads, with bit-serial inputs, with both. Columns and rows are fewer where the
matrix or its tiles have fewer. Chosen by what the compiler says of registers, spills, shared memory and instructions
(`tests/crossbar/compile_gpu_kernels.py`); `tests/bench/bench_cuda.py --tune` measures others."""
FEW, SHORT = 32, 32
SHARED = 160 * 2**10
"""Shared memory that one program may take [bytes]: what an A100 has; an H100 has more."""


def launch(
    vectors: int,
    columns: int,
    rows: int,
    features: int = 1,
    *,
    noise: int = 0,
    digits: bool = False,
    plain: bool = True,
) -> Launch:
    """The choice for a product, cut to its size, and until its copies fit shared memory.

    Args:
        vectors: Images times positions.
        columns: Of the matrix.
        rows: Of a tile.
        features: Functions of an input.
        noise: How many products make the noise's variance.
        digits: Whether inputs are read digit by digit.
        plain: Whether a column's current is rounded and nothing else.
    """
    if digits:
        name = "noise of digits" if noise else "digits"
    elif noise:
        name = "noise"
    else:
        name = "plain" if plain and rows <= SHORT else "tall"
    held = LAUNCHES[name].digits
    found = LAUNCHES["few" if vectors <= FEW else name]
    found = replace(
        found,
        columns=min(found.columns, _power_above(columns)),
        rows=min(found.rows, _power_above(rows)),
        digits=min(found.digits, held),
    )
    while shared(found, features, noise) > SHARED:
        if found.rows > 16:
            found = replace(found, rows=found.rows // 2)
        elif found.stages > 1:
            found = replace(found, stages=found.stages - 1)
        elif found.columns > 16:
            found = replace(found, columns=found.columns // 2)
        else:
            break
    return found


def shared(on: Launch, features: int, noise: int) -> int:
    """Shared memory for the copies of one program [bytes], at most: words of inputs, and halves of weights."""
    words = on.vectors * on.rows * 4 * (features + (noise > 0))
    halves = on.columns * on.rows * 2 * (2 * features + noise)
    return on.stages * (words + halves)


def _power_above(n: int) -> int:
    """The power of two that is not below, 16 or more."""
    return max(16, 1 << (n - 1).bit_length())


def kernels() -> ModuleType | None:
    """The Triton kernel, or None where Triton is not installed or cannot be used."""
    return loaded("gpu_product_kernel")


def suits(chip: TiledMatrix, x: Tensor) -> bool:
    """Whether the kernel computes a matrix's products: float32 on a GPU, and more to do than one plain product."""
    c = chip.config
    return (
        x.device.type == "cuda"
        and x.dtype == torch.float32
        and not chip._solved
        and not chip.watching
        and (c.dac.encoding != "bit-serial" or c.dac.slice_bits <= MOST_DIGIT_BITS)
        and (chip._partials_matter or c.nonlinear or c.dac.bits is not None)
        and kernels() is not None
    )


def product(chip: TiledMatrix, source: Source, written: Written) -> Tensor:
    """What the arrays answer, in the shape and units of the result.

    Gradients go straight through converters.
    """
    lay, c = chip.layout, chip.config
    pack = _pack(chip, written)
    peak = chip.input_range.view(1) if chip.has_input_range else largest(source)
    if isinstance(source, Image):
        offsets, corners, size = _places(source.window, source.channels, source.spatial, source.x.device)
        area = math.prod(source.spatial)
        strides = lay.matrices * source.channels * area, source.channels * area
    else:
        offsets, corners, size = _line(chip.n_in, source.x.device)
        strides = chip.n_in, 0
    if chip.order_in is not None:
        offsets = offsets[chip.order_in]
    out: Tensor = tiled_gpu(
        source.x.contiguous(),
        peak,
        offsets,
        corners,
        *(pack[name] for name in ("weights", "halves", "back", "step", "zero", "limit")),
        *(pack[name] for name in ("spread", "shot", "variances", "loud")),
        _next_read(chip, source.x.device) if noisy(chip) else pack["none"],
        *(pack[name] for name in ("nodes", "bins", "coefficients", "sizes", "digits", "unit", "base")),
        [len(corners), c.rows, lay.idle_rows, *strides],
        [
            kind(chip),
            0 if c.dac.bits is None else steps(c.dac.bits),
            digit(chip),
            whole(chip),
            chip.has_input_range,
            isinstance(source, Image),
            chip.order_in is None,
            0 if c.adc.bits is None else LAWS[c.adc.law],
            0 if c.adc.bits is None else steps(c.adc.bits),
            together(chip),
            not (chip.offset is None and c.sense.saturation is None),
            noisy(chip),
            c.scheme == "offset",
            _refine(chip, pack),
        ],
        [thermal_voltage(chip), c.v_read, c.adc.decades],
    )
    if isinstance(source, Image):
        return out.reshape(len(source.x), lay.matrices * lay.n_out, *size)
    return out.reshape(len(source.x), lay.n_out)


def largest(source: Source) -> Tensor:
    """Largest |input| of every image or vector, [images]: one pass, found on the device; what is no number stays so."""
    found: Tensor = torch.linalg.vector_norm(source.x.detach().flatten(1), ord=torch.inf, dim=1)
    return found


Places = tuple[Tensor, Tensor, tuple[int, ...]]
_PLACES: dict[tuple[Window, int, tuple[int, ...], torch.device], Places] = {}


def _places(window: Window, channels: int, spatial: tuple[int, ...], device: torch.device) -> Places:
    """Offsets of a window's inputs and its corners, made once."""
    key = window, channels, spatial, device
    known = None if torch.compiler.is_compiling() else _PLACES.get(key)
    if known is not None:
        return known
    if torch.compiler.is_compiling():
        return _placed(window, channels, spatial, device)
    with torch.inference_mode(False):  # for later passes with gradients too
        known = _PLACES[key] = _placed(window, channels, spatial, device)
    return known


def _placed(window: Window, channels: int, spatial: tuple[int, ...], device: torch.device) -> Places:
    offsets, corners = window.offsets(channels, spatial, device), window.corners(spatial, device)
    return offsets.to(torch.int32), corners.to(torch.int32), window.size(spatial)


def _line(n_in: int, device: torch.device) -> Places:
    whole = torch.int32
    return torch.arange(n_in, dtype=whole, device=device), torch.zeros(1, dtype=whole, device=device), ()


def _next_read(chip: TiledMatrix, device: torch.device) -> Tensor:
    """Seed of the matrix's noise and the number of this read, [2]; counted on the device, so that graphs count too."""
    chip.reads += 1
    kept = _READS.get(chip)
    if kept is None or kept.device != device:
        seed = np.random.SeedSequence([chip.config.seed, chip.stream, 0x5EAD]).generate_state(1, np.uint64)
        with torch.inference_mode(False):  # what is made there could not be counted up elsewhere
            kept = torch.tensor([int(seed.view(np.int64)[0]), chip.reads - 1], device=device)
        _READS[chip] = kept
    kept[1:] += 1
    return kept.clone()


def drawn(chip: TiledMatrix, shape: torch.Size, device: torch.device) -> Tensor:
    """Normal numbers for one read of arrays whose products torch computes, made on the device."""
    noise = _next_read(chip, device)
    number = torch.arange(shape.numel(), device=device)
    return normal(noise, torch.zeros_like(number), number // 2, number % 2).view(shape)


def _pack(chip: TiledMatrix, written: Written) -> dict[str, Tensor]:
    """What was written, in codes; made once for what the arrays hold."""
    if written.matrix is None:
        raise TypeError("these arrays have no matrix")
    if written.matrix is not chip.matrix or torch.compiler.is_compiling():
        return packed(chip, written)
    parts = chip.matrix, chip.g, chip.adc_range, chip.gain, chip.offset, chip.order_out, chip.top
    made_of = [(a, version(a)) for a in parts]
    kept = _PACKED.get(chip)
    if kept is None or any(a is not b or i != j for (a, i), (b, j) in zip(kept[0], made_of, strict=True)):
        with torch.inference_mode(False), torch.no_grad():  # for later passes with gradients too
            kept = made_of, packed(chip, written)
        _PACKED[chip] = kept
    return kept[1]


def _refine(chip: TiledMatrix, pack: dict[str, Tensor]) -> int:
    """The most nodes of the table within one bin."""
    if kind(chip) != TABLE:
        return 0
    if chip not in _REFINE:
        _REFINE[chip] = int(binned(chip._basis(torch.device("cpu"), chip.config.v_read).nodes)[1])
    return _REFINE[chip]


@torch.library.custom_op("devicelab::tiled_gpu", mutates_args=())
@on_its_device
def tiled_gpu(
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
) -> Tensor:
    """Products on tiles, from inputs to converted sums, [images, M, n_out, positions].

    Args:
        x: Inputs, [images, ...].
        peak: Largest input, of all or of every image; 1 is taken below 2^-126.
        offsets: Where the inputs of a window lie from its corner, [n_in].
        corners: Where windows begin, [positions].
        weights: Codes per feature, [M, channels, R, features, rows, n_out]; for gradients.
        halves: The same in units of columns, as two halves, [2, M, channels, R, features, rows, filled columns].
        back: Codes of a column's unit, [M, channels, n_out].
        step: A a code, [M, channels, R or 1, n_out].
        zero: Code at no current, like `step`.
        limit: Codes at which the integrator saturates, like `step`.
        spread: Squared codes of noise per V^2, [M, channels, R, rows, n_out]; for the oracle.
        shot: The same per V.
        variances: The same for the largest input in units of columns, [1 or 2, M, channels, R, rows, filled columns].
        loud: Squared codes of such a unit, [M, channels, n_out].
        noise: Seed and number of the read, [2].
        nodes: Of a table, in units of the largest input.
        bins: Piece in which each of a row of equal bins starts.
        coefficients: Of polynomials, [features, terms], or of a table, [pieces, features, 4].
        sizes: What makes `LARGEST` of the largest value of each function, [features].
        digits: Functions of digits as pairs, [2^(bits + 1), features].
        unit: Of the results for a largest input of 1, [1].
        base: What is taken off for every unit of the inputs' sum, [1].
        counts: Positions, rows of a tile, idle rows of the first; from image to image and from matrix to matrix in `x`.
        choices: Kind of cell, DAC steps, bits of a digit, what is read of an input (`gpu_packing.whole`), whether to
            clamp, whether inputs are images, and in the order of the lines; law of the ADC and its steps, whether tiles
            are added before they are converted, whether there is a sense circuit, kinds of noise, whether there is an
            offset; nodes of the table within a bin.
        numbers: Voltage below which thermal noise prevails [V], `v_read` [V], decades of the ADC.
    """
    compiled = kernels()
    if compiled is None:
        raise MissingDependencyError("products on a GPU need triton", hint="pip install triton")
    positions, rows, idle, image_stride, matrix_stride = counts
    law, dac, digit, read, clamp, images, plain, adc, codes, analog, sensed, noisy, shifted, refine = choices
    _, matrices, channels, row_tiles, features, _, width = halves.shape
    columns = weights.shape[-1]
    out = x.new_empty(len(x), matrices, columns, positions)
    vectors = len(x) * positions
    if not out.numel():
        return out
    per_image, thermal = len(peak) > 1, numbers[0] / numbers[1]
    ends = law in (POLYNOMIAL, TABLE) and digit == 1  # bit by bit: cells see full voltages of either sign
    kernel_law = SIGNS if ends else law
    noisy = int(noisy > 0) if digit == 1 else noisy
    others = 0 if read == 2 else bool(noisy) + bool(shifted)
    words = x.new_empty((1 if read or law == SIGNS else features) + others, x.numel(), dtype=torch.int32)
    wide = max(x.numel(), out.numel()) >= 2**31
    compiled.prepared[-(-x.numel() // BLOCK),](
        x, peak, sizes, nodes, bins, coefficients, words, x.numel(), x[0].numel(), len(nodes), len(bins), thermal,
        KIND=law, FEATURES=features, TERMS=coefficients.shape[-1], REFINE=refine, DAC_STEPS=dac, WHOLE=read,
        CLAMP=bool(clamp or digit), PER_IMAGE=per_image, NOISE=noisy > 0, SHIFTED=bool(shifted), BLOCK=BLOCK, WIDE=wide,
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    plain_codes = not sensed and adc != LAWS["log"]
    on = launch(vectors, columns, rows, features, noise=noisy.bit_count(), digits=digit > 0, plain=plain_codes)
    planes = -(-dac.bit_length() // digit) if digit else 1
    grid = -(-vectors // on.vectors), -(-columns // on.columns), matrices
    compiled.tiled[grid](
        words, peak, offsets, corners, halves, back, step, zero, limit, variances, loud, noise, digits, unit, base, out,
        vectors, positions, columns, width, row_tiles, rows, idle, image_stride, matrix_stride, x.numel(),
        halves[0].numel(), variances[0].numel() if len(variances) > 1 else 0, thermal, float(codes), numbers[2],
        KIND=kernel_law, FEATURES=features, CHANNELS=channels, WHOLE=read, DAC_STEPS=dac, PER_IMAGE=per_image, LAW=adc,
        LONG=codes >= 2**MOST_BITS, ANALOG=bool(analog), SENSED=bool(sensed), NOISE=noisy, SHIFTED=bool(shifted),
        PLANES=planes, DIGIT=digit, TOGETHER=min(on.digits, planes), IMAGES=bool(images),
        PLAIN=bool(plain and not images), WIDE=wide, ONE=rows <= on.rows,
        BM=on.vectors, BN=on.columns, BK=on.rows, num_warps=on.warps, num_stages=on.stages,
        enable_fp_fusion=True,
    )  # fmt: skip
    return out


@tiled_gpu.register_fake
def _(x: Tensor, peak: Tensor, offsets: Tensor, corners: Tensor, weights: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(len(x), weights.shape[0], weights.shape[-1], len(corners))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors = [a for a in inputs if isinstance(a, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.rest = inputs[len(tensors) :]


DIFFERENTIABLE = (0, 4)
"""Arguments of `tiled_gpu` with gradients: inputs, weights."""


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
