"""Non-linear arrays whose lines take little: currents by a series about ideal lines, as long as a bound asks.

With Z the resistance of the lines and F the cells' currents as functions of what the lines take from them, the
currents are the fixed point I = F(Z I), and I_k = F(Z I_(k-1)), begun with the currents on ideal lines, tends to it.
With D the largest conductances that the cells can have, |I_k - I| <= (D Z)^(k+1) |I| cell by cell. A cell loses at most
(resistance from its driver and to its sense node) times the largest sum over one line of |I|; what D Z makes of that
field, applied k times, bounds the error relative to the largest line's current, whatever the inputs. To that comes what
Taylor's series of F leaves out, bounded by the table's derivatives. Every tile gets the fewest sweeps that
suffice for `rtol`; a matrix with a tile for which `MOST_SWEEPS` do not is left to `solve`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from . import compiled
from .config import Config
from .fast import _in_threads, _oriented
from .layout import Layout
from .lines import Lines, _beyond
from .lut_cells import LutCells
from .optional import loaded
from .windows import Source
from .wires import Wires

if TYPE_CHECKING:
    from .chip import Chip, Written

MOST_SWEEPS = 8
LEAST = 1e-5
"""Smallest tolerance for which float32 will do."""
SHARE = 0.9
"""Of the tolerance that the bound may take; the rest is for rounding."""
SMOOTH = 0.1
"""Of the tolerance that polynomials that stand for the table may take at a cell."""


def kernel() -> ModuleType | None:
    """The compiled kernel, or None where numba is missing or has nowhere to keep what it compiled."""
    return loaded("expansion_kernel")


@dataclass(frozen=True)
class _Law:
    """Functions of a word line's voltage: values and the next coefficients of their Taylor series."""

    coefficients: Tensor  # of pieces [nodes - 1, planes, 4], or of powers [planes, terms]
    nodes: Tensor | None  # V
    span: float  # V, of the powers

    @staticmethod
    def of_table(cells: LutCells, derivatives: int) -> _Law:
        """Those of the table's pieces; the last derivatives jump where pieces meet."""
        c = cells.pieces.detach().permute(2, 0, 1)
        h = cells.nodes.diff()[:, None]
        none = torch.zeros_like(c[..., 0])
        slope = torch.stack([c[..., 1] / h, 2 * c[..., 2] / h, 3 * c[..., 3] / h, none], dim=-1)
        bend = torch.stack([c[..., 2] / h**2, 3 * c[..., 3] / h**2, none, none], dim=-1)
        third = torch.stack([c[..., 3] / h**3, none, none, none], dim=-1)
        pieces = torch.cat([c, slope, bend, third][:derivatives], dim=1).float().contiguous()
        return _Law(pieces, cells.nodes.float(), 0.0)

    @staticmethod
    def of_polynomials(smooth: Tensor, span: float, derivatives: int) -> _Law:
        """Those of polynomials of v / span that stand for the table, [rank, terms]."""
        terms, rows = smooth.shape[1], []
        for order in range(derivatives):
            factor = (
                torch.tensor([math.comb(k + order, order) for k in range(terms - order)], device="cpu") / span**order
            )
            rows.append(torch.nn.functional.pad(smooth[:, order:] * factor, (0, order)))
        return _Law(torch.cat(rows).float().contiguous(), None, span)

    def largest(self, most: float, count: int) -> Tensor:
        """Largest sizes of the first functions at voltages up to `most` [V], at least, [count]."""
        if self.nodes is not None:  # where pieces end
            return self.coefficients[:, :count].double().sum(-1).abs().amax(0)
        v = torch.linspace(-most, most, 201, dtype=torch.float64, device="cpu")
        powers = (v / self.span) ** torch.arange(self.coefficients.shape[1], device="cpu")[:, None]
        return (self.coefficients[:count].double() @ powers).abs().amax(-1)

    def planes(self, v: Tensor) -> Tensor:
        """The functions of voltages [V], [planes, number of voltages]."""
        if self.nodes is not None:
            found: Tensor = compiled._tabulated(v.contiguous().flatten(), self.nodes, self.coefficients)
            return found
        found = compiled._powers(v.flatten() / self.span, self.coefficients)
        return found.add_(self.coefficients[:, :1])


