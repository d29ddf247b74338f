"""A study as a table for the terminal and as plain data for machines."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..trace import Trace
from .conduction import CAVEAT, MechanismFit, mechanisms
from .cycle import CONDITIONS
from .distributions import DistributionFit
from .instrument import free, noise_floor
from .number import Number, engineering
from .study import Study, Summary
from .sweeps import Excursion, excursions
from .switching import METHODS
from .tables import aligned
from .variability import curve_band

HEADINGS = ("number", "n", "median", "95 % interval", "sd", "CV", "distribution", "method")
ABOVE_NOISE = 5.0
POOR = 0.2
APART = 0.25
MIN_BRANCH = 8
UNTOUCHED = 0.8
Array = NDArray[np.float64]
Laws = dict[str, list[MechanismFit]]


def branches(traces: Sequence[Trace]) -> dict[str, tuple[Array, Array]]:
    """Voltage [V] and current [A] of the branches that are the device's own, by name: each state at each polarity.

    After switching the way back; before it the way out up to 0.8 of the smallest switching voltage of any method, where
    the device has not begun to change. Of the first trace that switches so, one with both a set and a reset before the
    others. Samples that a compliance limit holds, or below five times the noise, are left out.
    """
    ranked = sorted(traces, key=lambda trace: -len({part.kind for part in excursions(trace)} - {"none"}))
    found: dict[str, tuple[Array, Array]] = {}
    for trace in ranked:
        parts = [part for part in excursions(trace) if part.kind != "none"]
        if not parts or len(found) == 4:
            continue
        keep = free(trace) & (np.abs(trace.i) > ABOVE_NOISE * noise_floor(trace).value)
        for part in parts:
            side = "positive" if part.sign > 0 else "negative"
            before, after = ("high", "low") if part.kind == "set" else ("low", "high")
            for state, way, rows in ((after, "back", part.back), (before, "out", _before(trace, part))):
                chosen = np.arange(rows.start, rows.stop)[keep[rows]]
                chosen = chosen[np.abs(trace.v[chosen]) > 0.05 * abs(trace.v[part.peak])]
                if chosen.size >= MIN_BRANCH:
                    name = f"{state} resistance, {side} voltage, way {way}"
                    found.setdefault(name, (trace.v[chosen], trace.i[chosen]))
    return found


def _before(trace: Trace, part: Excursion) -> slice:
    """Samples of the way out before the device begins to switch."""
    rows = part.rise
    time, v, i = np.asarray(trace.t[rows]), part.sign * trace.v[rows], part.sign * trace.i[rows]
    if v.size < MIN_BRANCH:
        return slice(part.start, part.start)
    found = (method(time, v, i, part.kind, None) for method, _ in METHODS.values())
    at = [value for value in found if value is not None and value > 0]
    if not at:
        return slice(part.start, part.start)
    beyond = np.flatnonzero(v > UNTOUCHED * min(at))
    return slice(part.start, part.start + (int(beyond[0]) if beyond.size else v.size))


def conduction_of(traces: Sequence[Trace], *, thickness: float | None = None, temperature: float = 300.0) -> Laws:
    """Mechanisms of each of the `branches`, the best first; a branch with too few samples is left out."""
    found: Laws = {}
    for name, (v, i) in branches(traces).items():
        with contextlib.suppress(ParameterError):
            found[name] = mechanisms(v, i, thickness=thickness, temperature=temperature)
    return found


def summary_row(summary: Summary) -> dict[str, str]:
    """One row of the table."""
    middle, unit = summary.spread.median, summary.unit
    low, high = middle.low or 0.0, middle.high or 0.0
    best = summary.fits[0] if summary.fits else None
    shape = "" if best is None else f"{best.family} (p = {best.p_value:.2g})"
    left = f"; {summary.censored} bounds left out" if summary.censored else ""
    ends = f"{engineering(low, unit)} to {engineering(high, unit)}"
    cells = (
        summary.name, str(summary.spread.n), engineering(middle.value, unit), ends,
        engineering(summary.spread.sd.value, unit), f"{100 * summary.spread.cv.value:.3g} %", shape,
        summary.method + left,
    )  # fmt: skip
    return dict(zip(HEADINGS, cells, strict=True))


def table(study: Study, laws: Laws, curves: Mapping[str, Number] | None = None) -> str:
    """The study for a terminal: what was read, the numbers, memory, devices, conduction."""
    lines = [headline(study), *pooled(study), ""]
    summaries = study.summaries()
    rows = [summary_row(summary) for summary in summaries]
    if not rows:
        lines += [f"{name}: {number}  [{number.method}]" for cycle in study.cycles for name, number in cycle.items()]
    else:
        lines += aligned(rows)
        lines += ["", "median with its interval: 95 %, bootstrap; p: Anderson-Darling, parametric bootstrap"]
    lines += remarks(summaries)
    lines += [f"{name}: {number}  [{number.method}; {number.interval}]" for name, number in (curves or {}).items()]
    for branch, fits in laws.items():
        lines += ["", f"conduction, {branch}"]
        lines += ["  " + line for line in aligned([law_row(fit) for fit in fits])]
        lines += poor(fits)
    return "\n".join([*lines, *(["", CAVEAT] if laws else [])])


def law_row(fit: MechanismFit) -> dict[str, str]:
    """One law of a branch: ranking, scatter, slope with its interval, implied constants and whether they make sense."""
    slope = fit.parameters.get("b")
    ends = fit.intervals.get("b")
    sense = {True: "yes", False: "no", None: ""}[fit.sensible]
    return {
        "law": fit.name.replace("_", " "), "I(V)": fit.formula, "dAICc": f"{fit.delta:.1f}",
        "rms of ln I": f"{fit.rms:.3g}",
        "b (95 %)": "" if slope is None else _slope(slope, ends),
        "sense": sense, "implies": fit.verdict,
    }  # fmt: skip


def _slope(value: float, ends: tuple[float, float] | None) -> str:
    """The slope with its interval; words where the interval spans more than three decades."""
    if ends is None:
        return f"{value:.4g}"
    if ends[0] > 0 and ends[1] > 1e3 * ends[0]:
        return "not determined"
    return f"{value:.4g} ({ends[0]:.4g} to {ends[1]:.4g})"


def poor(fits: Sequence[MechanismFit]) -> list[str]:
    """A warning where even the best law misses the branch by more than its scatter could explain."""
    best = fits[0]
    if best.rms < POOR:
        return []
    return [f"  none of these laws describes the branch: the best is off by a factor {np.exp(best.rms):.2g}, rms"]


def headline(study: Study) -> str:
    """What was characterised, in a sentence."""
    formed = sum(cycle.forming for cycle in study.cycles)
    sign = {1: "positive voltage sets", -1: "negative voltage sets", 0: "polarity not told"}[study.polarity()]
    held = float(np.mean([cycle.held for cycle in study.cycles]))
    limited = f"{100 * held:.3g} % of samples held by compliance"
    return f"{len(study.cycles)} cycles, {formed} of them forming; {sign}; {limited}"


def pooled(study: Study) -> list[str]:
    """A warning where cycles under different conditions stand in one table: drive, circuit or temperature."""
    cycles = [cycle for cycle in study.cycles if not cycle.forming]
    said = []
    ends = zip(*(cycle.peak for cycle in cycles), strict=True)
    for name, values in zip(("largest", "smallest"), ends, strict=True):
        peaks = np.array(values)
        peaks = peaks[np.abs(peaks) > 0.1 * np.abs(peaks).max()]  # half cycles end near zero
        if peaks.size and np.ptp(peaks) > APART * np.abs(peaks).max():
            said.append(f"{name} voltage {peaks.min():.3g} to {peaks.max():.3g} V")
    for key in (*CONDITIONS, "temperature"):
        found = {cycle.meta[key] for cycle in cycles if key in cycle.meta}
        if len(found) > 1:
            said.append(f"{key.replace('_', ' ')} {', '.join(f'{value}' for value in sorted(found, key=float)[:6])}")
    if not said:
        return []
    return [f"cycles under different conditions are pooled ({'; '.join(said)}): what differs between them is not the "
            "device alone; characterise them apart"]  # fmt: skip


def remarks(summaries: Sequence[Summary]) -> list[str]:
    """What stands out: memory over cycles, devices that differ."""
    lines = []
    told = [summary for summary in summaries if summary.memory is not None and summary.memory.correlated]
    if told:
        listed = ", ".join(f"{s.name} (p = {s.memory.p_value:.2g})" for s in told if s.memory is not None)
        lines.append(f"cycles are not independent (Ljung-Box): {listed}")
    lines += [
        f"{s.name}: device to device {s.components.d2d}, cycle to cycle {s.components.c2c}, share {s.components.share}"
        for s in summaries
        if s.components is not None
    ]
    return lines


def whole_curves(traces: Sequence[Trace]) -> dict[str, Number]:
    """Variability of whole curves by name; empty with fewer than three curves of one polarity."""
    try:
        found = curve_band(traces)
    except ParameterError:
        return {}
    return {"curves.cv": found.cv, "curves.decades": found.spread}


def to_dict(study: Study, laws: Laws, curves: Mapping[str, Number] | None = None) -> dict[str, Any]:
    """The study as plain data: every number with unit, method and interval."""
    return {
        "headline": headline(study),
        "polarity": study.polarity(),
        "cycles": [
            {
                **{key: value for key, value in cycle.meta.items()},
                "polarity": cycle.polarity,
                "forming": cycle.forming,
                "held": cycle.held,
                "numbers": {name: number.to_dict() for name, number in cycle.items()},
            }
            for cycle in study.cycles
        ],
        "summary": {summary.name: _summary(summary) for summary in study.summaries()},
        "whole_curves": {name: number.to_dict() for name, number in (curves or {}).items()},
        "conduction": {branch: [vars(fit) for fit in fits] for branch, fits in laws.items()},
        "caveat": CAVEAT,
        "skipped": [{"file": name, "reason": reason} for name, reason in study.skipped],
    }


def _summary(summary: Summary) -> dict[str, Any]:
    spread, memory, parts = summary.spread, summary.memory, summary.components
    found: dict[str, Any] = {
        "unit": summary.unit,
        "method": summary.method,
        "n": spread.n,
        "censored": summary.censored,
        "quartiles": spread.quartiles,
        **{name: getattr(spread, name).to_dict() for name in ("mean", "median", "sd", "cv")},
        "distributions": [_fit(fit) for fit in summary.fits],
    }
    if memory is not None:
        found["autocorrelation"] = {
            "values": memory.values.tolist(),
            "white_limit": memory.limit,
            "ljung_box_p": memory.p_value,
        }
    if parts is not None:
        found["components"] = {name: getattr(parts, name).to_dict() for name in ("d2d", "c2c", "share")}
        found["components"]["p_value"] = parts.p_value
    return found


def _fit(fit: DistributionFit) -> dict[str, Any]:
    return vars(fit)


def positive(**values: float | None) -> None:
    """Raise `ParameterError` unless every value given is positive and finite."""
    for name, value in values.items():
        if value is not None and not 0 < value < np.inf:
            raise ParameterError(f"{name} must be positive", got=value, allowed="> 0, finite")
