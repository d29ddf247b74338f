"""What arrays a network is put on: the mapping, the converters, the sense circuit and the devices.

Plain values and small frozen dataclasses, so that a configuration can be written as TOML. Every default is ideal but
for the device's own non-linear current; each non-ideality is switched by its own fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from devicelab.errors import ParameterError, unknown_name
from devicelab.noise import Wear

from .wires import Wires

Scheme = Literal["two arrays", "two columns", "offset", "reference column"]
Where = Literal["analog", "digital"]
Spread = float | Literal["lut"]

SCHEMES = ("two arrays", "two columns", "offset", "reference column")
ENCODINGS = ("amplitude", "bit-serial", "pulse-width")
LAWS = ("linear", "log")
SHARED_BY = ("layer", "tile", "column")
IDLE = ("grounded", "floating word lines", "floating")
MOST_BITS = 24
"""Of a converter: as many as float32 counts exactly."""


@dataclass(frozen=True, kw_only=True)
class DAC:
    """What drives the word lines.

    Args:
        bits: Resolution, sign included; None: continuous.
        encoding: "amplitude": a number is a voltage; "bit-serial": one read for every `slice_bits` bits of the number,
            each at full or fractional voltage, added digitally; "pulse-width": a number is the duration of a pulse of
            `v_read`, and the charge is what is sensed.
        slice_bits: Bits of one read of the bit-serial encoding.
        range: Largest input [units of the layer's input]; None: from the calibration data, or without them from every
            input vector (every image of a convolution) on its own.
        percentile: Of the calibration data's |input| that the range spans [%]; what is beyond is clipped.
    """

    bits: int | None = None
    encoding: Literal["amplitude", "bit-serial", "pulse-width"] = "amplitude"
    slice_bits: int = 1
    range: float | None = None
    percentile: float = 100.0

    def __post_init__(self) -> None:
        _bits("bits", self.bits, least=2)
        _one_of("encoding", self.encoding, ENCODINGS)
        _percentile(self.percentile)
        _positive("range", self.range)
        if self.slice_bits < 1:
            raise ParameterError("slice_bits must be positive", got=self.slice_bits)
        if self.encoding == "bit-serial" and self.bits is None:
            raise ParameterError("bit-serial inputs need bits", got=None, allowed=f"2 to {MOST_BITS}")


@dataclass(frozen=True, kw_only=True)
class ADC:
    """What turns the current of a column into a number.

    Args:
        bits: Resolution, sign included; None: continuous.
        law: "linear": equal steps; "log": equal ratios over `decades` below the range, and zero.
        range: Largest current, relative to full scale (`rows * v_read * g_high`, the current of a column whose cells
            are all on); None: from the calibration data, or without them the largest that can occur.
        percentile: Of the calibration data's |current| that the range spans [%]; what is beyond is clipped.
        per: What shares one range: all of a "layer", a "tile", or nothing: one range a "column".
        decades: Dynamic range of the logarithmic law.
    """

    bits: int | None = None
    law: Literal["linear", "log"] = "linear"
    range: float | None = None
    percentile: float = 100.0
    per: Literal["layer", "tile", "column"] = "layer"
    decades: float = 3.0

    def __post_init__(self) -> None:
        _bits("bits", self.bits, least=2)
        _one_of("law", self.law, LAWS)
        _one_of("per", self.per, SHARED_BY)
        _percentile(self.percentile)
        _positive("range", self.range)
        _positive("decades", self.decades)


@dataclass(frozen=True, kw_only=True)
class Sense:
    """What reads a column before the converter.

    Args:
        gain: Standard deviation between columns of the sense amplifier's gain, relative.
        offset: Standard deviation between columns of its offset, relative to full scale.
        gain_error: Common error of the gain, relative: 0.01 is 1 % too much.
        offset_error: Common offset, relative to full scale.
        saturation: Current at which the integrator saturates, relative to full scale; None: never.
    """

    gain: float = 0.0
    offset: float = 0.0
    gain_error: float = 0.0
    offset_error: float = 0.0
    saturation: float | None = None

    def __post_init__(self) -> None:
        _not_negative(self, "gain", "offset")
        _finite(self, "gain_error", "offset_error")
        _positive("saturation", self.saturation)


@dataclass(frozen=True, kw_only=True)
class Devices:
    """How devices differ from what was asked of them. Spreads are standard deviations relative to the conductance.

    Args:
        levels: Number of conductances that can be written, or "lut": those of the table; None: any.
        even_in: Levels evenly spaced in conductance "G" or in resistance "R".
        d2d: Between devices, of the written conductance (lognormal, drawn once for a device); "lut": the table's.
        r_on_spread: Between devices, of the low resistance; a device then spans its own range.
        r_off_spread: The same of r_off / r_on - 1, so that r_on stays below r_off.
        c2c: Between writes of one device (lognormal, drawn at each write); "lut": the table's.
        stuck_on: Share of the devices stuck at the largest conductance.
        stuck_off: Share stuck at the smallest.
        pristine: Share never formed, at a tenth of the smallest.
        read_noise: Of one read of one device; "lut": the table's.
        bandwidth: Of a read [Hz], for thermal and shot noise; 0: none.
        time: Since programming [s], for drift and retention.
        drift: Exponent nu of g (t / t0)^-nu; 0: none.
        drift_spread: Standard deviation of nu between devices.
        drift_start: t0 [s].
        retention_on: Wear over time of devices above the middle conductance; None: none.
        retention_off: The same below the middle.
        temperature: Of the arrays [K].
        e_on: Activation energy of the largest conductance [eV]: g(T) = g exp(-e (1/T - 1/300 K) / k); negative for a
            metallic one.
        e_off: The same for the smallest; between them e is linear in log g.
    """

    levels: int | Literal["lut"] | None = None
    even_in: Literal["G", "R"] = "G"
    d2d: Spread = 0.0
    r_on_spread: float = 0.0
    r_off_spread: float = 0.0
    c2c: Spread = 0.0
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    pristine: float = 0.0
    read_noise: Spread = 0.0
    bandwidth: float = 0.0
    time: float = 0.0
    drift: float = 0.0
    drift_spread: float = 0.0
    drift_start: float = 1.0
    retention_on: Wear | None = None
    retention_off: Wear | None = None
    temperature: float = 300.0
    e_on: float = 0.0
    e_off: float = 0.0

    def __post_init__(self) -> None:
        for name in ("d2d", "c2c", "read_noise"):
            value = getattr(self, name)
            if value != "lut" and not (isinstance(value, float | int) and 0 <= value < math.inf):
                raise ParameterError(f"unusable {name}", got=value, allowed='a number >= 0, or "lut"')
        if not (self.levels is None or self.levels == "lut" or (isinstance(self.levels, int) and self.levels >= 2)):
            raise ParameterError("unusable levels", got=self.levels, allowed='at least 2, "lut", or none')
        _one_of("even_in", self.even_in, ("G", "R"))
        _not_negative(self, "r_on_spread", "r_off_spread", "bandwidth", "time", "drift_spread")
        _finite(self, "drift", "e_on", "e_off")
        _positive("drift_start", self.drift_start)
        _positive("temperature", self.temperature)
        shares = self.stuck_on, self.stuck_off, self.pristine
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise ParameterError("impossible shares of stuck devices", got=shares, allowed=">= 0, at most 1 together")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Arrays for `convert` and `TiledMatrix`.

    Args:
        rows: Word lines of a tile, one for each input.
        columns: Bit lines of a tile.
        v_read: Word-line voltage of the largest input [V], also the voltage at which cells are programmed.
        nonlinear: Whether cells follow the table's I(V); otherwise they are ohmic with the conductance at `v_read`.
        wires: Line resistances; None for ideal lines.
        rtol: Relative residual to which an array is solved.
        digital: Leave the network as it is, to compare with.
        budget: Memory for one solve or one product [bytes]; more vectors are computed in several goes.
        g_low: Smallest conductance used [S], within the device's range; None: the device's.
        g_high: Largest conductance used [S]; None: the device's.
        scheme: How a signed weight becomes conductances. "two arrays": a plus and a minus array; "two columns": a plus
            and a minus column side by side in one array; "offset": one column, zero in the middle of the range, and
            the input's sum times the middle is subtracted digitally; "reference column": the same, subtracting the
            current of one column of middle cells in every tile.
        slices: Devices over which the bits of a weight are spread; their columns are read apart and added digitally.
        slice_bits: Bits of a weight in one device; None (with one slice): as fine as the device.
        clip: Percentile of |w| that is mapped to the largest conductance [%]; larger weights are clipped.
        partial_sums: Whether the currents of tiles below each other are added before the sense circuit and converter
            ("analog") or after ("digital").
        subtraction: The same for plus minus minus, and for the reference column.
        permute: Order columns within a tile by conductance, largest next to the driver, and rows with the largest next
            to the sense node, to lessen the voltage lost in lines.
        share_tiles: What lies on one tile. False: one block of one matrix; "groups" (or True): as many groups of a
            convolution as fit on its diagonal, read at once; "layers": blocks of any matrices of the network, packed,
            and read one at a time.
        idle_lines: The lines of other blocks on the tile, where layers share it, while one is read. "grounded": word
            lines driven with 0 V, bit lines at virtual ground; "floating word lines": word lines float; "floating":
            bit lines float too, and even ideal lines let sneak currents through.
        dac: What drives the word lines.
        adc: What converts column currents.
        sense: What reads columns.
        devices: How devices differ from what was asked of them.
        seed: Of every draw. Same seed, same devices on any machine, and the same noise of reads on any CPU; a GPU has
            a draw of its own, the same for a seed on one device.
    """

    rows: int = 64
    columns: int = 64
    v_read: float = 0.2
    nonlinear: bool = True
    wires: Wires | None = None
    rtol: float = 1e-3
    digital: bool = False
    budget: float = 1e9
    g_low: float | None = None
    g_high: float | None = None
    scheme: Scheme = "two arrays"
    slices: int = 1
    slice_bits: int | None = None
    clip: float = 100.0
    partial_sums: Where = "digital"
    subtraction: Where = "analog"
    permute: bool = False
    share_tiles: bool | Literal["groups", "layers"] = False
    idle_lines: Literal["grounded", "floating word lines", "floating"] = "grounded"
    dac: DAC = field(default_factory=DAC)
    adc: ADC = field(default_factory=ADC)
    sense: Sense = field(default_factory=Sense)
    devices: Devices = field(default_factory=Devices)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "v_read", "rtol", "budget", "slices"):
            value = getattr(self, name)
            if not value > 0:
                raise ParameterError(f"{name} must be positive", got=value)
        for name in ("rows", "columns", "slices"):
            if int(getattr(self, name)) != getattr(self, name):
                raise ParameterError(f"{name} must be a whole number", got=getattr(self, name))
        _one_of("scheme", self.scheme, SCHEMES)
        _one_of("partial_sums", self.partial_sums, ("analog", "digital"))
        _one_of("subtraction", self.subtraction, ("analog", "digital"))
        if not isinstance(self.share_tiles, bool):
            _one_of("share_tiles", self.share_tiles, ("groups", "layers"))
        _one_of("idle_lines", self.idle_lines, IDLE)
        if self.idle_lines != "grounded" and self.share_tiles != "layers":
            raise ParameterError(
                "only tiles that layers share have idle lines", got=self.idle_lines, hint='share_tiles="layers"'
            )
        _percentile(self.clip, "clip")
        _bits("slice_bits", self.slice_bits, least=1)
        if self.slices > 1 and self.slice_bits is None:
            raise ParameterError("slices need slice_bits", got=None, allowed=f"1 to {MOST_BITS}")
        if self.slices * (self.slice_bits or 1) > MOST_BITS:
            raise ParameterError("too many bits in a weight", got=self.slices * (self.slice_bits or 1))
        if self.scheme in ("two columns", "reference column") and self.columns < 2:
            raise ParameterError(f"{self.scheme} need two columns in a tile", got=self.columns)
        if self.g_low is not None and self.g_high is not None and not 0 < self.g_low < self.g_high:
            raise ParameterError("g_low must be below g_high", got=(self.g_low, self.g_high), allowed="0 < low < high")

    @classmethod
    def ideal(cls) -> Self:
        """No array at all: the network in floating point."""
        return cls(digital=True)

    def but(self, **changes: Any) -> Self:
        """The same with some fields changed; `adc__bits=6` changes the field `bits` of `adc`."""
        known = [f.name for f in fields(self)]
        inner: dict[str, dict[str, Any]] = {}
        flat: dict[str, Any] = {}
        for name, value in changes.items():
            outer, _, part = name.partition("__")
            if outer not in known:
                raise unknown_name("field of a configuration", outer, known)
            if part:
                names = [f.name for f in fields(getattr(self, outer))]
                if part not in names:
                    raise unknown_name(f"field of {outer}", part, names)
                inner.setdefault(outer, {})[part] = value
            else:
                flat[name] = value
        parts = {name: replace(flat.get(name, getattr(self, name)), **values) for name, values in inner.items()}
        return replace(self, **flat | parts)

    def active(self) -> list[str]:
        """Names of the non-idealities that are switched on, see `NON_IDEALITIES`."""
        return [name for name, off in NON_IDEALITIES.items() if self.but(**off) != self]

    def without(self, *names: str) -> Self:
        """The same with some non-idealities switched off.

        Raises:
            ParameterError: If there is no such non-ideality.
        """
        for name in names:
            if name not in NON_IDEALITIES:
                raise unknown_name("non-ideality", name, list(NON_IDEALITIES))
        return self.but(**{key: value for name in names for key, value in NON_IDEALITIES[name].items()})

    def only(self, *names: str) -> Self:
        """The same with all non-idealities but some switched off."""
        self.without(*names)  # refuses unknown names
        return self.without(*(name for name in NON_IDEALITIES if name not in names))


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown_name(name, str(value), list(allowed))


