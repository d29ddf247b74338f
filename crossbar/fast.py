"""Method c on a CPU: arrays packed for the compiled kernel, and its results unpacked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from devicelab.errors import MissingDependencyError

from .cells import Cells, Ohmic, Sinh
from .lines import Line
from .lut_cells import LutCells
from .newton import Circuit
from .optional import loaded

Array = NDArray[Any]

SMOOTH = 0.1
"""Share of the tolerance of the solution that a polynomial that stands for a table may take."""

MAX_HALVINGS = 9
"""Doublings of sinh in the kernel; beyond sinh(256) an array needs the careful steps of `newton`."""


@dataclass(frozen=True)
class Fast:
    """What the kernel found."""

    i_out: Tensor  # [*tiles, b, n] A, float64
    v: Tensor | None  # [*tiles, b, m, n] V, float64, if asked for
    v_range: tuple[float, float]  # V, of the cells with a table
    residual: float
    iterations: int
    hard: Tensor  # [b]: vectors among which are some too hard for plain Newton steps, whose numbers mean nothing


def kernel() -> ModuleType | None:
    """The compiled kernel, or None where numba is missing or has nowhere to keep what it compiled."""
    return loaded("kernel")


def suits(circuit: Circuit) -> bool:
    """Whether the kernel can solve this circuit."""
    return (
        circuit.drive.device.type == "cpu"
        and circuit.floating.none
        and one_sided(circuit)
        and type(circuit.cells) in (Ohmic, Sinh, LutCells)
        and kernel() is not None
    )


def one_sided(circuit: Circuit) -> bool:
    """Whether all word lines, and all bit lines, have one terminal, at the same end."""
    return circuit.lines.word.one_sided and circuit.lines.bit.one_sided


def solve_fast(circuit: Circuit, v_wl: Tensor, v_bl: Tensor | None, rtol: float, *, voltages: bool) -> Fast | None:
    """The circuit solved by the kernel; None if all of it is too hard for plain Newton steps.

    Args:
        circuit: A circuit that `suits`.
        v_wl: Word-line voltages [V], [*tiles or 1, b, m].
        v_bl: Bit-line voltages [V], [*tiles or 1, b, n], or None for ground.
        rtol: Bound on the relative residual.
        voltages: Whether to return cell voltages.
    """
    compiled = kernel()
    if compiled is None:
        raise MissingDependencyError("the compiled array solver needs numba")
    pack = _Packing.build(circuit, compiled)
    law = _law(circuit.cells, pack, *extremes(v_wl, v_bl), rtol)
    if law is None:
        return None
    drive, ground = pack.inputs(v_wl, v_bl)
    tiles, groups = drive.shape[:2]
    i_out = np.empty((tiles, groups, pack.n, pack.lanes))
    v_out = np.empty((tiles if voltages else 0, groups, pack.blocks, pack.n, pack.rows * pack.lanes))
    hard, lines = np.zeros((tiles, groups), bool), pack.lines(circuit)
    taken = SMOOTH * rtol if law[0] == compiled.POLYNOMIAL else 0.0
    results = _in_threads(
        lambda start, stop: compiled.solve_groups(
            *law, lines, drive, ground, rtol - taken, start, stop, i_out, v_out, hard
        ),
        tiles * groups,
    )
    if hard.all():
        return None
    residuals, iterations, low, high = zip(*results, strict=True)
    return Fast(
        pack.outputs(i_out),
        pack.voltages(v_out) if voltages else None,
        (min(low), max(high)),
        max(residuals) + taken,
        max(iterations),
        torch.from_numpy(hard.any(0).repeat(pack.lanes)[: pack.b]),
    )


def _in_threads(work: Any, total: int) -> list[Any]:
    """Results of `work(start, stop)` over parts of range(total), one part for each of torch's threads."""
    parts = min(torch.get_num_threads(), total)
    bounds = [total * k // parts for k in range(parts + 1)]
    if parts == 1:
        return [work(0, total)]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(work, bounds[:-1], bounds[1:]))


def extremes(v_wl: Tensor, v_bl: Tensor | None, ends: tuple[float, ...] | None = None) -> tuple[float, float]:
    """Least and largest voltage that any cell can see [V]: no node lies outside the range of the driven potentials.

    Args:
        v_wl: Word-line voltages [V].
        v_bl: Bit-line voltages [V], or None for ground.
        ends: Least and largest of either, where they are known.
    """
    if ends is None:
        ends = tuple(float(end) for v in (v_wl, v_bl) if v is not None for end in v.detach().aminmax())
    low, high, bottom, top = ends if v_bl is not None else (*ends, 0.0, 0.0)
    span = max(high, top) - min(low, bottom)
    return (min(low, 0.0), max(high, 0.0)) if v_bl is None and low * high >= 0 else (-span, span)


