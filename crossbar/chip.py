"""Weights written on arrays: programming, what columns then answer, and how that state is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError, ShapeError
from devicelab.variability import normal

from . import compiled
from .cells import Ohmic
from .config import Config
from .converters import percentile
from .devices import SENSE, Population, generator, interpolate
from .layout import Layout
from .linear import effective_conductance
from .lut_cells import LutCells
from .windows import Source

RANK = 0.1
"""Error of the table's factors, relative to a state's largest current, in units of `Config.rtol`."""
SMOOTH = 0.1
"""Error of polynomials that stand for the table, relative to a state's current, in the same units."""
LEAST = 1e-12
"""Of both errors: rounding is not undercut."""


@dataclass(frozen=True)
class _Part:
    """A lookup table up to some voltage."""

    voltage: Any
    state: Any
    table: Any
    slope: Any

    @staticmethod
    def of(lut: Lut, most: float) -> _Part:
        """The nodes within +-`most`, and the next on either side."""
        first = max(0, int(np.searchsorted(lut.voltage, -most, side="right")) - 1)
        stop = min(lut.voltage.size, int(np.searchsorted(lut.voltage, most)) + 1)
        return _Part(lut.voltage[first:stop], lut.state, lut.table[:, first:stop], lut.slope[:, first:stop])


@dataclass(frozen=True)
class Written:
    """What a write left on the arrays."""

    g: Tensor  # conductances at `v_read` [S], [M, S, P, R, K, rows, columns]
    matrix: Tensor | None  # from features of the inputs to currents of columns [A], [M, R, F rows, channels, K outputs]


