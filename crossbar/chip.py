"""Weights written on arrays: programming, what columns then answer, and how that state is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from devicelab import Lut
from devicelab.errors import ParameterError, ShapeError
from devicelab.variability import normal

from . import compiled
from .chip_cells import ChipCells
from .config import Config
from .converters import percentile
from .devices import SENSE, Population, generator
from .floorplan import Floorplan, coupled
from .layout import Layout
from .linear import effective_conductance
from .windows import Source


@dataclass(frozen=True)
class Written:
    """What a write left on the arrays."""

    g: Tensor  # conductances at `v_read` [S], [M, S, P, R, K, rows, columns]
    matrix: Tensor | None  # from features of the inputs to currents of columns [A], [M, R, F rows, channels, K outputs]
    seen: Tensor | None = None  # as `g`, with all cells of a shared tile, where it is solved


class Chip(ChipCells):
    """Matrices on arrays, without the reading; see `TiledMatrix`.

    Args:
        weight: The matrix.
        lut: The device; None for ohmic cells between `config.g_low` and `config.g_high`.
        config: The arrays.
        stream: Number of the matrix among several, which sets its draws.
        floor: Tiles that it shares with other matrices, still open; None: if the configuration shares tiles, those of
            its own.
    """

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

    def __init__(
        self, weight: Tensor, lut: Lut | None, config: Config, *, stream: int = 0, floor: Floorplan | None = None
    ) -> None:
        super().__init__(lut, config)
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
        self.layout = Layout(config, *weight.shape)
        self.devices_on_chip = Population(self.layout.shape, lut, config, stream, weight)
        self.stream, self.reads = stream, 0
        self._packed: tuple[Any, tuple[Tensor, ...]] | None = None  # weights as the compiled product wants them
        self.has_input_range = config.dac.range is not None
        self.has_adc_range = config.adc.range is not None
        self.has_column_fit = False
        self.watching = False
        self.loaded = False  # whether the last state that was loaded held what was written
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
        self.register_buffer("seen", None, persistent=False)
        self.register_buffer("adc_range", like(()))
        self._smooth = self._polynomials()
        alone = floor is None and config.share_tiles == "layers"
        floor = Floorplan(lut, config, stream) if alone else floor
        self.place = None if floor is None else floor.add(self)
        self.program(weight)
        if alone and floor is not None:
            floor.close()
        compiled.kernel()  # found now rather than while torch.compile traces

    n_out = property(lambda self: self.layout.n_out, doc="Outputs of a matrix.")
    n_in = property(lambda self: self.layout.n_in, doc="Inputs of a matrix.")

    @property
    def devices(self) -> int:
        """Cells on the chip, unused ones included; on shared tiles its own ones."""
        return self.layout.shape.numel() if self.place is None else self.place.devices

    @property
    def tiles(self) -> int:
        """Arrays on the chip; shared ones count wholly."""
        return self.layout.shape[:-2].numel() if self.place is None else self.place.arrays

    @torch.no_grad()
    def program(self, weight: Tensor) -> None:
        """Write the arrays anew; every write has its own cycle-to-cycle draw."""
        weight = weight.detach() if weight.dim() == 3 else weight.detach().unsqueeze(0)
        if self.config.permute:
            self.order_in, self.order_out = self.layout.order(weight)
        self.top = percentile(weight.abs(), self.config.clip)
        written = self._write(weight.double())
        self.g = written.g.to(weight.dtype)
        self._keep(written, weight.dtype)
        if self.place is not None and not self.place.floor.open:
            self.place.floor.settle(self.place, written.g)

    def _keep(self, written: Written, dtype: torch.dtype) -> None:
        self.matrix = None if written.matrix is None else written.matrix.to(dtype)
        self.seen = None if written.seen is None else written.seen.to(dtype)
        if not self.has_adc_range or self.config.adc.range is not None:
            self.adc_range = self._largest_current()

    @torch.no_grad()
    def refresh(self, blocks: Tensor | None = None) -> None:
        """Work out again what columns answer, after the cells of neighbours on shared tiles have changed.

        Args:
            blocks: Numbers of the blocks that have such neighbours; None: all.
        """
        with torch.autocast("cuda" if self.g.is_cuda else "cpu", enabled=False):
            self._refresh(blocks)

    def _refresh(self, blocks: Tensor | None) -> None:
        place = self.place
        if place is None or blocks is None or not coupled(self.config) or (self.matrix is None and self.seen is None):
            self._keep(self._answered(self.g.double()), self.g.dtype)
            return
        tiles = place.composed(self.g.double())
        r, k = self.layout.row_tiles, self.layout.column_tiles
        at = blocks // (r * k), blocks // k % r, blocks % k
        if self.seen is not None:
            near = place.seen(tiles, blocks).to(self.seen)
            whole = self.seen.permute(0, 3, 4, 1, 2, 5, 6).index_put(at, near)
            self._keep(Written(self.g, None, whole.permute(0, 3, 4, 1, 2, 5, 6)), self.g.dtype)
        elif self.matrix is not None:
            columns = place.through(tiles, blocks)[:, :, :, None, None] * self.config.v_read
            part = self.layout.sensed(columns)[:, 0].to(self.matrix)  # [blocks, rows, channels, outputs]
            whole = self.matrix.unflatten(-1, (k, -1)).permute(0, 1, 4, 2, 3, 5).index_put(at, part)
            self._keep(Written(self.g, whole.permute(0, 1, 3, 4, 2, 5).flatten(-2)), self.g.dtype)

    def live(self, weight: Tensor) -> Written:
        """What a write of these weights leaves, with gradients from the arrays back to the weights."""
        weight = weight if weight.dim() == 3 else weight.unsqueeze(0)
        self.top = percentile(weight.abs(), self.config.clip)
        written = self._write(weight)
        if self.place is not None:
            self.place.floor.put(self.place, written.g)
        if written.matrix is not None:  # tables answer in float64
            written = replace(written, matrix=written.matrix.to(weight.dtype))
        return written

    def _write(self, weight: Tensor) -> Written:
        if self.order_in is not None and self.order_out is not None:
            weight = weight[:, self.order_out][:, :, self.order_in]
        with torch.autocast("cuda" if weight.is_cuda else "cpu", enabled=False):
            return self._written(weight)

    def _written(self, weight: Tensor) -> Written:
        top = self.top.to(weight.dtype).clamp_min(torch.finfo(self.top.dtype).tiny)
        share = self.layout.shares((weight / top).clamp(-1, 1))
        return self._answered(self.devices_on_chip.write(share))

    def _answered(self, g: Tensor) -> Written:
        """Conductances, and what columns answer."""
        place = self.place
        if place is not None and place.floor.open:
            return Written(g, None)  # worked out when all neighbours are there
        if not self._solved:
            return Written(g, self._matrix(g))
        return Written(g, None, None if place is None else place.by_matrix(place.seen(place.composed(g))))

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
        if self.place is not None and coupled(self.config):
            return self.place.by_matrix(self.place.through(self.place.composed(g)))
        if wires is None or wires.ideal:
            return g
        flat = g.flatten(0, -3)
        at_once = max(1, int(self.config.budget // (8 * 8 * flat[0].numel())))
        return torch.cat([effective_conductance(part, wires) for part in flat.split(at_once)]).view_as(g)

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
        every = found.expand(-1, -1, self.layout.channels, -1, self.layout.outputs).flatten(3)
        return every.contiguous()  # a state is loaded into it

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
        return self.__dict__ | {"_bases": {}, "_kept": None, "_sent": None, "_packed": None, "probe": None}

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        # ranges take the shape that the calibration gave them
        if (saved := state.get(prefix + "adc_range")) is not None and saved.shape != self.adc_range.shape:
            self.adc_range = self.adc_range.new_zeros(saved.shape)
        super()._load_from_state_dict(state, prefix, *args)
        self.loaded = prefix + "g" in state
        if self.place is not None:
            self.place.floor.settle(self.place, self.g)
            self.refresh()
