"""A first-order ESTIMATE of energy, latency and area of a network on arrays.

Counting: how often each circuit works for one input, times what it costs once, from a technology file whose numbers
name their sources. The dissipation of the arrays is that of the engine, sum of v i with the network's own inputs and
programmed cells. Not counted: control, clock, leakage, activation functions, pooling, links between chips, programming.
Good for trends and for finding what dominates; not for a data sheet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from devicelab.errors import ParameterError

from .config import Config
from .converters import reads
from .engine import solve
from .mapping import TiledMatrix
from .settings import from_table, read_toml
from .windows import Image, Vectors

NOTE = "ESTIMATE, first order: counts of operations times published costs; arrays by the engine's own v i"
DEFAULT = Path(__file__).with_name("technology.toml")
TILES, VECTORS = 8, 8
"""Tiles and input vectors of a layer whose dissipation is computed; the rest is taken as their mean."""
_MOST_BITS = 10
_DIGITAL_BITS = 8
_RTOL = 1e-3


@dataclass(frozen=True, kw_only=True)
class ArrayCost:
    """One array: duration of a read [s], feature size [m], area of a cell [squares of it], source."""

    read_time: float
    feature: float
    cell_area: float
    source: str


@dataclass(frozen=True, kw_only=True)
class ConverterCost:
    """A converter: energy [J] and area [m^2] at some resolutions, rate [1/s], columns that share one, source."""

    bits: tuple[int, ...]
    energy: tuple[float, ...]
    area: tuple[float, ...]
    rate: float
    columns: int
    source: str

    def __post_init__(self) -> None:
        if not len(self.bits) == len(self.energy) == len(self.area) or len(self.bits) < 2:
            raise ParameterError("bits, energy and area need as many values each, two or more", got=self.bits)
        if list(self.bits) != sorted(set(self.bits)):
            raise ParameterError("bits must increase", got=self.bits)

    def at(self, bits: int) -> tuple[float, float]:
        """Energy of a conversion [J] and area [m^2]; beyond the table by the ratio of its last two entries."""
        return self._extended(self.energy, bits), self._extended(self.area, bits)

    def _extended(self, values: tuple[float, ...], bits: int) -> float:
        if bits in self.bits:
            return values[self.bits.index(bits)]
        k = 0 if bits < self.bits[0] else min(sum(b < bits for b in self.bits) - 1, len(values) - 2)
        slope = math.log(values[k + 1] / values[k]) / (self.bits[k + 1] - self.bits[k])
        return values[k] * math.exp(slope * (bits - self.bits[k]))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Something that works once at a time: energy [J], area [m^2], source."""

    energy: float
    area: float
    source: str


@dataclass(frozen=True, kw_only=True)
class DriverCost:
    """A word line's driver: energy of a read [J], area [m^2]; the same of a unit element of its converter; source."""

    energy: float
    area: float
    unit_energy: float
    unit_area: float
    source: str

    def at(self, bits: int) -> tuple[float, float]:
        """Energy of a read [J] and area [m^2] for voltages of so many bits."""
        units = 0 if bits == 1 else 2**bits
        return self.energy + units * self.unit_energy, self.area + units * self.unit_area


@dataclass(frozen=True, kw_only=True)
class BufferCost:
    """A buffer: energy of a byte read or written [J], area of a byte [m^2], energy of a byte carried [J], source."""

    energy: float
    area: float
    bus: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Technology:
    """What circuits cost; see ``crossbar/technology.toml`` for units and sources."""

    name: str
    array: ArrayCost
    adc: ConverterCost
    dac: DriverCost
    sample_hold: Cost
    shift_add: Cost
    buffer: BufferCost

    @classmethod
    def load(cls, path: str | Path = DEFAULT) -> Technology:
        """A technology from a TOML file.

        Raises:
            FileFormatError: If it is not TOML.
            ParameterError: If a key is unknown, missing or unusable; it is named.
        """
        return from_table(cls, read_toml(path), Path(path).name)


@cache
def default_technology() -> Technology:
    """That of ``technology.toml``."""
    return Technology.load()


COMPONENTS = ("array", "adc", "dac", "sample and hold", "shift and add", "buffers")


@dataclass(frozen=True)
class LayerEstimate:
    """One layer, for one input of the network.

    Args:
        name: Of the layer.
        arrays: Arrays that hold it; of shared ones its share.
        devices: Cells; of those of shared arrays its share.
        vectors: Matrix-vector products an input.
        conversions: Conversions an input.
        energy: Of an input [J], by component.
        area: [m^2], by component.
        latency: Of an input [s].
    """

    name: str
    arrays: float
    devices: float
    vectors: float
    conversions: float
    energy: Mapping[str, float]
    area: Mapping[str, float]
    latency: float