def _bits(name: str, value: int | None, *, least: int) -> None:
    if value is not None and not (isinstance(value, int) and least <= value <= MOST_BITS):
        raise ParameterError(f"unusable {name}", got=value, allowed=f"{least} to {MOST_BITS}, or none")


def _percentile(value: float, name: str = "percentile") -> None:
    if not 0 < value <= 100:
        raise ParameterError(f"unusable {name}", got=value, allowed="above 0, at most 100 %")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ParameterError(f"{name} must be positive", got=value)


def _not_negative(item: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(item, name) < math.inf:
            raise ParameterError(f"{name} must not be negative", got=getattr(item, name))


def _finite(item: Any, *names: str) -> None:
    for name in names:
        if not math.isfinite(getattr(item, name)):
            raise ParameterError(f"{name} must be finite", got=getattr(item, name))


NON_IDEALITIES: dict[str, dict[str, Any]] = {
    "non-linear cells": {"nonlinear": False},
    "line resistance": {"wires": None},
    "floating lines": {"idle_lines": "grounded"},
    "clipped weights": {"clip": 100.0},
    "levels": {"devices__levels": None},
    "d2d": {"devices__d2d": 0.0, "devices__r_on_spread": 0.0, "devices__r_off_spread": 0.0},
    "c2c": {"devices__c2c": 0.0},
    "stuck on": {"devices__stuck_on": 0.0},
    "stuck off": {"devices__stuck_off": 0.0, "devices__pristine": 0.0},
    "read noise": {"devices__read_noise": 0.0, "devices__bandwidth": 0.0},
    "drift": {"devices__drift": 0.0, "devices__drift_spread": 0.0},
    "retention": {"devices__retention_on": None, "devices__retention_off": None},
    "temperature": {"devices__e_on": 0.0, "devices__e_off": 0.0},
    "dac": {"dac": DAC()},
    "adc": {"adc": ADC()},
    "sense gain": {"sense__gain": 0.0, "sense__gain_error": 0.0},
    "sense offset": {"sense__offset": 0.0, "sense__offset_error": 0.0},
    "saturation": {"sense__saturation": None},
}
"""What can be switched off on its own, and the fields (as for `Config.but`) that do it."""