@dataclass(frozen=True)
class Certified:
    """A matrix's tiles, turned so that drivers come first and sense nodes last, and the series that stands for them."""

    sweeps: Tensor  # that every tile needs, [M, S, P, R, K]; 1: first order
    law: _Law
    amplitudes: Tensor  # [ranks, M, S, P, R, K, rows, columns]
    word: Tensor  # resistance before each cell [ohm], [rows, columns]
    bit: Tensor  # and below it
    spent: Tensor  # bound of the error, relative to the largest line's current, like `sweeps`
    echo: Tensor  # of an error of currents' changes, relative to them, in units of it
    flip_rows: bool
    flip_columns: bool

    @staticmethod
    def of(cells: LutCells, config: Config) -> Certified | None:
        """The tiles, or None where lines are driven or sensed at both ends, or take too much."""
        lines = _lines(config)
        if lines is None or not (cells.nodes[0] <= -config.v_read and config.v_read <= cells.nodes[-1]):
            return None
        word, bit, flip_rows, flip_columns = lines
        flips = [axis for axis, flip in ((-2, flip_rows), (-1, flip_columns)) if flip]
        word, bit = word.flip(flips), bit.flip(flips)
        found = _sweeps(cells, word, bit, flips, config)
        if found is None:
            return None
        sweeps, spent, echo, smooth, span = found
        derivatives = 2 if int(sweeps.max()) == 1 else 4
        law = _Law.of_table(cells, derivatives) if smooth is None else _Law.of_polynomials(smooth, span, derivatives)
        return Certified(sweeps, law, cells.amplitudes().flip(flips), word, bit, spent, echo, flip_rows, flip_columns)


@dataclass(frozen=True)
class Expansion:
    """A matrix's tiles as the kernel reads them; see `expansion_kernel.product`."""

    law: _Law
    rest: Tensor  # [planes]
    cells: Tensor
    sweeps: Tensor
    word: Tensor
    bit: Tensor
    ranks: int
    pairs: Tensor
    flipped: bool  # word lines in reverse order

    @staticmethod
    def of(cells: LutCells, layout: Layout, config: Config) -> Expansion | None:
        """The tiles, or None where no series stands for them."""
        found = Certified.of(cells, config)
        if found is None:
            return None
        a = found.amplitudes
        fallen = _word_drops(a, found.word)
        odd = (0, config.columns % 2)
        both = torch.nn.functional.pad(torch.stack([a, fallen], dim=-2), odd)  # [..., rows, 2, columns]
        both = both.unflatten(-1, (-1, 2))  # [ranks, ..., rows, 2, pairs, 2]
        packed = both.movedim(-2, -4).movedim(0, -3)  # [..., pairs, rows, ranks, 2, 2]
        return Expansion(
            found.law,
            found.law.planes(torch.zeros(1, device="cpu"))[:, 0],
            packed.float().contiguous(),
            found.sweeps,
            torch.nn.functional.pad(found.word, odd).float().contiguous(),
            torch.nn.functional.pad(found.bit, odd).float().contiguous(),
            cells.rank,
            _pairs(layout, config, found.flip_columns),
            found.flip_rows,
        )


def _lines(config: Config) -> tuple[Tensor, Tensor, bool, bool] | None:
    """Resistance before each cell of a word line and after each cell of a bit line, on the side of its terminal.

    [rows, columns] each [ohm]; and whether word lines are to be taken in reverse, and columns. None: two terminals.
    """
    m, n = config.rows, config.columns
    free = torch.zeros(max(m, n), dtype=torch.bool, device="cpu")
    lines = Lines.build(config.wires or Wires(), m, n, free[:m], free[:n])
    for line in (lines.word, lines.bit):
        if line.both is not None or (line.from_end is not None and not bool(line.from_end.all())):
            return None
    flip_rows, flip_columns = lines.bit.from_end is None, lines.word.from_end is not None
    word = torch.from_numpy(np.array(_oriented(lines.word, from_end=flip_columns))).expand(m, n)
    bit = torch.from_numpy(np.array(_oriented(lines.bit, from_end=not flip_rows))).expand(n, m).T
    return word, bit, flip_rows, flip_columns


