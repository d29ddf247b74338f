"""The numbers of one cycle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress, t

from ..errors import ParameterError
from ..trace import Trace
from .instrument import Plateau, noise_floor, plateaus
from .number import Number, engineering
from .resistors import load_resistance, series_resistance
from .sweeps import Excursion, excursions
from .switching import METHODS, SHARE

Array = NDArray[np.float64]
OPEN = 0.2
"""Voltage, over the peak, by which an excursion may miss where it began and still be a closed loop."""
KEPT = ("device", "cycle", "file", "sheet", "run", "index", "temperature", "test", "cycle_in_trace", "time")
CONDITIONS = ("frequency", "series_kohm")


@dataclass(frozen=True, eq=False)
class Cycle(Mapping[str, Number]):
    """The numbers of one cycle, by name: `cycle["v_set.max_slope"].value`.

    Args:
        numbers: Name to number.
        polarity: +1 if positive voltage sets, -1 if negative does, 0 where the trace does not tell.
        held: Share of the samples that a compliance limit holds.
        peak: Largest and smallest voltage [V].
        meta: Metadata of the trace that tells it from others.
        forming: Whether it was told to be forming rather than cycling, see `tell_forming`.
    """

    numbers: Mapping[str, Number]
    polarity: int
    held: float
    peak: tuple[float, float]
    meta: Mapping[str, Any] = field(default_factory=dict)
    forming: bool = False

    def __getitem__(self, name: str) -> Number:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def value(self, name: str) -> float:
        """A value in its SI unit, NaN where the cycle does not have it."""
        return self.numbers[name].value if name in self.numbers else float("nan")


def characterise(trace: Trace, *, v_read: float | None = None, threshold: float | None = None) -> Cycle:
    """The numbers of one cycle: switching, resistances, area, power, energy, plateau, floor, series resistance.

    Args:
        trace: One cycle, or a part of one (only set, only reset); several cycles: `split_cycles` first.
        v_read: |Read voltage| [V] of the resistances; a tenth of the smaller peak voltage unless given.
        threshold: |Current| [A] of the threshold method; half of the largest on the branch unless given.

    Raises:
        ParameterError: If the trace is of several devices at once or the read voltage or threshold is not positive.
    """
    check_choices(v_read, threshold)
    if np.ndim(trace.v) != 1 or np.ndim(trace.i) != 1:
        raise ParameterError("several devices in one trace", got=np.shape(trace.i), allowed="one device, shape [t]")
    parts = excursions(trace)
    limits = plateaus(trace)
    keep = np.ones(len(trace), dtype=bool)
    for limit in limits:
        keep &= ~limit.held
    floor = noise_floor(trace)
    numbers: dict[str, Number] = {"noise_floor": floor}
    for part in _strongest(parts):
        numbers |= _switching(trace, part, threshold)
        numbers |= _power(trace, part, numbers.get(f"v_{part.kind}.threshold"))
    numbers |= _resistances(trace, parts, keep, _read_voltage(parts, trace, v_read), floor.value)
    numbers |= _whole(trace, parts, limits, floor.value)
    bound = series_resistance(trace, [part for part in parts if part.kind != "none"], keep)
    if bound is not None:
        numbers["r_series_max" if bound.censored else "r_series"] = replace(bound, censored=False)
    sets = [part for part in _strongest(parts) if part.kind == "set"]
    load = load_resistance(trace, sets[0]) if sets else None
    if load is not None:
        numbers["r_load"] = load
    meta = {key: trace.meta[key] for key in (*KEPT, *CONDITIONS) if key in trace.meta}
    peak = (float(np.max(trace.v)), float(np.min(trace.v)))
    return Cycle(numbers, _polarity(parts), float(1 - keep.mean()), peak, meta)


def check_choices(v_read: float | None, threshold: float | None) -> None:
    """Raise `ParameterError` unless a read voltage and a threshold are magnitudes."""
    for name, value in (("v_read", v_read), ("threshold", threshold)):
        if value is not None and not 0 < value < np.inf:
            raise ParameterError(f"{name} must be positive", got=value, allowed="> 0, finite; it is a magnitude")


def _strongest(parts: list[Excursion]) -> list[Excursion]:
    """The excursion with the largest change of each kind."""
    kinds = [[p for p in parts if p.kind == kind] for kind in ("set", "reset")]
    return [max(some, key=lambda p: abs(p.decades)) for some in kinds if some]


def _polarity(parts: list[Excursion]) -> int:
    votes = sum(p.sign * p.decades for p in parts if p.kind != "none")
    return int(np.sign(votes))


def _switching(trace: Trace, part: Excursion, threshold: float | None) -> dict[str, Number]:
    rise = part.rise
    time, v, i = np.asarray(trace.t[rise]), part.sign * trace.v[rise], part.sign * trace.i[rise]
    if v.size < 8:
        return {}
    step = float(np.median(np.abs(np.diff(v))))
    found: dict[str, Number] = {}
    for name, (method, words) in METHODS.items():
        value = method(time, v, i, part.kind, threshold)
        if value is None:
            continue
        said = dict(words)
        if name == "threshold":
            level = SHARE * float(np.max(i)) if threshold is None else threshold
            way = "rise" if part.kind == "set" else "fall"
            half = " (half of the largest)" if threshold is None else ""
            said[part.kind] = f"{way} through {engineering(level, 'A', 3)}{half}"
        signed = part.sign * value
        found[f"v_{part.kind}.{name}"] = Number(
            signed, "V", said[part.kind], signed - step / 2, signed + step / 2, "half a sampling step"
        )
    values = [number.value for number in found.values()]
    if len(values) > 1:
        spread = float(np.std(values, ddof=1))
        found[f"v_{part.kind}.spread"] = Number(spread, "V", f"standard deviation over {len(values)} methods")
    return found


def _power(trace: Trace, part: Excursion, at: Number | None) -> dict[str, Number]:
    rise, whole = part.rise, slice(part.start, part.stop)
    power = np.asarray(trace.v * trace.i)
    found: dict[str, Number] = {}
    if at is not None:
        v = part.sign * np.asarray(trace.v[rise])
        k = int(np.argmax(v >= abs(at.value))) if (v >= abs(at.value)).any() else v.size - 1
        if part.kind == "set":
            most, words = float(power[rise][k]), "v i at the first sample beyond the threshold voltage"
        else:
            most, words = float(power[rise][: k + 1].max()), "largest v i before the current has fallen"
        found[f"power_{part.kind}"] = Number(most, "W", words)
    if not str(trace.meta.get("time", "")).startswith("synthetic"):
        energy = float(np.trapezoid(power[whole], trace.t[whole]))
        found[f"energy_{part.kind}"] = Number(energy, "J", "integral of v i dt over the excursion")
    return found


def _read_voltage(parts: list[Excursion], trace: Trace, given: float | None) -> float | None:
    peaks = [abs(float(trace.v[p.peak])) for p in parts]
    if given is not None:
        return given if peaks and given <= max(peaks) else None
    return 0.1 * min(peaks) if peaks else None


def _resistances(
    trace: Trace, parts: list[Excursion], keep: NDArray[np.bool_], v_read: float | None, floor: float
) -> dict[str, Number]:
    if v_read is None:
        return {}
    found: dict[str, Number] = {}
    strongest = {p.kind: p for p in _strongest(parts)}
    after = {"r_on": ("set", "back"), "r_off": ("reset", "back")}
    before = {"r_on": ("reset", "rise"), "r_off": ("set", "rise")}
    for name in ("r_on", "r_off"):
        for kind, side in (after[name], before[name]):
            part = strongest.get(kind)  # type: ignore[call-overload]
            number = None if part is None else _read(trace, part, getattr(part, side), keep, v_read, floor)
            if number is not None:
                found[name] = number
                break
    if not found and parts and not strongest:
        number = _read(trace, parts[0], parts[0].rise, keep, v_read, floor)
        found |= {} if number is None else {"r_read": replace(number, method=f"{number.method}; no switching seen")}
    if {"r_on", "r_off"} <= set(found):
        on, off = found["r_on"], found["r_off"]
        words = f"R_off / R_on, both at {v_read:.3g} V"
        low = off.low / on.high if off.low is not None and on.high is not None else None
        high = off.high / on.low if off.high is not None and on.low is not None else None
        censored = on.censored or off.censored
        found["ratio"] = Number(off.value / on.value, "1", words, low, high, "95 % ends of both", censored)
    return found


def _read(
    trace: Trace, part: Excursion, branch: slice, keep: NDArray[np.bool_], v_read: float, floor: float
) -> Number | None:
    """V / I at the read voltage, from a straight line through the samples around it."""
    v, i = part.sign * np.asarray(trace.v[branch]), part.sign * np.asarray(trace.i[branch])
    v, i = v[keep[branch]], i[keep[branch]]
    if v.size < 3 or not v.min() <= v_read <= v.max():
        return None
    nearest = np.argsort(np.abs(v - v_read), kind="stable")[: max(5, int(np.sum(np.abs(v - v_read) < 0.3 * v_read)))]
    if np.ptp(v[nearest]) == 0:
        return None
    fit = linregress(v[nearest], i[nearest])
    current = float(fit.intercept + fit.slope * v_read)
    n = nearest.size
    scatter = float(np.sqrt(np.sum((i[nearest] - fit.intercept - fit.slope * v[nearest]) ** 2) / max(1, n - 2)))
    half = float(t.ppf(0.975, max(1, n - 2))) * max(scatter, floor) / np.sqrt(n)
    if current <= half:  # below what can be seen: only a lower bound of the resistance
        bound = v_read / (max(current, 0.0) + half)
        method = f"lower bound at {part.sign * v_read:.3g} V, current below the noise"
        return Number(bound, "ohm", method, censored=True)
    method = f"V / I at {part.sign * v_read:.3g} V, straight line through {n} samples"
    return Number(
        v_read / current, "ohm", method, v_read / (current + half), v_read / (current - half), "95 % of the regression"
    )


def _closed(trace: Trace, parts: list[Excursion]) -> list[list[slice]]:
    """Samples of each closed loop: an excursion back to where it began, or the pieces of one that the record cuts."""
    made: list[list[slice]] = []
    for sign in (1, -1):
        alone = [p for p in parts if p.sign == sign]
        whole = [p for p in alone if _gap(trace, [p]) <= OPEN]
        rest = [p for p in alone if p not in whole]
        groups = [[p] for p in whole] + ([rest] if len(rest) > 1 and _gap(trace, rest) <= OPEN else [])
        made += [[slice(p.start, p.stop) for p in group] for group in groups]
    return made


def _gap(trace: Trace, parts: list[Excursion]) -> float:
    """Voltage left between the end and the beginning, over the largest of the pieces."""
    left = sum(float(trace.v[p.stop - 1] - trace.v[p.start]) for p in parts)
    return abs(left) / max(abs(float(trace.v[p.peak])) for p in parts)


def _whole(trace: Trace, parts: list[Excursion], limits: list[Plateau], floor: float) -> dict[str, Number]:
    found: dict[str, Number] = {}
    closed = _closed(trace, parts)
    if closed:
        loops = [s for group in closed for s in group]
        area = sum(abs(sum(float(np.trapezoid(trace.i[s], trace.v[s])) for s in group)) for group in closed)
        variance = sum(float(np.sum(np.gradient(np.asarray(trace.v[s])) ** 2)) for s in loops if s.stop - s.start > 1)
        half = 1.96 * floor * float(np.sqrt(variance))
        found["area"] = Number(
            area, "W", "sum over polarities of |closed integral of I dV|", area - half, area + half, "95 %, white noise"
        )
    for limit in limits:
        name = "compliance_positive" if limit.sign > 0 else "compliance_negative"
        ends = (limit.level - 2 * limit.spread, limit.level + 2 * limit.spread)
        found[name] = Number(limit.level, "A", f"median of the held samples, {limit.source}", *ends, "2 sd of samples")
    return found
