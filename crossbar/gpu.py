"""Method c on a GPU: arrays handed to the Triton kernels, and their results taken back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from devicelab.errors import MissingDependencyError

from .cells import Cells, Ohmic, Sinh
from .compiled import version
from .fast import MAX_HALVINGS, SMOOTH, Fast, bins_of, extremes, one_sided
from .gpu_care import LARGEST_CAREFUL, careful_gpu
from .lines import Line, sent
from .lut_cells import LutCells
from .newton import Circuit
from .optional import loaded, on_its_device

LARGEST_RESIDENT = 64
"""Word or bit lines of a tile whose state a program keeps on chip: beyond it registers spill."""
LARGEST = 1024
"""Bit lines of a tile that the kernels take."""
SINGLE = 1e-5
"""Tolerance down to which float32 cells are solved in float32 throughout; below it sums are float64."""


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched; `bench_cuda.py --tune` says what is best."""

    warps: int
    registers: int | None = None  # most of a thread; more are kept in memory
    programs: int = 1  # most on a multiprocessor, of those with a scratch space


RESIDENT = {16: Launch(1, 96), 32: Launch(2, 168), 64: Launch(8, 128)}
"""Tiles on chip by their side; a thread has four columns of every line of a band of word lines."""
RESIDENT_DOUBLE = {16: Launch(2), 32: Launch(8), 64: Launch(8)}
"""The same with sums in float64."""
BLOCKED = {
    16: Launch(8, None, 2),
    32: Launch(8, None, 2),
    64: Launch(8, None, 2),
    128: Launch(16),
    256: Launch(16),
    512: Launch(16),
    1024: Launch(16),
}
"""Tiles in a scratch space by their columns."""
BLOCKED_DOUBLE = Launch(8)
"""The same with sums in float64, of any size."""
CELLS = 128
"""Of one line of every band that a warp has: four a thread, which it reads at once."""
CACHED = 0.75
"""Share of the second-level cache that scratch spaces of more than one program a multiprocessor may take."""

OHMIC, SINH, TABLE, POLYNOMIAL = 0, 1, 2, 3
CONVERGED = 1


def kernels() -> ModuleType | None:
    """The Triton kernels, or None where Triton is not installed or cannot be used."""
    return loaded("gpu_blocked") and loaded("gpu_kernel")


def suits(circuit: Circuit) -> bool:
    """Whether the kernels can solve this circuit: on a CUDA device, one terminal a line, none floating."""
    return (
        circuit.drive.device.type == "cuda"
        and circuit.floating.none
        and one_sided(circuit)
        and type(circuit.cells) in (Ohmic, Sinh, LutCells)
        and circuit.drive.shape[-1] <= LARGEST
        and kernels() is not None
    )


@dataclass(frozen=True)
class Packed:
    """An array as the kernels read it, for voltages within a range; nothing of it depends on the voltages."""

    flip: _Flip
    tiles: tuple[int, ...]
    real: torch.dtype
    taken: float  # share of `rtol` that a polynomial takes
    arguments: tuple[Any, ...]  # of `newton_gpu`, after the voltages
    limits: tuple[float, float]  # voltages that cells may see [V]
    lines: tuple[Tensor, Tensor]  # resistances before each cell of a word line, and below each of a bit line [ohm]

    def run(self, v_wl: Tensor, v_bl: Tensor | None, *, voltages: bool, careful: bool = False) -> tuple[Tensor, ...]:
        """What `newton_gpu` gives for voltages [*tiles or 1, b, lines]; `careful`: what it gives up, once more."""
        n = self.arguments[0].shape[-1]
        ground = v_wl.new_zeros(1, v_wl.shape[-2], n) if v_bl is None else _stacked(v_bl.detach(), self.tiles)
        drive = self.flip.rows(_stacked(v_wl.detach(), self.tiles), -1)
        drive, ground = (a.to(self.real).contiguous() for a in (drive, self.flip.columns(ground, -1)))
        found: tuple[Tensor, ...] = newton_gpu(drive, ground, *self.arguments, voltages)
        *cells, _, _, _, law, rtol = self.arguments
        if careful and law[0] != OHMIC and max(drive.shape[-1], n) <= LARGEST_CAREFUL:
            careful_gpu(drive, ground, *cells, *self.lines, law, rtol, voltages, *found)
        return found