def _sweeps(
    cells: LutCells, word: Tensor, bit: Tensor, flips: list[int], config: Config
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, float] | None:
    """Sweeps that every tile needs, [M, S, P, R, K]; None if `MOST_SWEEPS` are too few for one.

    With them come the errors' bounds and what an error of currents' changes makes, see `Certified`, polynomials of
    v / span that stand for the table where it is smooth, and the span.

    Args:
        cells: All cells.
        word: Resistance before each cell, drivers first [ohm], [rows, columns].
        bit: Resistance below each cell, sense nodes last [ohm], [rows, columns].
        flips: Dimensions along which the cells are reversed in that order.
        config: The arrays.
    """
    v, rtol = config.v_read, SHARE * config.rtol
    drop = _drop_of_one(word, bit)
    current, steepest, _ = cells.bounds(v).flip(flips)
    most = _drops(current, word, bit)  # V, that a cell can lose to the lines
    most = most * (1 + _largest_line(steepest * drop).max())  # and on the way
    step = float(most.max())
    if not step < v:
        return None
    steps, span = [step / 2**k for k in range(5)], v + step
    inside = cells.nodes[0] <= -span and span <= cells.nodes[-1]
    smooth = cells.polynomial(-span, span, SMOOTH * config.rtol) if inside else None
    bounds = cells.bounds(span, steps) if smooth is None else cells.smooth_bounds(smooth, span, steps)
    _, steepest, bend, *changes = bounds.flip(flips)
    kappa = _largest_line(steepest * drop)
    if not bool((kappa < 1).all()):
        return None
    taken = (0.0 if smooth is None else SMOOTH * config.rtol) / (1 - kappa)
    relative = most * drop * (1 + kappa[..., None, None])
    linear = _largest_line(0.5 * bend * relative)
    cubic = _remainder(most / step, changes) * relative
    after = _largest_line(steepest * _drops(cubic, word, bit)) / (1 - kappa)
    cubic = _largest_line(cubic) + after
    sweeps, spent = torch.zeros_like(kappa, dtype=torch.int64), torch.zeros_like(kappa)
    field = steepest * drop
    echo = torch.zeros_like(kappa)
    for count in range(1, MOST_SWEEPS + 1):
        field = steepest * _drops(field, word, bit)
        echo = _largest_line(field) / (1 - kappa) if count == 1 else echo
        error = taken + _largest_line(field) + (linear if count == 1 else cubic)
        enough = (sweeps == 0) & (error <= rtol)
        sweeps, spent = torch.where(enough, count, sweeps), torch.where(enough, error, spent)
        if bool((sweeps > 0).all()):
            return sweeps, spent, echo, smooth, span
    return None


def _remainder(lost: Tensor, changes: list[Tensor]) -> Tensor:
    """What a Taylor series of third order leaves out, in units of the squared step: the integral of (1 - s) change(s).

    Args:
        lost: Length of every cell's step, 1 at most.
        changes: By how much the second derivative leaves its line over steps of length 1, 1/2, 1/4, 1/8 and 1/16.
    """
    weights = (0.125, 5 / 32, 7 / 32)  # of s from 1/2 to 1, 1/4 to 1/2, 0 to 1/4
    whole, half, quarter = (sum(w * c for w, c in zip(weights, changes[k:], strict=False)) for k in range(3))
    return torch.where(lost <= 0.25, quarter, torch.where(lost <= 0.5, half, whole))


def _largest_line(a: Tensor) -> Tensor:
    """Largest sum over one line of an array, [*tiles]."""
    return torch.maximum(a.sum(-1).amax(-1), a.sum(-2).amax(-1))


def _word_drops(i: Tensor, word: Tensor) -> Tensor:
    """What word lines lose up to each cell [V] for cell currents `i` [A]."""
    return (word * _beyond(i)).cumsum(-1)


def _drops(i: Tensor, word: Tensor, bit: Tensor) -> Tensor:
    """What cells lose to both lines [V] for cell currents `i` [A]."""
    return _word_drops(i, word) + _beyond((bit * i.cumsum(-2)).mT).mT


def _drop_of_one(word: Tensor, bit: Tensor) -> Tensor:
    """The most that a cell loses to both lines [V] when no line carries more than 1 A: resistances to the terminals."""
    return word.cumsum(-1) + _beyond(bit.mT).mT


def _pairs(layout: Layout, config: Config, flipped: bool) -> Tensor:
    """Columns whose difference is an output, [outputs, 2]; -1: none."""
    columns, o = config.columns, torch.arange(layout.outputs, device="cpu")
    wide = columns + columns % 2
    minus = {
        "two arrays": wide + o,
        "two columns": 2 * o + 1,
        "reference column": torch.full_like(o, columns - 1),
    }.get(config.scheme)
    plus = 2 * o if config.scheme == "two columns" else o
    if flipped:
        plus = columns - 1 - plus
        minus = None if minus is None else minus // wide * wide + columns - 1 - minus % wide
    return torch.stack([plus, torch.full_like(o, -1) if minus is None else minus], dim=1)


_KEPT: WeakKeyDictionary[Chip, tuple[Tensor, int, Expansion | None]] = WeakKeyDictionary()


def series(chip: Chip, u: Tensor, written: Written) -> Expansion | None:
    """A series that stands for the solution of what was written; None: none does, or gradients are wanted.

    It is made once after a write. Shared tiles, on which other lines idle, are solved.
    """
    g = written.g
    if (
        not suits(chip, u)
        or written.seen is not None
        or (torch.is_grad_enabled() and (u.requires_grad or g.requires_grad))
    ):
        return None
    kept, now = _KEPT.get(chip), compiled.version(g)
    if kept is None or kept[0] is not g or kept[1] != now:
        cells = chip._lut_cells(g.detach(), 2 * chip.config.v_read)
        kept = g, now, Expansion.of(cells, chip.layout, chip.config)
        _KEPT[chip] = kept
    return kept[2]


