"""The HTML report of a study, with figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..files import write_text
from ..report import Report
from ..trace import Trace
from .conduction import CAVEAT
from .distributions import MIN_SAMPLES
from .study import Study
from .summary import Laws, headline, poor, remarks, summary_row

SHOWN = ("v_set.threshold", "v_reset.max_current", "r_on", "r_off", "ratio", "area")
CORRELATED = ("v_set.threshold", "v_reset.max_current", "r_on", "r_off", "area", "power_set", "energy_reset")


def write_page(
    folder: Path, study: Study, traces: Sequence[Trace], laws: Laws, result: dict[str, Any], *, force: bool = False
) -> Path:
    """Write index.html, its figures and summary.json; the path of the page."""
    import matplotlib as mpl

    mpl.use("Agg")
    write_text(folder / "summary.json", json.dumps(result, indent=2, default=_plain), force=force)
    report = Report("Characterisation", folder)
    report.text(headline(study))
    summaries = study.summaries()
    if summaries:
        report.section("Numbers", "Median with its 95 % bootstrap interval; p of Anderson and Darling's test.")
        report.table([summary_row(summary) for summary in summaries])
        for line in remarks(summaries):
            report.text(line)
    _figures(report, study, traces)
    if laws:
        report.section("Conduction", CAVEAT)
        for branch, fits in laws.items():
            report.text(branch)
            report.table(
                [
                    {"law": f.name, "I(V)": f.formula, "dAICc": f.delta, "rms of ln I": f.rms, "verdict": f.verdict}
                    for f in fits
                ]
            )
            for line in poor(fits):
                report.text(line.strip())
    return report.write()


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _figures(report: Report, study: Study, traces: Sequence[Trace]) -> None:
    from .. import plots

    report.section("Loops", f"The first {len(traces)} traces.")
    report.figure(plots.loops(traces), "loops", "|I| over V, coloured by cycle.")
    try:
        report.figure(plots.band(traces), "band", "Median and quantile bands over the cycles.")
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