def packed(circuit: Circuit, low: float, high: float, rtol: float) -> Packed | None:
    """A circuit that `suits`, for voltages `low` to `high` across cells [V]; None if it is too steep."""
    *tiles, _, _, _ = circuit.drive.shape
    cells, flip, stack = circuit.cells, _Flip(circuit), tuple(tiles)
    real = torch.float32 if cells.dtype == torch.float32 and rtol >= SINGLE else torch.float64
    law = _law(cells, low, high, rtol, real)
    if law is None:
        return None
    kind, g, steepness, halvings, nodes, bins, pieces, refine = law
    taken = SMOOTH * rtol if kind == POLYNOMIAL else 0.0
    arguments = (
        torch.stack([flip.cells(_stacked(part, stack)) for part in g]).contiguous(),
        flip.cells(_stacked(steepness, stack)).contiguous(),
        nodes,
        bins,
        pieces,
        _from_ends(flip.columns(flip.rows(_closed(circuit.lines.word), 0), -1)).to(real).contiguous(),
        _from_ends(flip.rows(flip.columns(_closed(circuit.lines.bit), 0), -1).flip(-1))
        .flip(-1)
        .mT.to(real)
        .contiguous(),
        math.prod(stack),
        [kind, halvings, len(g), refine],
        rtol - taken,
    )
    segments = (
        flip.columns(flip.rows(_closed(circuit.lines.word), 0), -1).to(real).contiguous(),
        flip.rows(flip.columns(_closed(circuit.lines.bit), 0), -1).to(real).contiguous(),
    )
    return Packed(flip, stack, real, taken, arguments, (low, high), segments)


def solve_gpu(
    circuit: Circuit,
    v_wl: Tensor,
    v_bl: Tensor | None,
    rtol: float,
    *,
    voltages: bool,
    ends: tuple[float, ...] | None = None,
    careful: bool = False,
) -> Fast | None:
    """The circuit solved by the kernels; None if all of it is too hard for plain Newton steps.

    With known `ends`, and cells that were solved before, it waits once: for what is known of the solution.

    Args:
        circuit: A circuit that `suits`.
        v_wl: Word-line voltages [V], [*tiles or 1, b, m].
        v_bl: Bit-line voltages [V], [*tiles or 1, b, n], or None for ground.
        rtol: Bound on the relative residual.
        voltages: Whether to return cell voltages.
        ends: Least and largest `v_wl` [V], and `v_bl`, where they are known.
        careful: Whether to try hard vectors with care on the device before they are given up; it is done once some are.

    Raises:
        MissingDependencyError: If Triton is not installed.
    """
    if kernels() is None:
        raise MissingDependencyError("the array solver for GPUs needs triton", hint="pip install triton")
    *tiles, b, m, n = circuit.drive.shape
    low, high = extremes(v_wl, v_bl, ends)
    pack = packed(circuit, -_rounded_up(-low), _rounded_up(high), rtol)
    if pack is None:
        return None
    i, v, reached, residual, counts = pack.run(v_wl, v_bl, voltages=voltages, careful=careful)
    hard = (counts[..., 0] != CONVERGED).reshape(-1, b).any(0)
    worst, low, high, most, lost, every = torch.stack(
        [
            residual.max().double(),
            reached.min().double(),
            reached.max().double(),
            counts[..., 1].max().double(),
            hard.any().double(),
            hard.all().double(),
        ]
    ).tolist()
    if lost and not careful:
        return solve_gpu(circuit, v_wl, v_bl, rtol, voltages=voltages, ends=ends, careful=True)
    if every:
        return None
    if lost:
        worst = residual.reshape(-1, b)[:, ~hard].max().item()
    else:
        hard = torch.zeros(b, dtype=torch.bool, device="cpu")  # where nobody waits to see it
    return Fast(
        pack.flip.columns(i, -1).reshape(*tiles, b, n).double(),
        pack.flip.cells(v).reshape(*tiles, b, m, n).double() if voltages else None,
        (low, high),
        worst + pack.taken,
        int(most),
        hard,
    )


def _rounded_up(v: float) -> float:
    """Up to 9 % more, so that there are few ranges, and few polynomials made for them."""
    return 2.0 ** (math.ceil(8 * math.log2(v)) / 8) if v > 0 else v


class _Flip:
    """Arrays turned so that word lines are driven at column 0 and bit lines sensed below the last row."""

    def __init__(self, circuit: Circuit) -> None:
        self._rows = circuit.lines.bit.from_end is None
        self._columns = circuit.lines.word.from_end is not None

    def rows(self, a: Tensor, axis: int) -> Tensor:
        return a.flip(axis) if self._rows and a.shape[axis] > 1 else a

    def columns(self, a: Tensor, axis: int) -> Tensor:
        return a.flip(axis) if self._columns and a.shape[axis] > 1 else a

    def cells(self, a: Tensor) -> Tensor:
        return self.columns(self.rows(a, -2), -1)


def _closed(line: Line) -> Tensor:
    """Resistances on the closed side of each node, [lines or 1, nodes]."""
    return (line.before if line.from_end is None else line.after).detach()


def _from_ends(segments: Tensor) -> Tensor:
    """Resistances from the ends of lines to their nodes, [lines or 1, nodes]."""
    return segments.double().cumsum(-1)


