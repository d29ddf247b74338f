"""Weights on arrays: a matrix cut into tiles of cells, and the product computed by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from devicelab.errors import ParameterError, ShapeError
from devicelab.noise import BOLTZMANN, CHARGE
from devicelab.variability import normal

from . import compiled, expansion, gpu_expansion, gpu_layers, gpu_product
from .chip import Chip
from .chip import Written as Written
from .converters import convert_current, reads, sense
from .devices import READS, generator, through
from .lut_cells import LutCells
from .windows import Image, Vectors, Window
from .windows import Source as Source

_BYTES_PER_CELL = 150  # what one vector keeps for each cell while a non-linear array is solved
_OBSERVED = 4096  # vectors that set the range of a converter


class TiledMatrix(Chip):
    """A product with a matrix [n_out, n_in] (or several, [M, n_out, n_in]), computed by arrays of cells.

    How weights become conductances is `config.scheme`; see docs/networks.md. Cells that no weight uses stay at the
    lowest conductance: they are there, and leak. Unused rows are grounded and lie farthest from the sense end.

    Args:
        weight: The matrix.
        lut: The device; None for ohmic cells between `config.g_low` and `config.g_high`.
        config: The arrays.
        stream: Number of the matrix among several, which sets its draws.

    Raises:
        ParameterError: If the weights are all zero or not finite.
        LutError: If the device cannot do what the configuration asks.
    """

    def forward(self, x: Tensor, written: Written | None = None) -> Tensor:
        """The product of one matrix, [..., n_in] to [..., n_out]; several matrices multiply windows: see `windowed`."""
        if self.layout.matrices != 1:
            raise ShapeError("several matrices multiply windows of an image", hint="use `windowed`")
        if x.shape[-1] != self.n_in:
            raise ShapeError("inputs do not fit the matrix", got=tuple(x.shape), allowed=f"[..., {self.n_in}]")
        out = self._seen(Vectors(x.reshape(-1, self.n_in).to(self.g.dtype)), written)
        return out.reshape(*x.shape[:-1], self.n_out)

    def rows(self, index: Tensor, written: Written | None = None) -> Tensor:
        """The columns' numbers when one word line alone is driven with 1: [...] indices to [..., n_out]."""
        if (
            self.probe
            or self._solved
            or self._partials_matter
            or self.config.scheme == "offset"
            or self.has_input_range
        ):
            found: Tensor = self(nn.functional.one_hot(index, self.n_in).to(self.g.dtype), written)
            return found
        driven = self._features(self.g.new_ones(()))
        flat = self._flat(written or Written(self.g, self.matrix))[0]  # [F, n_in, n_out]
        table: Tensor = sum(f * part for f, part in zip(driven, flat, strict=True))
        unit = self.top / ((self.devices_on_chip.high - self.devices_on_chip.low) * self.config.v_read)
        return self._fitted(nn.functional.embedding(index, table) * unit, -1)

    def windowed(self, x: Tensor, window: Window, written: Written | None = None) -> Tensor:
        """The products with every window of padded images [B, M C, *spatial]: [B, M n_out, *positions]."""
        return self._seen(Image(x.to(self.g.dtype), window, self.layout.matrices), written)

    def _seen(self, source: Source, written: Written | None) -> Tensor:
        return self.product(source, written) if self.probe is None else self.probe(source, written)

    def product(self, source: Source, written: Written | None = None) -> Tensor:
        """The product of the arrays, whatever looks on."""
        written = written or Written(self.g, self.matrix, self.seen)
        device = "cuda" if source.x.is_cuda else "cpu"
        with torch.autocast(device, enabled=False):
            if gpu_product.suits(self, source.x):
                return self._fitted(gpu_product.product(self, source, written), 1)
            if (tiles := gpu_expansion.fused(self, source.x, written)) is not None:
                return self._fitted(gpu_expansion.product(self, source, tiles), 1)
            peak, u = self._scaled(source)
            out = None
            for weight, part in reads(u, self.config.dac):
                one = self._once(source, part, written)
                out = weight * one if out is None else out + weight * one
            if out is None:
                raise ParameterError("no read")
            unit = self.top / ((self.devices_on_chip.high - self.devices_on_chip.low) * self.config.v_read)
            return self._fitted(out * (unit * peak), 1)

    def _fitted(self, out: Tensor, dim: int) -> Tensor:
        """Outputs, along `dim`, after each column's gain and offset."""
        if not self.has_column_fit:
            return out
        shape = [1] * out.dim()
        shape[dim] = -1
        out = out * self.column_gain.view(shape) + self.column_offset.view(shape)
        return out

    def _scaled(self, source: Source) -> tuple[Tensor, Tensor]:
        """Largest input, and inputs relative to it."""
        if self.has_input_range:
            u = source.x * self.input_range.reciprocal()
            return self.input_range, u.clamp(-1, 1) if u.requires_grad else u.clamp_(-1, 1)
        if self._scale_free:
            one = source.x.new_ones(())
            return one, source.x
        peak = source.peaks()
        peak = torch.where(peak > 0, peak, torch.ones_like(peak))
        return peak, source.x / peak

    @property
    def _scale_free(self) -> bool:
        """Whether the result does not depend on the voltages, which then need no scaling."""
        c = self.config
        plain = c.dac.bits is None and not c.nonlinear and not self._partials_matter
        return plain and not self.watching

    @property
    def _partials_matter(self) -> bool:
        """Whether something happens to column currents before they are added."""
        c = self.config
        noisy = bool(c.devices.read_noise or c.devices.bandwidth)
        return noisy or c.adc.bits is not None or c.sense != type(c.sense)() or self.watching

    def _once(self, source: Source, u: Tensor, written: Written) -> Tensor:
        """Sum of currents [A] in units of the largest weight, one read."""
        series = expansion.series(self, u, written)
        if series is not None and expansion.converts(self):
            out = expansion.products(self, source, u, series)
        elif self._solved:
            out = self._in_parts(source, u, written)
        elif not self._partials_matter:
            out = source.direct(self._features(u), self._flat(written))
        elif compiled.suits(self, u):
            out = self._compiled(source, u, written)
        else:
            out = self._in_parts(source, u, written)
        if self.config.scheme == "offset":
            zero = self.layout.zero(u)
            middle = self.devices_on_chip.level(
                self.devices_on_chip.low + (self.devices_on_chip.high - self.devices_on_chip.low) * zero
            )
            base = self.layout.combined(middle.unsqueeze(-1)) * self.config.v_read
            out = out - base * source.sums(u, self.n_out)
        return out

    def _compiled(self, source: Source, u: Tensor, written: Written) -> Tensor:
        """Products by the compiled kernel; gradients, where wanted, are those without converters."""
        if written.matrix is None:
            raise ParameterError("these arrays have no matrix")
        with torch.no_grad():
            features = self._features(u.detach())
            pack = self._pack() if written.matrix is self.matrix else compiled.packed(self, written.matrix.detach())
            out = compiled.products(self, source, features, pack)
        if torch.is_grad_enabled() and (u.requires_grad or written.matrix.requires_grad):
            return through(out, source.direct(self._features(u), self._flat(written)))
        return out

    def _pack(self) -> tuple[Tensor, ...]:
        """What was written, packed for the kernel; once, unless torch.compile traces."""
        if self.matrix is None:
            raise ParameterError("these arrays have no matrix")
        if torch.compiler.is_compiling():
            return compiled.packed(self, self.matrix)
        made_of = [(a, compiled.version(a)) for a in (self.matrix, self.adc_range, self.gain, self.offset)]
        if self._packed is None or any(
            a is not b or i != j for (a, i), (b, j) in zip(self._packed[0], made_of, strict=True)
        ):
            self._packed = made_of, compiled.packed(self, self.matrix)
        return self._packed[1]

    def _flat(self, written: Written) -> Tensor:
        """The matrix of all tiles and channels together, [M, F, n_in, n_out]."""
        if written.matrix is None:
            raise ParameterError("these arrays have no matrix")
        lay = self.layout
        parts: Tensor = written.matrix.unflatten(2, (-1, lay.config.rows))  # [M, R, F, rows, channels, K outputs]
        whole = lay.combined(parts)
        whole = whole.transpose(1, 2).flatten(2, 3)[:, :, lay.idle_rows :, : lay.n_out]
        if self.order_in is not None and self.order_out is not None:
            whole = whole[:, :, self.order_in.argsort()][..., self.order_out.argsort()]
        return whole

    def _in_parts(self, source: Source, u: Tensor, written: Written) -> Tensor:
        """Vectors through the arrays, as many at a time as memory allows."""
        vectors = source.gathered(u, self.order_in)
        vectors = nn.functional.pad(vectors, (self.layout.idle_rows, 0))
        m, r, k = self.layout.matrices, self.layout.row_tiles, self.layout.column_tiles
        columns = m * r * self.layout.channels * k * self.layout.outputs
        if not vectors.shape[1]:
            return source.placed(u.new_zeros(m, 0, self.n_out))
        series = expansion.series(self, u, written) or gpu_expansion.series(self, u, written)
        solved = self._solved and series is None
        each = self.layout.shape.numel() * _BYTES_PER_CELL if solved else 4 * columns * u.element_size()
        parts = [self._through(part, written) for part in vectors.split(max(1, int(self.config.budget // each)), dim=1)]
        out = torch.cat(parts, dim=1)[..., : self.n_out]
        if self.order_out is not None:
            out = out[..., self.order_out.argsort()]
        return source.placed(out)

    def _through(self, u: Tensor, written: Written) -> Tensor:
        """Vectors [M, b, R rows] through arrays, sense circuits and converters, [M, b, K outputs]."""
        u = u.unflatten(-1, (self.layout.row_tiles, -1)).transpose(1, 2)  # [M, R, b, rows]
        i = self._currents(u, written)  # [M, R, b, channels, K outputs]
        i = self._noisy(i, u, written)
        if self.config.partial_sums == "analog":
            i = i.sum(1, keepdim=True)
        c = self.config
        gain, offset = (None if a is None else a.unsqueeze(2) for a in (self.gain, self.offset))
        i = sense(i, gain, offset, None if c.sense.saturation is None else c.sense.saturation * self.full_scale)
        if self.watching:
            self._watch(i)
        full = self.adc_range.unsqueeze(2) if self.adc_range.dim() else self.adc_range
        i = convert_current(i, full.clamp_min(torch.finfo(i.dtype).tiny), c.adc).sum(1)
        return self.layout.combined(i)

    def _currents(self, u: Tensor, written: Written) -> Tensor:
        if written.matrix is not None:
            features = torch.cat(self._features(u), dim=-1)  # [M, R, b, F rows]
            found: Tensor = (features @ written.matrix.flatten(-2)).unflatten(-1, written.matrix.shape[-2:])
            return found
        if (series := expansion.series(self, u, written)) is not None:
            return expansion.currents(self, u, series)
        if (tiles := gpu_expansion.series(self, u, written)) is not None:
            return gpu_expansion.currents(self, u, tiles)
        c = self.config
        solved = self._solver(written)

        if c.dac.encoding != "pulse-width":
            i = solved(u * c.v_read)
        else:  # the charge of pulses that begin together: between their ends, the lines carry steady currents
            if c.dac.bits is None:
                raise ParameterError("pulse widths on lines with resistance come in steps", hint="give DAC(bits=...)")
            slots = 2 ** (c.dac.bits - 1) - 1
            size = (u.detach().abs() * slots).round()
            on = [through(u.sign() * (size > slot), u) for slot in range(slots)]
            i = torch.stack([solved(part * c.v_read) for part in on]).mean(0)
        return self.layout.sensed(i).to(u.dtype)

    def _solver(self, written: Written) -> Callable[[Tensor], Tensor]:
        """From voltages [M, R, b, rows] to currents [M, S, P, R, K, b, columns] of the arrays, solved."""
        c, place = self.config, self.place
        shape = self.layout.shape
        if place is None or written.seen is None:
            solved = self._by_cells(self._between_lines(written.g))

            def alone(v: Tensor) -> Tensor:
                return solved(v[:, None, None, :, None].expand(*shape[:5], *v.shape[-2:]))

            return alone
        if c.idle_lines == "grounded":
            solved = self._by_cells(self._between_lines(written.seen))

            def shared(v: Tensor) -> Tensor:
                return place.outputs(solved(place.inputs(v)[:, None, None].expand(*shape[:5], *v.shape[-2:])))

            return shared
        blocks = written.seen.permute(0, 3, 4, 1, 2, 5, 6).flatten(0, 2)
        reach = 2 * c.v_read
        each = [self._lut_cells(g, reach) for g in blocks]  # which lines float differs between blocks

        def floating(v: Tensor) -> Tensor:
            driven = place.inputs(v).flatten(0, 2)
            found = [gpu_layers.by_engine(self, cells, place.bias(driven[k], k)) for k, cells in enumerate(each)]
            return place.outputs(place.by_matrix(torch.stack(found)))

        return floating

    def _by_cells(self, cells: LutCells) -> Callable[[Tensor], Tensor]:
        """From voltages [*tiles, b, rows] to currents [*tiles, b, columns] of arrays whose lines are all driven."""
        return gpu_layers.solver(self, cells) or (lambda v: gpu_layers.by_engine(self, cells, v))

    def _noisy(self, i: Tensor, u: Tensor, written: Written) -> Tensor:
        """Currents with the noise of every cell's read: independent, so variances add along a column.

        The variances are those of `devicelab.noise.read_noise`, with the voltages that ideal lines would give.
        """
        d = self.config.devices
        if not (d.read_noise or d.bandwidth):
            return i
        g, v = written.g.detach(), u.detach() * self.config.v_read
        relative = self.layout.sensed((self.devices_on_chip.read_spread(g) * g) ** 2, combine=False)
        total = self.layout.sensed(g, combine=False)
        thermal = 4 * BOLTZMANN * d.temperature * d.bandwidth * (v != 0) + 2 * CHARGE * d.bandwidth * v.abs()
        variance = (v * v) @ relative.flatten(-2) + thermal.to(v.dtype) @ total.flatten(-2)
        if variance.device.type != "cpu":
            z = gpu_product.drawn(self, variance.shape, variance.device).to(variance)
        else:
            self.reads += 1
            drawn = normal(tuple(variance.shape), generator(self.config, self.stream, READS, self.reads))
            z = torch.from_numpy(drawn).to(variance)
        noise = variance.sqrt() * z
        noisy: Tensor = i + noise.unflatten(-1, i.shape[-2:])
        return noisy

    def _watch(self, i: Tensor) -> None:
        """Widen the converter's range to these currents."""
        every = max(1, i.shape[2] // _OBSERVED)
        seen = self._shared(i.detach()[:, :, ::every], self.config.adc.percentile)
        self.adc_range = torch.maximum(self.adc_range, seen) if self.has_adc_range else seen
        self.has_adc_range = True