class Chip(nn.Module):
    """Matrices on arrays, without the reading; see `TiledMatrix`.

    Args:
        weight: The matrix.
        lut: The device; None for ohmic cells between `config.g_low` and `config.g_high`.
        config: The arrays.
        stream: Number of the matrix among several, which sets its draws.
    """

    g: Tensor
    matrix: Tensor | None
    top: Tensor
    input_range: Tensor
    adc_range: Tensor
    gain: Tensor | None
    offset: Tensor | None
    column_gain: Tensor
    column_offset: Tensor
    order_in: Tensor | None
    order_out: Tensor | None

    def __init__(self, weight: Tensor, lut: Lut | None, config: Config, *, stream: int = 0) -> None:
        super().__init__()
        if weight.dim() not in (2, 3) or not weight.is_floating_point():
            raise ShapeError(
                "a matrix is needed", got=tuple(weight.shape), allowed="[n_out, n_in], or [M, n_out, n_in]"
            )
        weight = weight.detach()
        if not bool(weight.isfinite().all()) or not bool(weight.any()):
            raise ParameterError(
                "a weight matrix cannot be mapped", got="all zero or not finite", allowed="finite, not all zero"
            )
        weight = weight if weight.dim() == 3 else weight.unsqueeze(0)
        self.lut, self.config = lut, config
        self.layout = Layout(config, *weight.shape)
        self.devices_on_chip = Population(self.layout.shape, lut, config, stream, weight)
        self.stream, self.reads = stream, 0
        self._bases: dict[tuple[torch.device, float | None], LutCells] = {}
        self._kept: tuple[Tensor, int, LutCells] | None = None  # cells of what was written
        self._packed: tuple[Any, tuple[Tensor, ...]] | None = None  # weights as the compiled product wants them
        self.has_input_range = config.dac.range is not None
        self.has_adc_range = config.adc.range is not None
        self.has_column_fit = False
        self.watching = False
        self.probe: Callable[[Source, Written | None], Tensor] | None = None  # stands in for the product
        like = weight.new_zeros
        self.register_buffer("input_range", like(()) + (config.dac.range or 0.0))
        self._draw_sense(weight)
        n = self.layout.matrices * self.n_out
        self.register_buffer("column_gain", like(n) + 1)
        self.register_buffer("column_offset", like(n))
        self.register_buffer("order_in", None)
        self.register_buffer("order_out", None)
        self.register_buffer("top", like(()))
        self.register_buffer("g", like(0))
        self.register_buffer("matrix", None)
        self.register_buffer("adc_range", like(()))
        self._smooth = self._polynomials()
        self.program(weight)
        compiled.kernel()  # found now rather than while torch.compile traces

    n_out = property(lambda self: self.layout.n_out, doc="Outputs of a matrix.")
    n_in = property(lambda self: self.layout.n_in, doc="Inputs of a matrix.")

    @property
    def devices(self) -> int:
        """Cells on the chip, unused ones included."""
        return self.layout.shape.numel()

    @property
    def tiles(self) -> int:
        """Arrays on the chip."""
        return self.layout.shape[:-2].numel()

    @torch.no_grad()
    def program(self, weight: Tensor) -> None:
        """Write the arrays anew; every write has its own cycle-to-cycle draw."""
        weight = weight.detach() if weight.dim() == 3 else weight.detach().unsqueeze(0)
        if self.config.permute:
            self.order_in, self.order_out = self.layout.order(weight)
        self.top = percentile(weight.abs(), self.config.clip)
        written = self._write(weight.double())
        self.g = written.g.to(weight.dtype)
        self.matrix = None if written.matrix is None else written.matrix.to(weight.dtype)
        if not self.has_adc_range or self.config.adc.range is not None:
            self.adc_range = self._largest_current()

    def live(self, weight: Tensor) -> Written:
        """What a write of these weights leaves, with gradients from the arrays back to the weights."""
        weight = weight if weight.dim() == 3 else weight.unsqueeze(0)
        self.top = percentile(weight.abs(), self.config.clip)
        return self._write(weight)

    def _write(self, weight: Tensor) -> Written:
        if self.order_in is not None and self.order_out is not None:
            weight = weight[:, self.order_out][:, :, self.order_in]
        top = self.top.to(weight.dtype).clamp_min(torch.finfo(self.top.dtype).tiny)
        share = self.layout.shares((weight / top).clamp(-1, 1))
        g = self.devices_on_chip.write(share)
        return Written(g, None if self._solved else self._matrix(g))

    def _matrix(self, g: Tensor) -> Tensor:
        """Currents of the columns per feature of the inputs."""
        if self.config.nonlinear:
            columns = self._per_feature(g)  # [F, M, S, P, R, K, rows, columns]
        else:
            columns = (self._through_lines(g) * self.config.v_read).unsqueeze(0)
        matrix = self.layout.sensed(columns)  # [F, M, R, rows, channels, K outputs]
        return matrix.permute(1, 2, 0, 3, 4, 5).flatten(2, 3)

    def _through_lines(self, g: Tensor) -> Tensor:
        wires = self.config.wires
        if wires is None or wires.ideal:
            return g
        flat = g.flatten(0, -3)
        at_once = max(1, int(self.config.budget // (8 * 8 * flat[0].numel())))
        return torch.cat([effective_conductance(part, wires) for part in flat.split(at_once)]).view_as(g)

    @property
    def _solved(self) -> bool:
        """Whether the array has no matrix, because its cells are non-linear and its lines have resistance."""
        wires = self.config.wires
        return self.config.nonlinear and wires is not None and not wires.ideal

    # cells

    def _lut_cells(self, g: Tensor, reach: float | None = None) -> LutCells:
        """Cells of the table that conduct `g` at the read voltage; those beyond the table as scaled ones.

        Args:
            g: Conductances.
            reach: Largest voltage that they see [V]; the table is then as exact as `rtol` asks. None: the whole table.
        """
        if self.lut is None:  # `conductance_range` saw to it
            raise ParameterError("non-linear cells need a lookup table")
        conductance, state = self.lut.mapping(self.config.v_read)
        known = g.clamp(float(conductance[0]), float(conductance[-1]))
        x = interpolate(known, conductance, state).clamp(0.0, 1.0)
        return self._basis(g.device, reach).at(x, None if self.devices_on_chip.exact else g / known)

    def _basis(self, device: torch.device, reach: float | None = None) -> LutCells:
        """The table, factorised once; only as far as it is needed."""
        if (device, reach) not in self._bases:
            if self.lut is None:
                raise ParameterError("non-linear cells need a lookup table")
            lowest = float(self.lut.state[0])
            x = torch.full((1, 1), lowest, dtype=torch.float64, device=device)
            table = self.lut if reach is None else _Part.of(self.lut, reach)
            tolerance = 1e-9 if reach is None else max(RANK * self.config.rtol, LEAST)
            self._bases[device, reach] = LutCells(table, x, tolerance=tolerance)
        return self._bases[device, reach]

    def _between_lines(self, g: Tensor) -> LutCells:
        """Cells for arrays that are solved: no node leaves the range of the drivers, +-`v_read`.

        Those of what was written are kept, amplitudes too where they fit the budget, until something is written.
        """
        reach = 2 * self.config.v_read
        if g.requires_grad or torch.compiler.is_compiling():
            return self._lut_cells(g, reach)
        kept, now = self._kept, compiled.version(g)
        if kept is not None and kept[0] is g and kept[1] == now:
            return kept[2]
        cells = self._lut_cells(g, reach)
        if g is self.g and 8 * cells.rank * g.numel() <= self.config.budget:
            amplitudes = cells.amplitudes()
            cells.__dict__["amplitudes"] = lambda: amplitudes  # an attribute, for solvers go by the exact type
            self._kept = g, now, cells
        return cells

    def _per_feature(self, g: Tensor) -> Tensor:
        """Current of every non-linear cell for each feature of its input [A], [F, *g.shape]."""
        cells = self._lut_cells(g, self.config.v_read)
        if self.config.dac.encoding != "pulse-width":
            return cells.amplitudes()
        v = self.config.v_read
        ends = torch.tensor([v, -v], dtype=torch.float64, device=g.device)
        at_ends: Tensor = torch.einsum("rv,r...->v...", cells.features(ends), cells.amplitudes())
        return at_ends * torch.sign(ends).view(2, *(1,) * g.dim())

    def _features(self, u: Tensor) -> list[Tensor]:
        """Functions of the inputs, in -1..1, whose products with `_per_feature` are currents."""
        v = self.config.v_read
        if not self.config.nonlinear:
            return [u]
        if self.config.dac.encoding == "pulse-width":
            return [u.clamp(min=0), u.clamp(max=0)]
        table, smooth = self._basis(u.device, v), self._smooth
        plain = u.device.type == "cpu" and u.dtype == torch.float32 and not u.requires_grad
        if plain and compiled.kernel() is not None:
            return compiled.features(table, u * v) if smooth is None else compiled.polynomials(u, smooth)
        if smooth is None:
            return list(table.features(u * v))
        return [_horner(u, row) for row in smooth.to(u)]

    def _polynomials(self) -> Tensor | None:
        """The table as polynomials of inputs in -1..1, [rank, terms]; None: it is not smooth enough."""
        v = self.config.v_read
        if not self.config.nonlinear or self._solved or self.config.dac.encoding == "pulse-width":
            return None
        return self._basis(torch.device("cpu"), v).polynomial(-v, v, max(SMOOTH * self.config.rtol, LEAST))

    def cells(self, sign: int = 1, row: int = 0, column: int = 0, *, slice: int = 0, matrix: int = 0) -> Any:
        """The cells of one tile, for `crossbar.solve`: `sign` -1 for the minus array of "two arrays".

        Args:
            sign: Plus or minus array.
            row: Number of the row tile.
            column: Number of the column tile.
            slice: Number of the slice, least first.
            matrix: Number of the matrix.
        """
        g = self.g[matrix, slice, 1 if sign < 0 else 0, row, column]
        return self._lut_cells(g) if self.config.nonlinear else Ohmic(g)

    @property
    def full_scale(self) -> float:
        """Current of a column whose cells are all on [A]."""
        return self.config.rows * self.config.v_read * self.devices_on_chip.high

    @property
    def _sensed_shape(self) -> tuple[int, int, int, int]:
        """[M, R, channels, K outputs]; R is 1 where the currents of row tiles are added first."""
        lay = self.layout
        r = 1 if self.config.partial_sums == "analog" else lay.row_tiles
        return lay.matrices, r, lay.channels, lay.column_tiles * lay.outputs

    def _draw_sense(self, like: Tensor) -> None:
        s = self.config.sense
        rng = generator(self.config, self.stream, SENSE)
        gain = (1 + s.gain_error) * (1 + s.gain * torch.from_numpy(normal(self._sensed_shape, rng)))
        offset = s.offset_error + s.offset * torch.from_numpy(normal(self._sensed_shape, rng))
        has_gain, has_offset = bool(s.gain or s.gain_error), bool(s.offset or s.offset_error)
        self.register_buffer("gain", gain.to(like) if has_gain else None, persistent=False)
        self.register_buffer("offset", (offset * self.full_scale).to(like) if has_offset else None, persistent=False)

    def _largest_current(self) -> Tensor:
        """Range of the converter where no data set it."""
        c = self.config
        if c.adc.range is not None:
            return self.top.new_tensor(c.adc.range * self.full_scale)
        linear = self.matrix is not None and not c.nonlinear
        columns = self.matrix if self.matrix is not None and linear else self.layout.sensed(self.g) * c.v_read
        each = columns.abs().sum(2)  # [M, R, channels, K outputs]
        if c.partial_sums == "analog":
            each = each.sum(1, keepdim=True)
        return self._shared(each.unsqueeze(2), 100.0)

    def _shared(self, i: Tensor, q: float) -> Tensor:
        """Percentile of |currents| [M, R, b, channels, K outputs] over what shares a converter's range."""
        size = i.abs()
        if self.config.adc.per == "layer":
            return percentile(size, q)
        columns = size.movedim(2, -1)  # [M, R, channels, K outputs, b]
        if self.config.adc.per == "column":
            return percentile(columns, q, -1)
        tiles = columns.unflatten(3, (self.layout.column_tiles, -1)).transpose(2, 3).flatten(3)
        found = percentile(tiles, q, -1).unsqueeze(2).unsqueeze(-1)  # [M, R, 1, K, 1]
        return found.expand(-1, -1, self.layout.channels, -1, self.layout.outputs).flatten(3)

    def get_extra_state(self) -> dict[str, Any]:
        """What of the state is not a tensor."""
        names = ("has_input_range", "has_adc_range", "has_column_fit", "reads")
        return {name: getattr(self, name) for name in names} | {"written": self.devices_on_chip.written}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` gave."""
        self.devices_on_chip.written = state["written"]
        for name in ("has_input_range", "has_adc_range", "has_column_fit", "reads"):
            setattr(self, name, state[name])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bases": {}, "_kept": None, "_packed": None, "probe": None}

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        # ranges take the shape that the calibration gave them
        if (saved := state.get(prefix + "adc_range")) is not None and saved.shape != self.adc_range.shape:
            self.adc_range = self.adc_range.new_zeros(saved.shape)
        super()._load_from_state_dict(state, prefix, *args)


def _horner(u: Tensor, coefficients: Tensor) -> Tensor:
    """A polynomial without a constant term."""
    out: Tensor = coefficients[-1] * u
    for c in coefficients[1:-1].flip(0):
        out = (out + c) * u
    return out