def _stacked(a: Tensor, tiles: tuple[int, ...]) -> Tensor:
    """[*tiles or fewer, p, q] as [tiles or 1, p, q]."""
    if math.prod(a.shape[:-2]) == 1:
        return a.reshape(1, *a.shape[-2:])
    return a.expand(*tiles, *a.shape[-2:]).reshape(-1, *a.shape[-2:])


Law = tuple[int, Tensor, Tensor, int, Tensor, Tensor, Tensor, int]


def _law(cells: Cells, low: float, high: float, rtol: float, real: torch.dtype) -> Law | None:
    """Kind of cell and its parameters; None if the non-linearity is beyond the kernels."""
    none = torch.zeros(1, dtype=real, device=cells.device)
    whole = torch.zeros(1, dtype=torch.int32, device=cells.device)
    if isinstance(cells, Ohmic):
        g = cells.g.detach()
        return OHMIC, g[None], g, 0, none, whole, none, 0
    if isinstance(cells, Sinh):
        span = max(-low, high)
        halvings = max(0, math.ceil(math.log2(max(_steepest(cells) * span, 1e-9) / 0.5)))
        if halvings > MAX_HALVINGS:
            return None
        tiny = 1e-8 / max(span, 1e-9)  # ohmic to rounding
        return SINH, cells.g.detach()[None], cells.b.detach().clamp_min(tiny), halvings, none, whole, none, 0
    if isinstance(cells, LutCells):
        amplitudes = cells.amplitudes().detach().to(cells.dtype)
        nodes = cells.nodes
        inside = max(low, cells.ends[0]), min(high, cells.ends[1])
        smooth = cells.polynomial(*inside, SMOOTH * rtol)
        if smooth is not None:
            ends = sent(torch.tensor(inside, dtype=real, device="cpu"), cells.device)
            coefficients = sent(smooth.to(real).contiguous(), cells.device)
            return POLYNOMIAL, amplitudes, amplitudes[0], 0, ends, whole, coefficients, smooth.shape[1]
        bins = bins_of(cells.voltages)
        pieces = cells.pieces.detach().permute(2, 0, 1).to(real).contiguous()
        refine = int(np.diff(bins, append=len(nodes) - 2).max())
        starts = sent(torch.from_numpy(bins.astype(np.int32)), cells.device)
        return TABLE, amplitudes, amplitudes[0], 0, nodes.to(real), starts, pieces, refine
    raise TypeError(type(cells).__name__)


_STEEPEST: WeakKeyDictionary[Sinh, tuple[Tensor, int, float]] = WeakKeyDictionary()


def _steepest(cells: Sinh) -> float:
    """Largest non-linearity of sinh cells [1/V], looked up once."""
    b, now = cells.b, version(cells.b)
    kept = _STEEPEST.get(cells)
    if kept is None or kept[0] is not b or kept[1] != now or b.is_inference():
        kept = b, now, float(b.detach().max())
        _STEEPEST[cells] = kept
    return kept[2]


