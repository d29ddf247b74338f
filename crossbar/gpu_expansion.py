"""Non-linear arrays whose lines take little, on a GPU: `expansion`'s series packed for its Triton kernels, and used.

Bounds and sweeps are those of the CPU's series, found once for what was written. A matrix whose tiles all need one
sweep goes to `first`, others to `swept`, which holds a tile of up to `LARGEST` on chip; larger ones are solved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from devicelab.errors import MissingDependencyError

from . import expansion
from .compiled import version
from .converters import steps
from .expansion import Certified
from .gpu_packing import binned
from .gpu_product import MOST_BITS, _line, _places
from .layout import Layout
from .optional import loaded, on_its_device
from .windows import Image, Source

if TYPE_CHECKING:
    from .chip import Written
    from .config import Config
    from .mapping import TiledMatrix

LARGEST = 128, 64 * 128
"""Lines and cells of a tile that is swept, lines filled up to powers of two: beyond it shared memory is short."""
HALF = 2.0**-11
"""What half precision leaves out of a number, relative to it."""
SHARE = 0.98
"""Of the tolerance that the series and half precision may take together; the rest is for float32."""
BLOCK = 32
"""Bit lines that a thread of `first` takes one vector through; half as many where cells have several terms."""
FIRST_VECTORS = 128
FIRST_WARPS = 4


def kernels() -> ModuleType | None:
    """The Triton kernels, or None where Triton is not installed or cannot be used."""
    return loaded("gpu_expansion_kernel")


@dataclass(frozen=True)
class Tiles:
    """A matrix's tiles as the kernels read them; nothing of it depends on inputs or converters."""

    swept: bool
    tensors: dict[str, Tensor]
    sizes: dict[str, int]  # BV, RP and CP of `swept`, BN of `first`
    choices: dict[str, int]  # of the kernels
    numbers: dict[str, float]
    scale: float  # of the cells' currents in `tensors`
    flipped: bool  # word lines in reverse order
    lines: dict[Any, Tensor] = field(default_factory=dict)  # places of inputs, made once

    @staticmethod
    def of(found: Certified, layout: Layout, config: Config, device: torch.device) -> Tiles | None:
        """The tiles of one matrix; None where some have to be swept and are too large."""
        swept = int(found.sweeps.max()) > 1
        filled = _filled(config)
        if swept and (max(filled) > LARGEST[0] or math.prod(filled) > LARGEST[1]):
            return None
        tensors, sizes, choices, numbers, scale = (_whole if swept else _planes)(found, layout, config)
        law = found.law
        nodes = torch.zeros(1, device="cpu") if law.nodes is None else law.nodes
        bins, refine = (torch.zeros(1, device="cpu"), 0) if law.nodes is None else binned(nodes)
        tensors |= {"nodes": nodes, "bins": bins.to(torch.int32), "coefficients": law.coefficients}
        choices |= {
            "RANKS": found.amplitudes.shape[0],
            "TERMS": law.coefficients.shape[-1],
            "TABLE": law.nodes is not None,
            "REFINE": int(refine),
        }
        numbers |= {"per_volt": config.v_read / law.span if law.span else 0.0, "v_read": config.v_read}
        placed = {name: a.contiguous().to(device) for name, a in tensors.items()}
        return Tiles(swept, placed, sizes, choices, numbers, scale, found.flip_rows)

    def part(self, row: int, slice_: int, channel: int) -> Tiles:
        """One row of tiles, and one slice of weights (when swept), or one channel of it."""
        tensors = dict(self.tensors)
        if self.swept:
            for name in ("cells", "sweeps"):
                tensors[name] = tensors[name][:, slice_ : slice_ + 1, :, row : row + 1].contiguous()
        else:
            tensors["planes"] = tensors["planes"][:, channel : channel + 1, row : row + 1].contiguous()
            if not self.choices["EVEN"]:
                tensors["bit"] = tensors["bit"][channel : channel + 1].contiguous()
        return Tiles(self.swept, tensors, self.sizes, self.choices, self.numbers, self.scale, self.flipped, self.lines)


Pack = tuple[dict[str, Tensor], dict[str, int], dict[str, int], dict[str, float], float]


def _columns(layout: Layout, config: Config, flipped: bool) -> tuple[Tensor, Tensor | None, int]:
    """Bit lines of a tile's outputs, those that are subtracted, and the array in which these are."""
    pairs = expansion._pairs(layout, config, flipped)
    plus, minus = pairs.unbind(1)
    wide = config.columns + config.columns % 2
    return plus, None if int(minus[0]) < 0 else minus % wide, int(minus[0]) // wide