def _law(cells: Cells, pack: _Packing, low: float, high: float, rtol: float) -> tuple[int, tuple[Any, ...]] | None:
    """Kind of cell and its parameters; None if the non-linearity is beyond the kernel."""
    span = max(-low, high)
    none = (np.zeros(3), np.zeros(1), np.zeros(4), 0, 1)
    if isinstance(cells, Ohmic):
        g = pack.cells(cells.g)
        return pack.kernel.OHMIC, (g, g, 0, *none)
    if isinstance(cells, Sinh):
        steepest = float(cells.b.detach().max()) * span
        halvings = max(0, math.ceil(math.log2(max(steepest, 1e-9) / 0.5)))
        if halvings > MAX_HALVINGS:
            return None
        tiny = 1e-8 / max(span, 1e-9)  # ohmic to rounding
        return pack.kernel.SINH, (pack.cells(cells.g), pack.cells(cells.b.clamp_min(tiny), fill=1.0), halvings, *none)
    if isinstance(cells, LutCells):
        amplitudes = pack.cells(cells.amplitudes().movedim(0, -1), rank=(cells.rank,))
        inside = max(low, float(cells.nodes[0])), min(high, float(cells.nodes[-1]))
        smooth = cells.polynomial(*inside, SMOOTH * rtol)
        if smooth is None:
            return pack.kernel.TABLE, (amplitudes, amplitudes[:1], 0, *_pieces(cells))
        ends, coefficients = np.array(inside), smooth.numpy().ravel()
        return pack.kernel.POLYNOMIAL, (
            amplitudes,
            amplitudes[:1],
            0,
            ends,
            ends[:1],
            coefficients,
            smooth.shape[1],
            cells.rank,
        )
    raise TypeError(type(cells).__name__)


def _pieces(cells: LutCells) -> tuple[Array, Array, Array, int, int]:
    """A table as the kernel reads it.

    Nodes [V], infinity for the last, which comes after it; the piece in which each of a row of equal bins starts; cubic
    coefficients in volts from the node below, [k - 1, rank, 4] flat; the most nodes in a bin; the rank.
    """
    nodes = cells.nodes.numpy()
    bins = bins_of(nodes)
    refine = int(np.diff(bins, append=len(nodes) - 2).max())
    pieces = cells.pieces.detach().numpy().transpose(2, 0, 1) / np.diff(nodes)[:, None, None] ** np.arange(4)
    ends = np.concatenate([nodes[:-1], [np.inf, nodes[-1]]])
    return ends, bins.astype(np.float64), np.ascontiguousarray(pieces).ravel(), refine, cells.rank


def bins_of(nodes: Array) -> Array:
    """The interval between nodes in which each of a row of equal bins starts."""
    edges = np.linspace(nodes[0], nodes[-1], 4 * len(nodes), endpoint=False)
    return (np.searchsorted(nodes, edges, side="right") - 1).clip(0, len(nodes) - 2)