@torch.library.custom_op("devicelab::newton_gpu", mutates_args=())
@on_its_device
def newton_gpu(
    v_wl: Tensor,
    v_bl: Tensor,
    g: Tensor,
    steepness: Tensor,
    nodes: Tensor,
    bins: Tensor,
    pieces: Tensor,
    word: Tensor,
    bit: Tensor,
    tiles: int,
    law: list[int],
    rtol: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Newton's method for every input vector on every tile.

    Args:
        v_wl: Word-line voltages [V], [tiles or 1, b, m]; their type is that of all sums.
        v_bl: Bit-line voltages [V], [tiles or 1, b, n].
        g: Conductances [S] or amplitudes of a table, [ranks, tiles or 1, m, n].
        steepness: Of sinh cells [1/V], [tiles or 1, m, n].
        nodes: Of a table, or the ends of a polynomial's range [V].
        bins: Piece in which each of a row of equal bins starts, int32.
        pieces: Cubic coefficients of a table, [nodes - 1, ranks, 4], or of polynomials, [ranks, terms].
        word: Resistances from the driver of a word line to each of its cells [ohm], [1 or m, n].
        bit: Resistances from each cell of a bit line to its sense [ohm], [m, 1 or n].
        tiles: Number of tiles.
        law: Kind of cell, doublings of sinh, rank of the table, nodes in one bin or terms of a polynomial.
        rtol: Bound on the relative residual.
        keep: Whether to return cell voltages.

    Returns:
        Output currents [A], [tiles, b, n]; cell voltages [V], [tiles, b, m, n] or no tiles; their extremes [V],
        [tiles, b, 2]; residuals [tiles, b]; status and applications of the line operator, [tiles, b, 2].
    """
    compiled, in_blocks = kernels(), loaded("gpu_blocked")
    if compiled is None or in_blocks is None:
        raise MissingDependencyError("the array solver for GPUs needs triton", hint="pip install triton")
    kind, halvings, ranks, refine = law
    b, m, n = v_wl.shape[1], v_wl.shape[2], v_bl.shape[2]
    results = _empty(v_wl, v_bl, tiles, keep)
    sizes = (m, n, b)
    strides = (
        b * m if v_wl.shape[0] > 1 else 0,
        b * n if v_bl.shape[0] > 1 else 0,
        m * n if g.shape[1] > 1 else 0,
        g.shape[1] * m * n,
        len(nodes),
        len(bins),
        rtol,
    )
    choices = {
        "KIND": kind,
        "HALVINGS": halvings,
        "RANKS": ranks,
        "REFINE": refine,
        "WORDS_ALIKE": word.shape[0] == 1,
        "BITS_ALIKE": bit.shape[1] == 1,
        "KEEP": keep,
        "ACC": compiled.tl.float64 if v_wl.dtype == torch.float64 else compiled.tl.float32,
    }
    columns = max(16, _power_of_two(n))
    single = v_wl.dtype == torch.float32
    inputs = (v_wl, v_bl, g, steepness, nodes, bins, pieces, word, bit)
    if max(m, n) <= LARGEST_RESIDENT:
        side = max(16, _power_of_two(max(m, n)))
        launch = on_chip(side, single=single)
        compiled.resident[(tiles * b,)](
            *inputs,
            *results,
            *sizes,
            *strides,
            **blocks(launch, side, side),
            **_options(launch),
            **choices,
        )
        return results
    launch = in_scratch(columns, single=single)
    block = blocks(launch, columns, None)
    cells = -(-m // block["BANDS"]) * block["BANDS"] * columns
    programs = min(tiles * b, _programs(v_wl.device, cells * (16 if single else 32), launch.programs))
    scratch = (
        torch.empty(programs, 3 if single else 4, cells, dtype=torch.float32, device=v_wl.device),
        torch.empty(programs, 1 if single else 2, cells, dtype=v_wl.dtype, device=v_wl.device),
    )
    in_blocks.blocked[(programs,)](
        *inputs, *scratch, *results, *sizes, tiles * b, *strides, **block, **_options(launch), **choices
    )
    return results


@newton_gpu.register_fake
def _(v_wl: Tensor, v_bl: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *_, tiles, _law, _rtol, keep = rest
    return _empty(v_wl, v_bl, tiles, keep)


def _empty(v_wl: Tensor, v_bl: Tensor, tiles: int, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    b, m, n = v_wl.shape[1], v_wl.shape[2], v_bl.shape[2]
    return (
        v_wl.new_empty(tiles, b, n),
        v_wl.new_empty(tiles if keep else 0, b, m, n),
        v_wl.new_empty(tiles, b, 2, dtype=torch.float32),
        v_wl.new_empty(tiles, b, dtype=torch.float32),
        v_wl.new_empty(tiles, b, 2, dtype=torch.int32),
    )


def _power_of_two(a: int) -> int:
    return 1 << (a - 1).bit_length()


def on_chip(side: int, *, single: bool) -> Launch:
    """How tiles on chip are solved."""
    return (RESIDENT if single else RESIDENT_DOUBLE)[side]


def in_scratch(columns: int, *, single: bool) -> Launch:
    """How tiles in a scratch space are solved."""
    return BLOCKED[columns] if single else BLOCKED_DOUBLE


def blocks(launch: Launch, columns: int, rows: int | None) -> dict[str, int]:
    """Sizes of bands of word lines, for kernels that hold all `rows` or, without a number, go down the bands."""
    bands = max(1, CELLS * launch.warps // columns)
    if rows is None:
        return {"BANDS": bands, "COLUMNS": columns}
    bands = min(rows, bands)
    return {"BANDS": bands, "DEPTH": rows // bands, "COLUMNS": columns}


def _options(launch: Launch) -> dict[str, int]:
    """What Triton is told; limits of registers where they are known, on NVIDIA's chips."""
    most = {"maxnreg": launch.registers} if launch.registers and torch.version.cuda else {}
    return {"num_warps": launch.warps, "enable_fp_fusion": True, **most}


def _programs(device: torch.device, each: int, most: int) -> int:
    """Programs that run at once, of which each needs `each` bytes of scratch space; two on the interpreter.

    As many as fit `CACHED` of the second-level cache, but one to `most` a multiprocessor, and no more than a quarter of
    the free memory holds.
    """
    if device.type != "cuda":
        return 2
    chip = torch.cuda.get_device_properties(device)
    processors = chip.multi_processor_count
    fitting = int(CACHED * getattr(chip, "L2_cache_size", 0)) // each // processors
    free = torch.cuda.mem_get_info(device)[0] // 4
    return max(1, min(processors * max(1, min(fitting, most)), free // each))