def _planes(found: Certified, layout: Layout, config: Config) -> Pack:
    """What `first` reads of the cells: for every term of their law, amplitudes, and what word lines take of them.

    With one term the latter is multiplied with the amplitude, so that the kernel needs no conductance of its own. Where
    the resistances below cells are alike, they are factored out.
    """
    plus, minus, array = _columns(layout, config, found.flip_columns)
    a, bit = found.amplitudes, found.bit
    fallen = expansion._word_drops(a, found.word)
    even, last = float(bit[0, 0]), float(bit[-1, 0])
    alike = even > 0 and bool((bit[:-1] == even).all() and (bit[-1] == last).all())
    fallen = (a * fallen if len(a) == 1 else fallen) / (even if alike else 1.0)
    both = torch.stack([a, fallen], dim=1)  # [ranks, 2, M, S, P, R, K, rows, columns]
    parts = [both[:, :, :, :, 0][..., plus]]
    below = [bit[:, plus]]
    if minus is not None:
        parts.append(both[:, :, :, :, array][..., minus])
        below.append(bit[:, minus])
    apart = layout.apart == 2
    stacked = torch.stack(parts, dim=4)  # [ranks, 2, M, S, parts, R, K, rows, outputs]
    stacked = stacked.flatten(3, 4).unsqueeze(4) if apart else stacked  # channels, parts
    n_parts = stacked.shape[4]
    many = layout.column_tiles * layout.outputs * n_parts > BLOCK // 2
    block = BLOCK if many and len(a) == 1 else BLOCK // 2
    each = block // n_parts
    missing = -(layout.column_tiles * layout.outputs) % each

    def blocks(side_by_side: Tensor) -> Tensor:
        """[parts, ..., K outputs] as [..., blocks, parts, each]."""
        found: Tensor = torch.nn.functional.pad(side_by_side, (0, missing)).unflatten(-1, (-1, each)).movedim(0, -2)
        return found

    order = stacked.permute(4, 2, 3, 5, 7, 0, 1, 6, 8)  # [parts, M, C, R, rows, ranks, 2, K, outputs]
    resistances = torch.stack(below).repeat(1, 1, layout.column_tiles)  # [parts, rows, K outputs]
    each_channel = [resistances[k : k + 1] for k in range(len(parts))] * config.slices if apart else [resistances]
    each_channel = each_channel if apart else each_channel * config.slices
    tensors = {
        "planes": blocks(order.flatten(-2)).float(),
        "bit": torch.zeros(1, device="cpu") if alike else torch.stack([blocks(r) for r in each_channel]).float(),
    }
    sizes = {"BN": block, "width": layout.column_tiles * layout.outputs + missing}
    return tensors, sizes, {"PARTS": n_parts, "EVEN": alike}, {"even": even, "last": last}, 1.0