@dataclass(frozen=True)
class _Packing:
    """Arrays in the kernel's order: blocks of word lines outermost, input vectors innermost.

    Missing word lines of the first block carry no current. Lines whose far end is the driven or sensed one are
    reversed.
    """

    kernel: ModuleType
    tiles: tuple[int, ...]
    m: int
    n: int
    b: int
    flip_rows: bool
    flip_columns: bool

    @staticmethod
    def build(circuit: Circuit, compiled: ModuleType) -> _Packing:
        *tiles, b, m, n = circuit.drive.shape
        return _Packing(
            compiled,
            tuple(tiles),
            m,
            n,
            b,
            flip_rows=circuit.lines.bit.from_end is None,
            flip_columns=circuit.lines.word.from_end is not None,
        )

    @property
    def rows(self) -> int:
        return int(self.kernel.ROWS)

    @property
    def lanes(self) -> int:
        return int(self.kernel.LANES)

    @property
    def blocks(self) -> int:
        return -(-self.m // self.rows)

    @property
    def missing(self) -> int:
        return self.blocks * self.rows - self.m

    @property
    def groups(self) -> int:
        return -(-self.b // self.lanes)

    def _rows(self, a: Array, axis: int) -> Array:
        return np.flip(a, axis) if self.flip_rows else a

    def _columns(self, a: Array, axis: int) -> Array:
        return np.flip(a, axis) if self.flip_columns else a

    def cells(self, values: Tensor, *, rank: tuple[int, ...] = (), fill: float = 0.0) -> Array:
        """[*tiles, m, n, *rank] as flat [tiles, blocks, n, rows, *rank], float64."""
        values = values.detach().expand(*self.tiles, self.m, self.n, *rank).to(torch.float64)
        a: Array = values.numpy().reshape(-1, self.m, self.n, *rank)
        a = self._columns(self._rows(a, 1), 2)
        pad = [(0, 0), (self.missing, 0)] + [(0, 0)] * (a.ndim - 2)
        a = _padded(a, pad, constant_values=fill)
        return np.swapaxes(a.reshape(-1, self.blocks, self.rows, *a.shape[2:]), 2, 3).ravel()

    def lines(self, circuit: Circuit) -> tuple[Array, Array, Array, Array]:
        """Resistances before each cell of a word line and below each cell of a bit line, float32 and float64."""
        word_line, bit_line = circuit.lines.word, circuit.lines.bit
        word = self._rows(self._columns(_oriented(word_line, from_end=self.flip_columns), 1), 0)
        bit = self._columns(self._rows(_oriented(bit_line, from_end=not self.flip_rows), 1), 0)
        if word.shape[0] > 1:
            word = _padded(word, ((self.missing, 0), (0, 0))).reshape(self.blocks, self.rows, self.n)
            word = np.repeat(np.swapaxes(word, 1, 2), self.lanes, axis=2)
        else:
            word = np.repeat(word[..., None], self.rows * self.lanes, axis=2)
        bit = _padded(np.array(np.broadcast_to(bit, (self.n, self.m))), ((0, 0), (self.missing, 0)))
        bit = bit.reshape(self.n, self.blocks, self.rows).transpose(1, 0, 2)
        wide = np.ascontiguousarray(word).ravel(), np.ascontiguousarray(bit).ravel()
        return wide[0].astype(np.float32), wide[1].astype(np.float32), *wide

    def _vectors(self, v: Tensor) -> Array:
        """[*tiles or 1, b, lines] as [tiles, groups, lanes, lines], with zeros for missing vectors."""
        v = v.detach().to(torch.float64).expand(*self.tiles, self.b, v.shape[-1])
        a = _padded(
            v.numpy().reshape(-1, self.b, v.shape[-1]), ((0, 0), (0, self.groups * self.lanes - self.b), (0, 0))
        )
        return a.reshape(-1, self.groups, self.lanes, a.shape[-1])

    def inputs(self, v_wl: Tensor, v_bl: Tensor | None) -> tuple[Array, Array]:
        """Word-line voltages [tiles, groups, blocks * rows * lanes], bit-line voltages [tiles, groups, n * lanes]."""
        drive = self._rows(self._vectors(v_wl), 3)
        drive = _padded(drive, ((0, 0), (0, 0), (0, 0), (self.missing, 0))).swapaxes(2, 3)
        drive = np.ascontiguousarray(drive).reshape(*drive.shape[:2], -1)
        if v_bl is None:
            return drive, np.zeros((*drive.shape[:2], self.n * self.lanes))
        ground = self._columns(self._vectors(v_bl), 3).swapaxes(2, 3)
        return drive, np.ascontiguousarray(ground).reshape(*ground.shape[:2], -1)

    def outputs(self, i_out: Array) -> Tensor:
        """[tiles, groups, n, lanes] as [*tiles, b, n]."""
        a = self._columns(i_out, 2).swapaxes(2, 3).reshape(-1, self.groups * self.lanes, self.n)[:, : self.b]
        return torch.from_numpy(np.ascontiguousarray(a)).reshape(*self.tiles, self.b, self.n)

    def voltages(self, v_out: Array) -> Tensor:
        """[tiles, groups, blocks, n, rows * lanes] as [*tiles, b, m, n]."""
        a = v_out.reshape(-1, self.groups, self.blocks, self.n, self.rows, self.lanes).transpose(0, 1, 5, 2, 4, 3)
        a = a.reshape(-1, self.groups * self.lanes, self.blocks * self.rows, self.n)[:, : self.b, self.missing :]
        a = np.ascontiguousarray(self._columns(self._rows(a, 2), 3))
        return torch.from_numpy(a).reshape(*self.tiles, self.b, self.m, self.n)


def _padded(a: Array, widths: Sequence[tuple[int, int]], constant_values: float = 0.0) -> Array:
    """`np.pad` that costs nothing where there is nothing to add."""
    return np.pad(a, widths, constant_values=constant_values) if any(map(sum, widths)) else a


def _oriented(line: Line, *, from_end: bool) -> Array:
    """Resistances on the closed side of each node, [lines or 1, nodes]."""
    return (line.after if from_end else line.before).detach().numpy()