@dataclass(frozen=True)
class Estimate:
    """A first-order estimate of a network.

    Args:
        technology: Its name.
        products: Multiplications an input.
        layers: One for each layer on arrays.
    """

    technology: str
    products: float
    layers: tuple[LayerEstimate, ...]

    @property
    def energy(self) -> dict[str, float]:
        """Energy of an input [J], by component."""
        return {name: sum(layer.energy[name] for layer in self.layers) for name in COMPONENTS}

    @property
    def area(self) -> dict[str, float]:
        """Area [m^2], by component."""
        return {name: sum(layer.area[name] for layer in self.layers) for name in COMPONENTS}

    @property
    def latency(self) -> float:
        """Of one input, layer after layer [s]."""
        return sum(layer.latency for layer in self.layers)

    @property
    def rate(self) -> float:
        """Inputs a second with all layers at work at once, each on an input of its own."""
        return 1 / max(layer.latency for layer in self.layers)

    @property
    def efficiency(self) -> float:
        """Operations (a multiplication and an addition are two) a joule; times 1e-12 they are TOPS/W."""
        return 2 * self.products / sum(self.energy.values())

    def rows(self) -> list[dict[str, Any]]:
        """Layers and total as plain values; the first column says that this is an estimate."""
        out = []
        for layer in self.layers:
            energy, area = sum(layer.energy.values()), sum(layer.area.values())
            out.append(
                {
                    "estimate of": layer.name,
                    "arrays": layer.arrays,
                    "devices": layer.devices,
                    "vectors": layer.vectors,
                    "energy [nJ]": 1e9 * energy,
                    **{f"{name} [%]": 100 * layer.energy[name] / energy for name in COMPONENTS},
                    "latency [us]": 1e6 * layer.latency,
                    "area [mm2]": 1e6 * area,
                }
            )
        energy, area = sum(self.energy.values()), sum(self.area.values())
        out.append(
            {
                "estimate of": "total",
                "arrays": sum(layer.arrays for layer in self.layers),
                "devices": sum(layer.devices for layer in self.layers),
                "vectors": sum(layer.vectors for layer in self.layers),
                "energy [nJ]": 1e9 * energy,
                **{f"{name} [%]": 100 * self.energy[name] / energy for name in COMPONENTS},
                "latency [us]": 1e6 * self.latency,
                "area [mm2]": 1e6 * area,
            }
        )
        return out

    def __str__(self) -> str:
        """A table, headed by what it is."""
        rows = self.rows()
        widths = {key: max(len(key), *(len(_short(row[key])) for row in rows)) for key in rows[0]}
        lines = [NOTE, f"technology: {self.technology}", "  ".join(key.rjust(widths[key]) for key in rows[0])]
        lines += ["  ".join(_short(row[key]).rjust(widths[key]) for key in row) for row in rows]
        shares = ", ".join(f"{k} {100 * v / sum(self.area.values()):.0f} %" for k, v in self.area.items())
        lines.append(f"area: {shares}")
        lines.append(f"{self.rate:.4g} inputs a second pipelined, {1e-12 * self.efficiency:.3g} TOPS/W (estimate)")
        return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@torch.no_grad()
def estimate(net: nn.Module, inputs: Tensor, technology: Technology | None = None) -> Estimate:
    """A first-order estimate of energy, latency and area.

    Args:
        net: A network on arrays, from `convert`.
        inputs: Some inputs of it, [b, ...]; their currents decide the dissipation of the arrays.
        technology: Costs of circuits; by default those of ``technology.toml``.

    Raises:
        ParameterError: If nothing in the network is on arrays.
    """
    technology = technology or default_technology()
    matrices = {name: module for name, module in net.named_modules() if isinstance(module, TiledMatrix)}
    if not matrices:
        raise ParameterError("nothing in this network is on arrays", hint="give what crossbar.convert returned")
    uses: dict[str, list[_Use]] = {}
    for name, matrix in matrices.items():
        matrix.probe = partial(_note, matrix, uses.setdefault(name, []))
    try:
        net(inputs)
    finally:
        for matrix in matrices.values():
            matrix.probe = None
    used = {name: found for name, found in uses.items() if found}
    layers = [_layer(name, matrices[name], found, len(inputs), technology) for name, found in used.items()]
    total = sum(
        layer.vectors * m.n_in * m.n_out * m.layout.matrices
        for layer, m in zip(layers, (matrices[name] for name in used), strict=True)
    )
    return Estimate(technology.name, total, tuple(layers))


@dataclass(frozen=True)
class _Use:
    """One use of a matrix: vectors in all, and some of them relative to the largest input, [M, some, n_in]."""

    vectors: int
    sample: Tensor


def _note(matrix: TiledMatrix, uses: list[_Use], source: Vectors | Image, written: Any) -> Tensor:
    few = replace(source, x=source.x[: VECTORS if isinstance(source, Vectors) else 1])
    peak = matrix.input_range if matrix.has_input_range else few.peaks().clamp_min(torch.finfo(few.x.dtype).tiny)
    vectors = few.gathered((few.x / peak).clamp(-1, 1), matrix.order_in)
    spread = torch.linspace(0, vectors.shape[1] - 1, min(VECTORS, vectors.shape[1]), device="cpu").round().long()
    positions = math.prod(source.window.size(source.spatial)) if isinstance(source, Image) else 1
    uses.append(_Use(len(source.x) * positions, vectors[:, spread]))
    return matrix.product(source, written)


