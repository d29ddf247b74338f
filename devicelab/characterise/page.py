"""The HTML report of a survey, with figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..files import write_text
from ..report import Report
from ..trace import Trace
from .conduction import CAVEAT
from .distributions import MIN_SAMPLES
from .findings import Finding, Findings, Settings
from .number import Number
from .study import Study
from .summary import Laws, headline, law_row, pooled, poor, remarks, summary_row
from .survey import Survey
from .tables import EACH, number_rows, over_rows

SHOWN = ("v_set.threshold", "v_reset.max_current", "r_on", "r_off", "ratio", "r_read", "area")
CORRELATED = ("v_set.threshold", "v_reset.max_current", "r_on", "r_off", "area", "power_set", "energy_reset")


def write_page(
    folder: Path,
    found: Survey,
    laws: Laws,
    curves: Mapping[str, Number],
    result: dict[str, Any],
    *,
    settings: Settings | None = None,
    force: bool = False,
) -> Path:
    """Write summary.json, the figures and, last, index.html; the path of the page."""
    import matplotlib as mpl

    mpl.use("Agg")
    write_text(folder / "summary.json", json.dumps(result, indent=2, default=_plain), force=force)
    report = Report("Characterisation", folder)
    if found.study is not None:
        _study(report, found.study, (found.shown, found.cycling), laws, curves)
    for one in found.found:
        _findings(report, one, settings or Settings())
    left = [
        *(found.study.skipped if found.study else ()),
        *found.left_out,
        *(p for f in found.found for p in f.skipped),
    ]
    if left:
        report.section("Left out")
        report.table([{"what": name, "why": reason.splitlines()[0]} for name, reason in left[:100]])
    return report.write()


def _study(
    report: Report,
    study: Study,
    shown: tuple[Sequence[Trace], Sequence[Trace]],
    laws: Laws,
    curves: Mapping[str, Number],
) -> None:
    """Numbers and figures of loops; shown are all traces, and those without forming."""
    traces, cycling = shown
    report.text(headline(study))
    for line in pooled(study):
        report.text(line)
    summaries = study.summaries()
    if summaries:
        report.section("Numbers", "Median with its 95 % bootstrap interval; p of Anderson and Darling's test.")
        report.table([summary_row(summary) for summary in summaries])
        for line in remarks(summaries):
            report.text(line)
    else:
        for cycle in study.cycles:
            report.section("Numbers", str(cycle.meta.get("file", "")))
            report.table(number_rows(cycle))
    if curves:
        report.section("Whole curves")
        report.table(number_rows(curves))
    _figures(report, study, traces, cycling)
    if laws:
        from .. import plots

        report.section("Conduction", CAVEAT)
        report.figure(plots.mechanism(cycling), "mechanisms", "The best law through each branch.")
        for branch, fits in laws.items():
            report.text(branch)
            report.table([law_row(fit) for fit in fits])
            for line in poor(fits):
                report.text(line.strip())


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _figures(report: Report, study: Study, traces: Sequence[Trace], cycling: Sequence[Trace]) -> None:
    from .. import plots

    report.section("Loops", f"The first {len(traces)} traces.")
    report.figure(plots.loops(traces), "loops", "|I| over V, coloured by cycle.")
    try:
        report.figure(plots.band(cycling), "band", "Median and quantile bands over the cycles.")
    except ParameterError:
        report.text("Too few loops for a band.")
    present = [name for name in SHOWN if name in study.names() and study.values(name).size >= MIN_SAMPLES]
    drawn = [name for name in present if np.ptp(study.values(name)) > 0]
    if not drawn:
        return
    report.section("Distributions")
    for name in drawn:
        unit = study.summary(name).unit
        figure = plots.cdf({name: study.values(name)}, label=f"{name} [{unit}]")
        report.figure(figure, f"cdf_{name.replace('.', '_')}", f"Cumulative distribution of {name}.")
    rows = [cycle for cycle in study.cycles if not cycle.forming]
    resistances: dict[str, Any] = {
        name: [c.value(name) if name in c and not c[name].censored else np.nan for c in rows]
        for name in ("r_on", "r_off")
        if name in drawn
    }
    if resistances:
        report.section("Over cycles")
        report.figure(plots.endurance(resistances), "endurance", "Resistances over the cycle.")
    chosen = [name for name in CORRELATED if name in study.names()]
    if len(chosen) > 1:
        columns = {name: [cycle.value(name) for cycle in study.cycles if not cycle.forming] for name in chosen}
        report.figure(plots.correlation(columns), "correlation", "Rank correlation over cycles.")


def _findings(report: Report, found: Findings, settings: Settings) -> None:
    """One kind of measurement: tables, remarks, figures of the first few."""
    report.section(found.kind.capitalize(), f"{len(found.items)} measurements.")
    if len(found.items) > EACH:
        rows = over_rows(found.items)
        if rows:
            report.table(rows)
    for item in found.items if len(found.items) <= EACH else ():
        report.text(f"{item.series.name}: {len(item.series)} readings; told from {item.series.why}")
        report.table(number_rows(item))
        for line in item.remarks:
            report.text(line)
    if found.together:
        report.text("Together")
        report.table(number_rows(found.together))
    for line in found.remarks:
        report.text(line)
    for name, figure, caption in _drawn(found, settings):
        report.figure(figure, name, caption)


def _drawn(found: Findings, settings: Settings) -> list[tuple[str, Any, str]]:
    from ..plots import measurements as plots

    items: Sequence[Finding] = found.items[:EACH]
    if found.kind == "endurance":  # the longest, as they were measured
        items = sorted(found.items, key=lambda item: -len(item.series))[:EACH]
    if found.kind == "pulses":
        pairs = [items[k : k + 2] for k in range(0, len(items), 2)]
        return [(f"pulses_{k + 1}", plots.pulses(pair), f"{pair[0].series.name}: readings and fitted curve.")
                for k, pair in enumerate(pairs)]  # fmt: skip
    if found.kind == "states":
        return [("states", plots.states(items), "Resistance over cells.")]
    made: list[tuple[str, Any, str]] = []
    if found.kind == "endurance" and len(found.items) > EACH:
        made.append(("windows", plots.windows(found.items), "Medians over cycles of all devices."))
    for k, item in enumerate(items, start=1):
        name = item.series.name
        if found.kind == "endurance" and len(item.series) > 2:
            made.append((f"endurance_{k}", plots.wear(item), f"{name}: resistances over cycles, fitted wear."))
        elif found.kind == "retention":
            figure = plots.retention(item, until=settings.lifetime)
            made.append((f"retention_{k}", figure, f"{name}: drift, extrapolation, prediction interval."))
        elif found.kind == "noise":
            made.append((f"spectrum_{k}", plots.spectrum(item), f"{name}: density and fitted law."))
            made.append((f"telegraph_{k}", plots.telegraph(item), f"{name}: the first reads and the likeliest levels."))
    if "arrhenius" in found.models:
        made.append(("arrhenius", plots.arrhenius(found.models["arrhenius"]), "Failure times over 1 / T."))
    return made