def suits(chip: Chip, u: Tensor) -> bool:
    """Whether a series can be used: arrays to be solved, voltages in proportion to inputs, float32 on a CPU."""
    c = chip.config
    return (
        chip._solved
        and u.device.type == "cpu"
        and u.dtype == torch.float32
        and c.rtol >= LEAST
        and c.dac.encoding != "pulse-width"
        and not torch.compiler.is_compiling()
        and kernel() is not None
        and compiled.kernel() is not None
    )


def converts(chip: Chip) -> bool:
    """Whether the kernel has the converters too: linear ones, no noise of reads, nobody who looks at the currents."""
    c = chip.config
    return (
        c.adc.bits is not None
        and c.adc.law == "linear"
        and not (c.devices.read_noise or c.devices.bandwidth or chip.watching)
        and (c.sense.saturation is None or chip.adc_range.dim() == 0)
    )


def products(chip: Chip, source: Source, u: Tensor, tiles: Expansion) -> Tensor:
    """Sums of converted column currents [A], in the shape of the result.

    Args:
        chip: The matrix's arrays.
        source: What is multiplied.
        u: Inputs in -1..1, like `source.x`.
        tiles: The arrays.
    """
    lay = chip.layout
    geometry = compiled.Geometry.of(chip, source)
    inputs = geometry.inputs if chip.order_in is None else geometry.inputs[chip.order_in]
    lines = torch.cat([inputs.new_full((lay.idle_rows,), -1), inputs]).view(lay.row_tiles, chip.config.rows)
    out = u.new_empty(geometry.total)
    converter = *(a.flatten(2).numpy() for a in compiled.converter(chip)), compiled.largest_code(chip)
    analog = chip.config.partial_sums == "analog"
    _run(chip, tiles, u, lines, geometry, lay.n_out, (*converter, analog), out, (0, lay.row_tiles))
    return geometry.shaped(out, None if chip.order_out is None else chip.order_out.argsort())


def currents(chip: Chip, u: Tensor, tiles: Expansion) -> Tensor:
    """Column currents [A], [M, R, b, channels, K outputs], for inputs in -1..1, [M, R, b, rows]."""
    lay = chip.layout
    matrices, down, batch, rows = u.shape
    width = lay.column_tiles * lay.outputs
    each = lay.channels * width * batch
    b, m = torch.arange(batch, device="cpu"), torch.arange(matrices, device="cpu").unsqueeze(1)
    geometry = compiled.Geometry(
        torch.arange(rows, device="cpu"),
        b * rows,
        b,
        batch,
        m * torch.tensor([down * batch * rows, each], device="cpu"),
        matrices * each,
        torch.clone,
    )
    lines = torch.arange(down, device="cpu").unsqueeze(1) * batch * rows + geometry.inputs
    one = np.ones((matrices, down, lay.channels * width), np.float32)
    out = u.new_empty(down, matrices * each)
    for r in range(down):
        _run(chip, tiles, u, lines, geometry, width, (one, one, one, 0.0, False), out[r], (r, r + 1))
    return out.view(down, matrices, lay.channels, width, batch).permute(1, 0, 4, 2, 3)


def _run(
    chip: Chip,
    tiles: Expansion,
    u: Tensor,
    lines: Tensor,
    geometry: compiled.Geometry,
    n_out: int,
    converter: tuple[Any, ...],
    out: Tensor,
    span: tuple[int, int],
) -> None:
    """The kernel over torch's threads, for the row tiles of a span."""
    found = kernel()
    if found is None:  # `suits` saw to it
        raise RuntimeError("no compiled kernel")
    x = tiles.law.planes(u * chip.config.v_read)
    order = lines.flip(-1) if tiles.flipped else lines
    fixed = (
        *(x.numpy().ravel(), u.numel(), geometry.shifts.numpy(), order.contiguous().numpy(), geometry.corners.numpy()),
        *(a.numpy() for a in (tiles.rest, tiles.cells, tiles.sweeps, tiles.word, tiles.bit)),
        *(tiles.ranks, tiles.pairs.numpy(), 2 if chip.layout.apart == 2 else 1, *converter),
        *(out.numpy(), geometry.places.numpy(), n_out, geometry.stride, *span),
    )
    panels = -(-len(geometry.corners) // found.LANES)
    if panels:
        _in_threads(lambda first, stop: found.product(*fixed, first, stop), panels)