def _whole(found: Certified, layout: Layout, config: Config) -> Pack:
    """What `swept` reads of the cells and lines: amplitudes of whole tiles, and the resistances that cells share.

    Currents and resistances are scaled by powers of two to where half precision is at its best.
    """
    rows, columns = config.rows, config.columns
    rp, cp = _filled(config)
    bv = max(1, 64 // rp)
    word, bit = found.word, found.bit
    a = found.amplitudes
    terms = found.law.largest(config.v_read, len(a)).view(-1, *(1,) * (a.dim() - 1))
    largest = (a.abs() * terms).sum(0).max()
    scale = 2.0 ** math.floor(math.log2(256.0 / float(largest)))
    alike = bool((word == word[:1]).all() and (bit == bit[:, :1]).all())
    exact, unit = False, 1.0 / scale
    if alike:
        down = torch.zeros(rp, rp, dtype=torch.float64, device="cpu")
        across = torch.zeros(cp, cp, dtype=torch.float64, device="cpu")
        before, below = word[0].cumsum(0), bit[:, 0].flip(0).cumsum(0).flip(0)
        across[:columns, :columns] = torch.minimum(before[:, None], before)
        down[:rows, :rows] = torch.minimum(below[:, None], below)
        finest = 2.0 ** math.floor(math.log2(1024.0 / max(float(across.max()), float(down.max()))))
        unit /= finest
        (across, exact_across), (down, exact_down) = _halves(across * finest), _halves(down * finest)
        lines = {
            "word": across,
            "bit": torch.stack([torch.kron(torch.eye(bv, device="cpu").half(), half) for half in down]),
        }
        exact = exact_across and exact_down
    else:
        pad = (0, cp - columns, 0, rp - rows)
        lines = {name: torch.nn.functional.pad(r, pad).float() for name, r in (("word", word), ("bit", bit))}
    plus, minus, _ = _columns(layout, config, found.flip_columns)
    in_order = torch.arange(layout.outputs, device="cpu")
    arrays = layout.shape[2]
    picked = not torch.equal(plus, in_order) or (minus is not None and not torch.equal(minus, in_order))
    cells = torch.nn.functional.pad(a * scale, (0, cp - columns, 0, rp - rows)).movedim(0, -3)
    coarse = found.spent + HALF * found.echo * (1 if exact else 2)
    tensors = lines | {
        "cells": cells.float(),
        "sweeps": found.sweeps.to(torch.int32),
        "plus": torch.nn.functional.pad(plus, (0, cp - len(plus))).to(torch.int32),
        "minus": torch.nn.functional.pad(plus if minus is None else minus, (0, cp - len(plus))).to(torch.int32),
    }
    choices = {
        "ARRAYS": arrays,
        "MINUS": minus is not None,
        "APART": layout.apart,
        "PICK": picked,
        "ALIKE": alike,
        "EXACT": exact,
        "FINE": bool((coarse > SHARE * config.rtol).any()),
    }
    sizes = {"BV": bv, "RP": rp, "CP": cp, "width": layout.column_tiles * layout.outputs}
    return tensors, sizes, choices, {"unit": unit}, scale


def _filled(config: Config) -> tuple[int, int]:
    """Word and bit lines of a tile, with those that are not there."""
    rows, columns = (max(16, 1 << (n - 1).bit_length()) for n in (config.rows, config.columns))
    return rows, columns


def _halves(a: Tensor) -> tuple[Tensor, bool]:
    """Numbers as two halves that add up to them, [2, ...]; and whether the first one is enough."""
    high = a.half()
    low = (a - high.double()).half()
    return torch.stack([high, low]), not bool(low.any())


_KEPT: WeakKeyDictionary[TiledMatrix, tuple[Tensor, int, Tiles | None]] = WeakKeyDictionary()
_READOUT: WeakKeyDictionary[TiledMatrix, tuple[list[Any], dict[str, Tensor]]] = WeakKeyDictionary()


def suits(chip: TiledMatrix, x: Tensor) -> bool:
    """Whether a series may be used: arrays to be solved, voltages in proportion to inputs, float32 on a GPU."""
    c = chip.config
    return (
        chip._solved
        and x.device.type == "cuda"
        and x.dtype == torch.float32
        and c.rtol >= expansion.LEAST
        and c.dac.encoding != "pulse-width"
        and not torch.compiler.is_compiling()
        and kernels() is not None
    )


def series(chip: TiledMatrix, x: Tensor, written: Written) -> Tiles | None:
    """A series that stands for the solution of what was written; None: none does, or gradients are wanted.

    It is made once after a write, on the CPU. Shared tiles, on which other lines idle, are solved.
    """
    g = written.g
    if (
        not suits(chip, x)
        or written.seen is not None
        or (torch.is_grad_enabled() and (x.requires_grad or g.requires_grad))
    ):
        return None
    kept, now = _KEPT.get(chip), version(g)
    if kept is None or kept[0] is not g or kept[1] != now:
        found = Certified.of(chip._lut_cells(g.detach().cpu(), 2 * chip.config.v_read), chip.config)
        kept = g, now, None if found is None else Tiles.of(found, chip.layout, chip.config, x.device)
        _KEPT[chip] = kept
    return kept[2]


def fused(chip: TiledMatrix, x: Tensor, written: Written) -> Tiles | None:
    """The series, where the kernels have all that lies between inputs and results too."""
    c = chip.config
    converter = c.adc.bits is None or (c.adc.law == "linear" and c.adc.bits <= MOST_BITS)
    if (
        not converter
        or (c.dac.bits or 0) > MOST_BITS
        or c.dac.encoding == "bit-serial"
        or c.devices.read_noise
        or c.devices.bandwidth
        or chip.watching
    ):
        return None
    return series(chip, x, written)


def product(chip: TiledMatrix, source: Source, tiles: Tiles) -> Tensor:
    """What the arrays answer, in the shape and units of the result."""
    lay, c = chip.layout, chip.config
    if chip.has_input_range:
        peak = chip.input_range.view(1)
    else:
        peak = source.peaks().flatten()
        peak = torch.where(peak >= torch.finfo(peak.dtype).tiny, peak, 1.0)  # smaller ones have no reciprocal
    if isinstance(source, Image):
        offsets, corners, size = _places(source.window, source.channels, source.spatial, source.x.device)
        area = math.prod(source.spatial)
        strides = lay.matrices * source.channels * area, source.channels * area
        key: Any = source.window, source.channels, source.spatial
    else:
        offsets, corners, size = _line(chip.n_in, source.x.device)
        strides, key = (chip.n_in, 0), None
    readout = _readout(chip, tiles)
    unit = chip.top / ((chip.devices_on_chip.high - chip.devices_on_chip.low) * c.v_read)
    dac = 0 if c.dac.bits is None else steps(c.dac.bits)
    codes = 0 if c.adc.bits is None else steps(c.adc.bits)
    sensed = not (chip.offset is None and c.sense.saturation is None)
    analog = readout["step"].shape[2] < lay.row_tiles or lay.row_tiles == 1
    out = _run(
        tiles,
        source.x,
        peak.reciprocal(),
        _lines(chip, tiles, offsets, key),
        corners,
        readout,
        unit * peak,
        [len(corners), lay.n_out, *strides],
        [dac, chip.has_input_range, codes, analog, sensed, c.scheme == "offset"],
    )
    if isinstance(source, Image):
        return out.reshape(len(source.x), lay.matrices * lay.n_out, *size)
    return out.reshape(len(source.x), lay.n_out)


def _lines(chip: TiledMatrix, tiles: Tiles, offsets: Tensor, key: Any) -> Tensor:
    """Where every word line's input lies, [R, rows] or [R, RP]; -1: at ground. Kept for a shape of inputs."""
    order = chip.order_in
    key = key, None if order is None else (id(order), version(order))
    if key not in tiles.lines:
        lay, rows = chip.layout, chip.config.rows
        lines = offsets if order is None else offsets[order]
        lines = torch.nn.functional.pad(lines, (lay.idle_rows, 0), value=-1).view(lay.row_tiles, rows)
        tiles.lines[key] = _turned(lines, tiles)
    return tiles.lines[key]


def _turned(lines: Tensor, tiles: Tiles) -> Tensor:
    """Lines in the order of the kernels, those that are not there at ground."""
    lines = lines.flip(-1) if tiles.flipped else lines
    missing = tiles.sizes["RP"] - lines.shape[-1] if tiles.swept else 0
    return torch.nn.functional.pad(lines, (0, missing), value=-1).to(torch.int32).contiguous()


def _readout(chip: TiledMatrix, tiles: Tiles) -> dict[str, Tensor]:
    """Converters, and where results belong; made once for what they are."""
    made_of = [(a, version(a)) for a in (chip.adc_range, chip.gain, chip.offset, chip.order_out)]
    kept = _READOUT.get(chip)
    if (
        kept is None
        or kept[0][0] is not tiles
        or any(a is not b or i != j for (a, i), (b, j) in zip(kept[0][1:], made_of, strict=True))
    ):
        kept = [tiles, *made_of], _converters(chip, tiles)
        _READOUT[chip] = kept
    return kept[1]


def _converters(chip: TiledMatrix, tiles: Tiles) -> dict[str, Tensor]:
    lay, c, like = chip.layout, chip.config, chip.g
    codes = 0 if c.adc.bits is None else steps(c.adc.bits)
    sensed = chip.gain is not None or chip.offset is not None or c.sense.saturation is not None
    # without anything between them, tiles below each other are added as if by wires
    r = lay.row_tiles if c.partial_sums != "analog" and (codes or sensed) else 1
    shape = lay.matrices, r, lay.channels, lay.column_tiles * lay.outputs
    step = (chip.adc_range / codes).clamp_min(torch.finfo(like.dtype).tiny) if codes else like.new_ones(())
    step = step.expand(shape)
    gain = step.reciprocal() if chip.gain is None else chip.gain / step
    zero = torch.zeros_like(step) if chip.offset is None else chip.offset / step
    limit = (c.sense.saturation * chip.full_scale if c.sense.saturation is not None else torch.inf) / step
    weights = lay.coefficients()
    to = torch.arange(lay.n_out, device=like.device) if chip.order_out is None else chip.order_out
    width = tiles.sizes["width"]

    def columns(a: Tensor) -> Tensor:
        """[M, r, channels, K outputs] as [M, channels, r, width]."""
        return torch.nn.functional.pad(a.transpose(1, 2), (0, width - a.shape[-1])).contiguous()

    found = {
        "step": columns(torch.stack([step[:, :, k] * w for k, w in enumerate(weights)], dim=2)),
        "gain": columns(gain / tiles.scale),
        "zero": columns(zero),
        "limit": columns(limit),
        "to": torch.nn.functional.pad(to, (0, width - lay.n_out), value=-1).to(torch.int32),
        "base": like.new_zeros(1),
    }
    if c.scheme == "offset":
        low, high = chip.devices_on_chip.low, chip.devices_on_chip.high
        middle = chip.devices_on_chip.level(low + (high - low) * lay.zero(found["base"]))
        found["base"] = ((middle * torch.stack([like.new_full((), w) for w in weights])).sum() * c.v_read).view(1)
    return found


def currents(chip: TiledMatrix, u: Tensor, tiles: Tiles) -> Tensor:
    """Column currents [A], [M, R, b, channels, K outputs], for inputs in -1..1, [M, R, b, rows]."""
    lay = chip.layout
    matrices, down, batch, rows = u.shape
    width, n = tiles.sizes["width"], lay.column_tiles * lay.outputs
    one = u.new_ones(1)
    zero = torch.zeros(1, dtype=torch.int32, device=u.device)
    lines = _turned(torch.arange(rows, device=u.device).unsqueeze(0), tiles)
    to = torch.nn.functional.pad(torch.arange(n, device=u.device), (0, width - n), value=-1).to(torch.int32)
    apart = lay.apart if tiles.swept else 1
    out = u.new_empty(lay.channels, down, batch, matrices, n)
    for channel in range(lay.channels):
        step = u.new_zeros(matrices, apart, 1, width)
        step[:, channel % apart] = 1.0
        plain = torch.full_like(step, 1.0 / tiles.scale)
        readout = {"step": step, "gain": plain, "zero": plain, "limit": plain, "to": to, "base": torch.zeros_like(one)}
        for r in range(down):
            found = _run(
                tiles.part(r, channel // lay.apart, channel),
                u[:, r].transpose(0, 1).contiguous(),
                one,
                lines,
                zero,
                readout,
                one,
                [1, n, matrices * rows, rows],
                [0, False, 0, True, False, False],
            )
            out[channel, r] = found[..., 0]
    return out.permute(3, 1, 2, 0, 4)


def _run(
    tiles: Tiles,
    x: Tensor,
    per_unit: Tensor,
    lines: Tensor,
    corners: Tensor,
    readout: dict[str, Tensor],
    factor: Tensor,
    sizes: list[int],
    choices: list[int],
) -> Tensor:
    t, none = tiles.tensors, readout["to"][:0]
    out: Tensor = series_gpu(
        x.contiguous(),
        per_unit,
        lines,
        corners,
        t["cells" if tiles.swept else "planes"],
        t["sweeps"] if tiles.swept else none,
        t["word"] if tiles.swept else none,
        t["bit"],
        t["plus"] if tiles.swept else none,
        t["minus"] if tiles.swept else none,
        *(readout[name] for name in ("step", "gain", "zero", "limit", "to")),
        *(t[name] for name in ("nodes", "bins", "coefficients")),
        factor,
        readout["base"],
        sizes,
        [tiles.swept, *choices],
        list(tiles.sizes.values()),
        list(tiles.choices.values()),
        list(tiles.numbers.values()),
    )
    return out


@torch.library.custom_op("devicelab::series_gpu", mutates_args=())
@on_its_device
def series_gpu(
    x: Tensor,
    per_unit: Tensor,
    lines: Tensor,
    corners: Tensor,
    cells: Tensor,
    sweeps: Tensor,
    word: Tensor,
    bit: Tensor,
    plus: Tensor,
    minus: Tensor,
    step: Tensor,
    gain: Tensor,
    zero: Tensor,
    limit: Tensor,
    to: Tensor,
    nodes: Tensor,
    bins: Tensor,
    coefficients: Tensor,
    factor: Tensor,
    base: Tensor,
    sizes: list[int],
    choices: list[int],
    tile: list[int],
    law: list[int],
    numbers: list[float],
) -> Tensor:
    """Products on non-linear cells between lines, from inputs to converted sums, [images, M, n_out, positions].

    Args:
        x: Inputs, [images, ...].
        per_unit: Reciprocal of the largest input, of all or of every image.
        lines: Where the inputs of word lines lie from the corner of a window, [R, rows]; -1: at ground.
        corners: Where windows begin, [positions].
        cells: Planes of `first`, or amplitudes for `swept`; see `gpu_expansion_kernel`.
        sweeps: Of every tile, for `swept`, as the next four.
        word: Resistances that cells of a word line share, or before each cell.
        bit: Resistances of bit lines; for `first` below each cell, where they differ.
        plus: Bit line of each output.
        minus: The one that is subtracted.
        step: A a code, [M, channels, R or 1, width].
        gain: Codes a unit of the cells' currents, like `step`.
        zero: Code at no current, like `step`.
        limit: Codes at which the integrator saturates, like `step`.
        to: Which result a column gives, [width]; -1: none.
        nodes: Of a table [V].
        bins: Piece in which each of a row of equal bins starts.
        coefficients: Of polynomials, [planes, terms], or of a table, [pieces, planes, 4].
        factor: Of the results, of all or of every image.
        base: What is taken off for every unit of the inputs' sum, [1].
        sizes: Positions, results; from image to image and from matrix to matrix in `x`.
        choices: Whether tiles are swept, DAC steps, whether to clamp, ADC steps, whether tiles are added before they
            are converted, whether there is a sense circuit, an offset.
        tile: `Tiles.sizes`.
        law: `Tiles.choices`.
        numbers: `Tiles.numbers`.
    """
    compiled = kernels()
    if compiled is None:
        raise MissingDependencyError("series on a GPU need triton", hint="pip install triton")
    positions, n_out, image_stride, matrix_stride = sizes
    swept, dac, clamp, codes, analog, sensed, shifted = choices
    matrices, channels = step.shape[:2]
    images = len(x)
    out = x.new_empty(images, matrices, n_out, positions)
    vectors = images * positions
    if not out.numel():
        return out
    laws = ("RANKS", "TERMS", "TABLE", "REFINE")
    named = dict(zip((*(SWEPT_CHOICES if swept else FIRST_CHOICES), *laws), law, strict=True))
    named |= {"DAC_STEPS": dac, "CLAMP": bool(clamp), "CONVERT": codes > 0, "ANALOG": bool(analog)}
    named |= {"SENSED": bool(sensed), "SHIFTED": bool(shifted), "enable_fp_fusion": True}
    given = {name: bool(value) if name in SWITCHES else value for name, value in named.items()}
    head = x, per_unit, lines, corners, cells
    tail = step, gain, zero, limit, to, nodes, bins, coefficients, factor, base, out, vectors, positions
    strides = image_stride, matrix_stride, len(nodes), len(bins)
    per_image = int(len(per_unit) > 1)
    if swept:
        unit, per_volt, v_read = numbers
        bv, rp, cp, width = tile
        row_tiles, across = sweeps.shape[3:]
        compiled.swept[-(-vectors // bv), across, matrices](
            *head, sweeps, word, bit, plus, minus, *tail, width, n_out, row_tiles, width // across, *strides,
            per_volt, v_read, float(codes), unit, per_image, SLICES=sweeps.shape[1], BV=bv, RP=rp, CP=cp,
            num_warps=max(4, bv * rp * cp // 1024), **given,
        )  # fmt: skip
        return out
    even, last, per_volt, v_read = numbers
    block, width = tile
    row_tiles, rows = lines.shape
    many = vectors > FIRST_VECTORS // FIRST_WARPS
    vectors_each, warps = (FIRST_VECTORS, FIRST_WARPS) if many else (FIRST_VECTORS // FIRST_WARPS, 1)
    compiled.first[-(-vectors // vectors_each), width * given["PARTS"] // block, matrices](
        *head, bit, *tail, width, n_out, row_tiles, rows, *strides, per_volt, v_read, float(codes), even, last,
        per_image, CHANNELS=channels, BM=vectors_each, BN=block, num_warps=warps, **given,
    )  # fmt: skip
    return out


FIRST_CHOICES = ("PARTS", "EVEN")
SWEPT_CHOICES = ("ARRAYS", "MINUS", "APART", "PICK", "ALIKE", "EXACT", "FINE")
SWITCHES = ("EVEN", "TABLE", "MINUS", "PICK", "ALIKE", "EXACT", "FINE")


@series_gpu.register_fake
def _(x: Tensor, per_unit: Tensor, lines: Tensor, corners: Tensor, cells: Tensor, *rest: Any) -> Tensor:
    step, sizes = rest[5], rest[-5]
    return x.new_empty(len(x), step.shape[0], sizes[1], sizes[0])
