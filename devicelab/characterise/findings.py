"""Numbers of pulses, endurance, retention, reads and states, one `Finding` a measurement, and what all say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import DevicelabError, ParameterError
from .distributions import rank_distributions
from .endurance import Endurance, endurance
from .number import Number
from .pulses import PulseResponse, asymmetry, pulse_response
from .retention import TEN_YEARS, Arrhenius, Drift, arrhenius, drift
from .series import EPOCH, Series
from .spectrum import EXPONENTS, Spectrum, physical_floors, read_spectrum
from .states import between, moved, states
from .telegraph import Telegraph, telegraph_levels
from .variability import variance_components

EXTRAPOLATED = "An extrapolation says what follows if the fitted law goes on; wear and drift may change their law."
LONGEST_SIGNAL = 100_000
MANY_PAIRS = 6
NEVER = 1e12
"""A time to failure [s] beyond 30 000 years is not given."""
LINE = 5.0
"""Times the fitted law; the mean of eight Welch windows exceeds it by chance in fewer than one of 10^9 frequencies."""


@dataclass(frozen=True)
class Settings:
    """What a user may choose.

    Args:
        lifetime: Time to which retention is extrapolated [s].
        closed: R_off / R_on at which a window is closed, and factor by which a state may drift before it has failed.
        temperature: Of the reads [K], for thermal noise.
        service: Temperature of the Arrhenius extrapolation [K].

    Raises:
        ParameterError: If one is out of bounds.
    """

    lifetime: float = TEN_YEARS
    closed: float = 2.0
    temperature: float = 300.0
    service: float = 358.15

    def __post_init__(self) -> None:
        for name, least in (("lifetime", 0.0), ("closed", 1.0), ("temperature", 0.0), ("service", 0.0)):
            value = getattr(self, name)
            if not least < value < np.inf:
                raise ParameterError(f"{name} is out of bounds", got=value, allowed=f"above {least:g}, finite")


@dataclass(frozen=True, eq=False)
class Finding(Mapping[str, Number]):
    """The numbers of one measurement, by name.

    Args:
        series: What was measured.
        numbers: Name to number.
        remarks: Sentences that belong to the numbers.
        models: What the figures draw: fits by name.
    """

    series: Series
    numbers: Mapping[str, Number]
    remarks: tuple[str, ...] = ()
    models: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Number:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class Findings:
    """All measurements of one kind.

    Args:
        kind: "pulses", "endurance", "retention", "noise" or "states".
        items: One a measurement.
        together: Numbers over several: asymmetry, activation energy, ...
        remarks: Sentences about all.
        skipped: Measurements without numbers: name and reason.
        models: What the figures draw of all together.
    """

    kind: str
    items: tuple[Finding, ...]
    together: Mapping[str, Number] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    models: Mapping[str, Any] = field(default_factory=dict)


def findings(series: Sequence[Series], settings: Settings | None = None) -> list[Findings]:
    """Numbers of measurements, by kind; one that cannot be characterised is reported in `skipped`.

    Args:
        series: Measurements, from `series_of`.
        settings: Choices; the usual ones unless given.

    Raises:
        ParameterError: If none can be characterised.
    """
    chosen = settings or Settings()
    made = []
    for kind in dict.fromkeys(item.kind for item in series):
        items, skipped = [], []
        for item in (one for one in series if one.kind == kind):
            try:
                items.append(_OF_KIND[kind](item, chosen))
            except DevicelabError as problem:
                skipped.append((item.name, str(problem)))
        made.append(_together(kind, items, skipped, chosen))
    if not any(found.items for found in made):
        first = next((found.skipped[0] for found in made if found.skipped), ("", "no measurement"))
        raise ParameterError("nothing could be characterised", got=first[0], hint=first[1].replace("\n", ";"))
    return made


def _pulses(item: Series, settings: Settings) -> Finding:
    (values,) = item.y.values()
    fit = pulse_response(values)
    numbers = {**fit.numbers()}
    unit = item.unit
    numbers["range"] = Number(float(abs(fit.fitted[-1] - fit.fitted[0])), unit, "change of the fitted curve")
    remarks = ["weights run from -1 to 1 over the fitted range of this ramp"]
    if fit.a.low is None and fit.label.low is not None:
        remarks.append("straight within its noise: A has no upper end; the label has")
    if fit.write_noise.value > 0.25 * 2:
        remarks.append("the scatter is more than a quarter of the range")
    return Finding(item, numbers, tuple(remarks), {"response": fit})


def _endurance(item: Series, settings: Settings) -> Finding:
    fit = endurance(item.x, item.y["low"], item.y["high"], closed=settings.closed)
    numbers = dict(fit.numbers)
    remarks = []
    if item.unit != "ohm":
        numbers = {n: _renamed(v, item.unit) if v.unit == "ohm" else v for n, v in numbers.items()}
        remarks.append("read voltage unknown: resistances are 1 / I, the window is a ratio and holds")
    if fit.on is None:
        remarks.append(f"{len(item)} cycles are too few for wear")
    else:
        for name, one in (("R_on", fit.on), ("R_off", fit.off)):
            if one is not None:
                rest = ", ".join(f"{law} {delta:.1f}" for law, delta in one.delta.items())
                remarks.append(f"{name}: wear {one.law} (BIC above the best: {rest})")
        if numbers["cycles_to_failure"].value > item.x.max() and not numbers["cycles_to_failure"].censored:
            remarks.append(EXTRAPOLATED)
    return Finding(item, numbers, tuple(remarks), {"endurance": fit})


def _renamed(number: Number, unit: str) -> Number:
    return Number(number.value, unit, number.method, number.low, number.high, number.interval, number.censored)


def _retention(item: Series, settings: Settings) -> Finding:
    time, shift = item.x, 0.0
    remarks = []
    if time.size and time.min() > EPOCH:
        shift = float(time.min())
        remarks.append("times are dates: counted from the first reading, which is left out; programming was earlier")
    elif time.size and time.min() <= 0:
        shift = float(time.min())
        remarks.append("times counted from the first reading, which is left out of a logarithm")
    time = time - shift
    keep = time > 0
    numbers: dict[str, Number] = {}
    fits: dict[str, Drift] = {}
    for role, values in item.y.items():
        laws = {law: drift(time[keep], values[keep], at=settings.lifetime, law=law) for law in ("power", "log")}
        best = min(laws.values(), key=lambda fit: fit.aicc)
        other = laws["log" if best.law == "power" else "power"]
        lead = "" if role == "state" else f"r_{'on' if role == 'low' else 'off'}."
        numbers[f"{lead}r_first"] = Number(float(values[keep][0]), item.unit, "first reading")
        numbers[f"{lead}nu"] = laws["power"].slope
        numbers[f"{lead}per_decade"] = _renamed(laws["log"].slope, item.unit)
        numbers[f"{lead}r_lifetime"] = _renamed(best.at, item.unit)
        numbers[f"{lead}r_lifetime.other_law"] = _renamed(other.at, item.unit)
        failure = _drift_failure(laws["power"], float(time[keep].min()), settings.closed)
        if failure is not None:
            numbers[f"{lead}time_to_failure"] = failure
        fits[role] = best
        remarks.append(f"{role}: {best.law} law better by {other.aicc - best.aicc:.2g} in AICc")
    if {"low", "high"} <= set(fits):
        on, off = (numbers[f"r_{side}.r_lifetime"] for side in ("on", "off"))
        ends = (None if on.high is None or off.low is None or on.high <= 0 else max(off.low, 0.0) / on.high,
                None if on.low is None or off.high is None or on.low <= 0 else off.high / on.low)  # fmt: skip
        numbers["window_lifetime"] = Number(off.value / on.value, "1", "R_off / R_on extrapolated", *ends,
                                            "95 % ends of both")  # fmt: skip
    kelvin = item.meta.get("temperature")
    remarks += [f"at {kelvin:g} K"] if isinstance(kelvin, (int, float)) else []
    return Finding(item, numbers, (*remarks, EXTRAPOLATED), {"drift": fits, "shift": shift})


def _drift_failure(fit: Drift, first: float, factor: float) -> Number | None:
    """Time at which the power law has moved by a factor from its value at the first reading, None while it is flat."""
    nu, low, high = (abs(end) for end in (fit.slope.value, fit.slope.low or 0.0, fit.slope.high or 0.0))
    if fit.slope.low is None or fit.slope.high is None or fit.slope.low <= 0 <= fit.slope.high:
        return None
    times = [float(first * np.exp(min(600.0, np.log(factor) / end))) for end in (nu, low, high)]
    if times[0] > NEVER:
        return None
    return Number(times[0], "s", f"power law, factor {factor:g} from the first reading", min(times[1:]), max(times[1:]),
                  "95 % of nu")  # fmt: skip


def _noise(item: Series, settings: Settings) -> Finding:
    (signal,) = item.y.values()
    steps = np.diff(item.x)
    if item.x.size < 2 or not np.median(steps) > 0:
        raise ParameterError("times do not increase", got=item.name, allowed="one read after the other")
    dt = float((item.x[-1] - item.x[0]) / (item.x.size - 1))
    spectrum = read_spectrum(signal, dt)
    mean, sd = float(np.mean(signal)), float(np.std(signal, ddof=1))
    half = 1.96 * sd / np.sqrt(2 * signal.size)
    square = f"{item.unit}2/Hz"
    numbers = {
        "mean": Number(mean, item.unit, f"mean of {signal.size} reads"),
        "sd": Number(sd, item.unit, "standard deviation", sd - half, sd + half, "95 %, if white"),
        "relative_sd": Number(sd / abs(mean) if mean else np.inf, "1", "sd / |mean|"),
        "exponent": spectrum.exponent,
        "s_1hz": _renamed(spectrum.at_1hz, square),
        "white": _renamed(spectrum.white, square),
    }
    if spectrum.corner is not None:
        numbers["corner"] = spectrum.corner
    voltage = item.meta.get("voltage")
    if item.unit == "A" and isinstance(voltage, float) and voltage * mean != 0:
        numbers |= physical_floors(mean, abs(voltage / mean), settings.temperature)
    remarks = []
    uneven = float(np.std(steps) / np.mean(steps))
    if uneven > 0.01:
        remarks.append(f"times differ by {100 * uneven:.2g} % (sd) and were taken as even, {dt:.3g} s apart")
    above = spectrum.s[3:-1] / spectrum.law(spectrum.f[3:-1])
    if above.max() > LINE:
        at = float(spectrum.f[3:-1][int(np.argmax(above))])
        remarks.append(f"a line at {at:.3g} Hz stands {above.max():.2g} times above the law: interference?")
    remarks += _missed(spectrum) + _doubts(spectrum)
    stretch = signal[:LONGEST_SIGNAL]
    levels = telegraph_levels(stretch, dt, unit=item.unit)
    if stretch.size < signal.size:
        remarks.append(f"levels from the first {LONGEST_SIGNAL} reads")
    remarks.append(f"telegraph signal {'told' if levels.clear else 'not told'}: {levels.why}")
    if levels.clear:
        numbers["rtn.amplitude"] = levels.amplitude
        for k, (level, stay) in enumerate(zip(levels.levels, levels.times, strict=True)):
            numbers |= {f"rtn.level_{k + 1}": level, f"rtn.time_{k + 1}": stay}
        rate = sum(1 / stay.value for stay in levels.times)
        if len(levels.times) == 2:
            words = "(1 / time_1 + 1 / time_2) / 2 pi: Lorentzian of the two levels"
            numbers["rtn.corner"] = Number(rate / (2 * np.pi), "Hz", words)
        remarks.append("a telegraph signal has a Lorentzian spectrum: exponent and corner of 1/f say little")
    return Finding(item, numbers, tuple(remarks), {"spectrum": spectrum, "levels": levels, "dt": dt})


def _missed(spectrum: Spectrum) -> list[str]:
    """A remark where the fitted law misses the measured density over a stretch of frequencies."""
    f, s = spectrum.f[1:-1], spectrum.s[1:-1]
    edges = np.geomspace(f[0], f[-1] * 1.001, 7)
    parts = [np.flatnonzero((f >= a) & (f < b)) for a, b in pairwise(edges)]
    ratios = {
        float(f[part].mean()): float(np.median(s[part] / spectrum.law(f[part]))) for part in parts if part.size > 3
    }
    worst = max(ratios, key=lambda at: abs(np.log(ratios[at])), default=None)
    if worst is None or abs(np.log(ratios[worst])) < np.log(2):
        return []
    return [f"no 1/f law: near {worst:.2g} Hz the density is {ratios[worst]:.2g} times the fitted one"]


def _doubts(spectrum: Spectrum) -> list[str]:
    """A remark where the exponent is none of noise."""
    beta = spectrum.exponent.value
    if not EXPONENTS[0] < beta < EXPONENTS[1]:
        return [f"the exponent is at its bound, {beta:g}: a signal or a drift rather than noise"]
    return []


def _states(item: Series, settings: Settings) -> Finding:
    numbers = states(item)
    if {"before", "after"} <= set(item.y):
        good = (item.y["before"] > 0) & (item.y["after"] > 0)
        numbers |= moved(item.y["before"][good], item.y["after"][good], settings.closed)
    best = [(role, rank_distributions(y[y > 0], draws=100)[0]) for role, y in item.y.items() if np.ptp(y[y > 0]) > 0]
    remarks = [f"{role}: best of the distributions {fit.family} (p = {fit.p_value:.2g})" for role, fit in best]
    return Finding(item, numbers, tuple(remarks))


_OF_KIND = {"pulses": _pulses, "endurance": _endurance, "retention": _retention, "noise": _noise, "states": _states}


def _together(kind: str, items: list[Finding], skipped: list[tuple[str, str]], settings: Settings) -> Findings:
    numbers: dict[str, Number] = {}
    remarks: list[str] = []
    models: dict[str, Any] = {}
    if kind == "pulses":
        numbers = _asymmetries(items)
    if kind == "states":
        numbers = dict(between([item.series for item in items], settings.closed))
    if kind == "retention":
        line, why = _over_temperatures(items, settings.service)
        remarks += why
        if line is not None:
            models["arrhenius"] = line
            numbers = {"activation_energy": line.energy, "life": line.life, "ten_years_at": line.hottest}
    if kind == "endurance":
        for role in ("low", "high"):
            groups = _by_device(items, role)
            if sum(len(values) > 1 for values in groups.values()) > 1:
                parts = variance_components(groups, "1")
                name = f"log10_r_{'on' if role == 'low' else 'off'}"
                numbers |= {f"{name}.d2d": parts.d2d, f"{name}.c2c": parts.c2c, f"{name}.share": parts.share}
    return Findings(kind, tuple(items), numbers, tuple(remarks), tuple(skipped), models)


def _by_device(items: Sequence[Finding], role: str) -> dict[Any, list[float]]:
    """log10 R over cycles of each device that is named."""
    groups: dict[Any, list[float]] = {}
    for item in items:
        if "device" in item.series.meta:
            groups.setdefault(item.series.meta["device"], []).extend(np.log10(item.series.y[role]).tolist())
    return groups


def _asymmetries(items: Sequence[Finding]) -> dict[str, Number]:
    """Of each rising ramp with the falling one that follows or goes before, on one scale of weights."""
    found = {}
    k = 0
    while k + 1 < len(items):
        pair = {next(iter(item.series.y)): item for item in items[k : k + 2]}
        same = items[k].series.meta.get("file") == items[k + 1].series.meta.get("file")
        if set(pair) != {"up", "down"} or not same:
            k += 1
            continue
        fits: list[PulseResponse] = [pair[side].models["response"] for side in ("up", "down")]
        low = min(float(fit.fitted.min()) for fit in fits)
        high = max(float(fit.fitted.max()) for fit in fits)
        up, down = (
            pulse_response(pair[side].series.y[side], low=low, high=high, resample=False) for side in ("up", "down")
        )
        name = "asymmetry" if len(items) == 2 else f"asymmetry.{k // 2 + 1}"
        found[name] = asymmetry(up, down)
        k += 2
    if len(found) <= MANY_PAIRS:
        return found
    values = [number.value for number in found.values()]
    low, middle, high = (float(end) for end in np.percentile(values, (5, 50, 95)))
    words = f"median of {len(values)} pairs: {next(iter(found.values())).method}"
    return {"asymmetry": Number(middle, "1", words, low, high, "5 to 95 % of the pairs")}


def _over_temperatures(items: Sequence[Finding], service: float) -> tuple[Arrhenius | None, list[str]]:
    times: dict[float, list[float]] = {}
    measured = set()
    for item in items:
        kelvin = item.series.meta.get("temperature")
        if not isinstance(kelvin, (int, float)):
            continue
        measured.add(float(kelvin))
        for name, number in item.items():
            if name.endswith("time_to_failure"):
                times.setdefault(float(kelvin), []).append(number.value)
    if len(measured) < 2:
        return None, ["one temperature: no activation energy"] if measured else []
    try:
        return arrhenius(times, at=service), ["failure times are those of the fitted power laws"]
    except ParameterError as problem:
        return None, [f"no activation energy over {len(measured)} temperatures: {problem.got}"]


__all__ = ["Endurance", "Finding", "Findings", "Settings", "Spectrum", "Telegraph", "findings"]