def _layer(name: str, matrix: TiledMatrix, uses: list[_Use], inputs: int, technology: Technology) -> LayerEstimate:
    config, layout = matrix.config, matrix.layout
    vectors = sum(use.vectors for use in uses) / inputs
    n_reads = reads_of_a_vector(config)
    stacks = 1 if config.partial_sums == "analog" else layout.row_tiles
    conversion, converter = technology.adc.at(config.adc.bits or _MOST_BITS)
    converted = layout.matrices * stacks * layout.channels
    conversions = vectors * n_reads * converted * layout.n_out
    drive, driver = technology.dac.at(driver_bits(config))
    arrays_a_tile = layout.shape[1] * layout.shape[2]
    arrays: float = matrix.tiles if matrix.place is None else matrix.place.share
    turns = 1 if matrix.place is None else matrix.place.turns
    lines = layout.matrices * layout.n_in * layout.column_tiles * arrays_a_tile
    on_time = technology.array.read_time
    if config.dac.encoding == "pulse-width":
        on_time *= 2 ** ((config.dac.bits or _DIGITAL_BITS) - 1)
    # shared tiles have the circuits of their own bit lines, whoever uses them
    sets = converted * layout.column_tiles if matrix.place is None else arrays / arrays_a_tile * layout.channels
    converters = sets * math.ceil(layout.outputs / technology.adc.columns)
    traffic = vectors * layout.matrices * (layout.n_in + layout.n_out) * _DIGITAL_BITS / 8
    power = sum(use.vectors * _dissipation(matrix, use.sample) for use in uses) / sum(use.vectors for use in uses)
    energy = {
        "array": vectors * n_reads * power * on_time,
        "adc": conversions * conversion,
        "dac": vectors * n_reads * lines * drive,
        "sample and hold": conversions * technology.sample_hold.energy,
        "shift and add": conversions * technology.shift_add.energy,
        "buffers": traffic * (technology.buffer.energy + technology.buffer.bus),
    }
    area = {
        "array": arrays * config.rows * config.columns * technology.array.cell_area * technology.array.feature**2,
        "adc": converters * converter,
        "dac": arrays * config.rows * driver,
        "sample and hold": sets * layout.outputs * technology.sample_hold.area,
        "shift and add": (math.ceil(converters / 2) if matrix.place is None else converters / 2)
        * technology.shift_add.area,
        "buffers": layout.matrices * (layout.n_in + layout.n_out) * _DIGITAL_BITS / 8 * technology.buffer.area,
    }
    latency = vectors * n_reads * turns * max(on_time, technology.adc.columns / technology.adc.rate)
    shown = name.removesuffix(".matrix")
    devices = arrays * config.rows * config.columns
    return LayerEstimate(shown, arrays, devices, vectors, conversions, energy, area, latency)


def reads_of_a_vector(config: Config) -> int:
    """How often an array is read for one input vector."""
    if config.dac.encoding == "bit-serial" and config.dac.bits is not None:
        return math.ceil((config.dac.bits - 1) / config.dac.slice_bits)  # the sign is the polarity
    return 1


def driver_bits(config: Config) -> int:
    """Bits of the voltages of a word line's driver, sign apart."""
    if config.dac.encoding == "amplitude":
        return (config.dac.bits or _DIGITAL_BITS + 1) - 1
    return config.dac.slice_bits if config.dac.encoding == "bit-serial" else 1


def _dissipation(matrix: TiledMatrix, u: Tensor) -> float:
    """Mean power that the drivers put into all arrays of a matrix while it is read [W], from a sample of its tiles.

    Args:
        matrix: The arrays.
        u: Inputs relative to the largest, [M, b, n_in].
    """
    layout, config = matrix.layout, matrix.config
    u = nn.functional.pad(u, (layout.idle_rows, 0)).unflatten(-1, (layout.row_tiles, -1))  # [M, b, R, rows]
    every = list(itertools.product(*map(range, layout.shape[:5])))
    step = max(1, len(every) // TILES)
    found = []
    for m, s, p, r, k in every[step // 2 :: step]:
        cells = matrix.cells(-1 if p else 1, r, k, slice=s, matrix=m)
        for _, part in reads(u[m, :, r], config.dac):
            size = part.sign() if config.dac.encoding == "pulse-width" else part
            drive = matrix.drive((size * config.v_read).to(cells.dtype), r, k, matrix=m)
            solution = solve(cells, drive, config.wires, rtol=_RTOL)
            share = part.abs().mean() / size.abs().mean().clamp_min(1e-30) if size is not part else 1.0
            found.append(float(solution.power().supplied.mean() * share))
    return sum(found) / len(found) * len(every)
