"""Writes the table of measured sets in docs/fits.md: every I/V set fitted by the best of a family of models.

python docs/make_fits.py DATA [--work FOLDER] [--workers 2] [--only WORDS] [--pictures]

DATA is the folder of measured sets. Each set is compared over the candidates with traces held out; see `fits.compare`.
Fits and finished rows are kept in --work, so a run that is stopped goes on where it was, and rows that were not reached
are named under the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fits
from devicelab import VTEAM, Biolek, Model, NoWindow, Trace, parameter_set
from devicelab.commands import say
from devicelab.commands.fit_modes import variants
from devicelab.models import MODELS
from devicelab.parameter_sets import parameter_set_info, parameter_sets
from devicelab.readers import read_dataset, read_traces
from fits.compare import sweeps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = Path(__file__).parent / "fits.md"
IMAGES = Path(__file__).parent / "images" / "fits"
VALUES = {"r_on": 1e3, "r_off": 1e5, "v_on": -0.5, "v_off": 0.5, "k_on": 1.0, "k_off": 1.0}
SETS = {
    "vteam_asymmetric": "vteam_asymmetric_example",
    "yakopcic": "yakopcic_oblea",
    "yakopcic_two_branch": "yakopcic_two_branch_example",
    "stanford": "stanford_default",
    "data_driven": "data_driven_taox",
    "mms": "mms_knowm",
    "nonlinear_ion_drift": "nonlinear_drift_team_paper",
}
"""Models that fit in seconds, with the published set that gives the scale of what a trace says nothing of."""

BEHIND_RESISTOR = ("VTEAM linear Biolek p=1", "VTEAM exponential Biolek p=1", "vteam_asymmetric", "yakopcic_two_branch")
"""The best of the eleven on W-SDC M1 at 10 Hz behind 5 and 47 kohm: the candidates for the other W-SDC traces."""


SCHOTTKY = ("yakopcic_two_branch", "vteam_asymmetric")
"""The best of the eleven on Nb:SrTiO3 of 32 µm: the candidates for 10 µm and the old device."""


GLANCED = ("vteam_asymmetric biolek:p=1", "yakopcic_two_branch biolek:p=4")
"""For H16248L, after a glance at 33: the best of the six that were fitted then, and the best at a glance."""


@dataclass
class Set:
    """Some traces of one device.

    Args:
        name: In words.
        traces: The traces.
        options: For `fits.fit`.
        holdout: For `fits.compare`; a number: so many traces are fitted, the others are predicted.
        picture: Name of its picture; none by default.
        models: Names of the candidates; all by default.
        shortlist: Candidates that get to the last rung of `fits.compare`; twice as many are fitted on one trace.
        family: Every model with every window of `devicelab fit --model all` is a candidate, not `candidates` only.
        reads: Curves at states that stay, one a cell: `fits.fit_static`, half of the cells held out.
        pair: Another trace of the same device with its options, predicted with the fitted device, and what it is.
    """

    name: str
    traces: list[Trace]
    options: dict[str, Any] = field(default_factory=dict)
    holdout: tuple[Any, ...] | int = ()
    picture: str = ""
    models: tuple[str, ...] = ()
    shortlist: int = 2
    family: bool = False
    reads: bool = False
    pair: tuple[Trace, dict[str, Any], str] | None = None


def candidates() -> dict[str, Model]:
    """VTEAM with both resistance laws, without a window and with Biolek's, and the other models."""
    out: dict[str, Model] = {}
    for law in ("linear", "exponential"):
        for words, window in (("", NoWindow()), (" Biolek p=1", Biolek(p=1))):
            out[f"VTEAM {law}{words}"] = VTEAM(**VALUES, resistance=law, window=window)  # type: ignore[arg-type]
    return out | {name: parameter_set(source) for name, source in SETS.items()}


def family() -> dict[str, Model]:
    """What `devicelab fit --model all` tries."""
    first = {parameter_set_info(name)["model"]: name for name in reversed(parameter_sets())}
    return variants([parameter_set(first[name]) for name in MODELS], ("linear", "exponential"))


def measured(data: Path) -> list[Set]:
    """The sets of I/V traces, those of most interest first."""
    vcm = read_traces(data / "vcm_w264740_40loops" / "ivloops_40cycles.csv")
    m12 = data / "rram_keithley4200_h16248L" / "M12"
    sets, resets = (read_traces(m12 / f"03 endurance {kind}.xlsx") for kind in ("set", "reset"))
    switches = [
        Set("VCM W264740, 10 µs loops", vcm[:40:13], {}, ("cycles",), "vcm", family=True),
        Set("H16248L, SET and RESET sweeps", [sets[1], resets[1], sets[6], resets[6]], {}, 2, "h16248l", GLANCED),
    ]
    reads = [_without_offset(trace) for trace in read_traces(data / "ni_1t1r_rram_array" / "read_multivolt.tsv")[::8]]
    switches.append(Set("NI 1T1R, reads of 40 cells, 0 to 0.35 V", reads, picture="ni_reads", reads=True))
    return [*switches, *_schottky(data / "nbsto_schottky_timestamped"), *_knowm(data / "knowm_w_sdc_sine")]


def _without_offset(trace: Trace) -> Trace:
    """The current less that at 0 V, an offset of the instrument of -2 uA."""
    low = trace.v < 0.1
    return Trace(trace.t, trace.v, trace.i - np.polyfit(trace.v[low], trace.i[low], 1)[1], meta=trace.meta)


def _schottky(folder: Path) -> list[Set]:
    """Nb:SrTiO3: a junction behind the resistance of its electrode, which is fitted.

    Every second sample, every fourth of 10 µm; the first sweep is fitted and predicts the others.
    """
    behind = {"series_resistance": "fit"}
    out = []
    for radius, level in ((32, -2), (10, -3), (100, -2)):
        traces = _like(list(read_dataset(str(folder / f"Radius {radius} um")).traces), level)[:3]
        name, picture = f"Nb:SrTiO3, radius {radius} µm, {level} V", f"nbsto_{radius}um"
        if radius != 10:
            out.append(Set(name, [_thin(trace, 2) for trace in traces], behind, 1, picture))
        else:
            out.append(Set(name, [_thin(trace, 4) for trace in traces], behind, 1, picture, SCHOTTKY, 1))
    old = [_thin(trace, 2) for trace in read_dataset(str(folder / "Old device")).traces]
    old.sort(key=lambda trace: float(trace.v.min()))
    return [*out, Set("Nb:SrTiO3, old device, -1 to -4 V", old, behind, 1, "nbsto_old", SCHOTTKY, 1)]


def _thin(trace: Trace, step: int) -> Trace:
    """Every so many samples."""
    return Trace(trace.t[::step], trace.v[::step], trace.i[::step], meta=trace.meta)


def _like(traces: Sequence[Trace], level: int) -> list[Trace]:
    return [trace for trace in traces if round(float(trace.v.min())) == level]


def _knowm(folder: Path) -> list[Set]:
    """W-SDC: one period of a sine for each device, rate and resistor.

    The same device behind the other resistor, or at the other amplitude, is predicted.
    """
    found: dict[tuple[int, int, int, str], Set] = {}
    for tenths, hertz in ((8, 10), (8, 1), (8, 100), (8, 1000), (3, 10)):
        for ohm in (5, 47):
            for device in ("M1", "M2", "M3"):
                here = folder / f"{ohm}kohm" / f"{ohm}kohm_.{tenths}V_{hertz}Hz_{device}"
                if not here.is_dir():
                    continue
                traces = read_dataset(str(here)).traces
                source = next(trace for trace in traces if "Resistor" in trace.meta["file"])
                options: dict[str, Any] = {"series_resistance": 1e3 * ohm, "periodic": True, "screen": 512, "starts": 2}
                noise, top = fits.estimate_noise([source]), float(np.abs(source.i).max())
                if noise.floor < 1e-5 * top:  # the estimate found none; the other traces have 0.3 to 3e-3 of the top
                    options["noise"] = (noise.rel, 1e-3 * top)
                name = f"W-SDC {device}, {hertz} Hz, 0.{tenths} V, {ohm} kΩ"
                picture = f"knowm_{device.lower()}_{hertz}hz_{tenths}_{ohm}k"
                few = () if (device, hertz, tenths) == ("M1", 10, 8) else BEHIND_RESISTOR
                found[tenths, hertz, ohm, device] = Set(name, [source], options, (), picture, few, 1 if few else 2)
    for (tenths, hertz, ohm, device), entry in found.items():
        other = (8, hertz, 52 - ohm, device) if tenths == 8 else (8, hertz, ohm, device)
        words = f"{52 - ohm} kΩ" if tenths == 8 else "0.8 V"
        if other not in found and (3, hertz, ohm, device) in found:
            other, words = (3, hertz, ohm, device), "0.3 V"
        if other in found:
            entry.pair = (found[other].traces[0], found[other].options, words)
    return list(found.values())


PARTS = ("+ out", "+ back", "- out", "- back")


def structure(result: fits.FitResult) -> tuple[float, str]:
    """Lag-1 autocorrelation of the residuals, and the part of the loop that holds most of their squares.

    Residuals are in standard deviations, so every current counts alike. Parts: sign of the voltage, and whether it
    moves away from zero (out) or towards it (back).
    """
    lagged, squares, shares = 0.0, 0.0, np.zeros(4)
    for trace, mask, mine in zip(result.traces, result.masks, result.simulate(), strict=True):
        r = np.where(mask, result.noise.transform(mine.i) - result.noise.transform(trace.i), 0.0)
        r = np.where(mask, r - r[mask].mean(), 0.0)
        lagged += float(r[1:] @ r[:-1])
        squares += float(r @ r)
        out = np.gradient(np.abs(trace.v)) > 0
        part = 2 * (trace.v < 0) + ~out
        shares += np.bincount(part, np.square(r), 4)
    most = int(shares.argmax())
    return lagged / squares, f"{PARTS[most]}, {100 * shares[most] / shares.sum():.0f} %"


STATIC = ("VTEAM linear", "VTEAM exponential", "vteam_asymmetric", "yakopcic_two_branch")
"""Laws of the current that reads are fitted by."""


def read_row(entry: Set, models: dict[str, Model], work: Path | None) -> dict[str, Any]:
    """A line of the table for reads: the law of the current of the cells of odd number, tried on those of even one."""
    begin = time.process_time()
    halves = entry.traces[::2], entry.traces[1::2]
    found = {}
    for name in STATIC:
        parts = []
        for k, half in enumerate(halves):
            fitted = fits.fit_static(models[name], half, screen=512)
            again = fits.fit_static(fitted.model, halves[1 - k], vary=[], noise=fitted.noise, screen=64, starts=2)
            parts.append(again.metrics)
        held = {key: float(np.sqrt(np.mean([part[key] ** 2 for part in parts]))) for key in ("nrmse", "log_rmse")}
        found[name] = fits.fit_static(models[name], entry.traces, screen=512), held
    name = min(found, key=lambda name: found[name][1]["nrmse"])
    best, held = found[name]
    rho, where = structure(best)
    draw(best, IMAGES if work is None else work / "pictures", entry.picture)
    return {
        "traces": len(entry.traces), "tried": len(STATIC), "best": f"{name}, current only",
        "nrmse": best.metrics["nrmse"], "log_rmse": best.metrics["log_rmse"], "masked": best.metrics["masked"],
        "static": best.metrics["nrmse"],
        "held": "other cells", "held_nrmse": held["nrmse"], "held_log_rmse": held["log_rmse"], "rho": rho,
        "where": where, "trusted": best.trusted, "cpu": time.process_time() - begin,
        "fitted": [{"model": n, "nrmse": r.metrics["nrmse"], "held": h["nrmse"]} for n, (r, h) in found.items()],
    }  # fmt: skip


def static(traces: list[Trace], options: dict[str, Any]) -> float:
    """NRMSE of a current that no voltage switches: any two sinh branches and a state for each trace."""
    still = candidates()["VTEAM exponential"].replace(k_on=1e-60, k_off=1e-60)
    names = ["r_on", "r_off", "b_on", "b_off"]
    return float(fits.fit(still, traces, vary=names, **{**options, "screen": 512}).metrics["nrmse"])


def other_trace(best: fits.FitResult, entry: Set) -> dict[str, float]:
    """Metrics of the fitted device on the pair of the set; only the initial state is taken from it."""
    if entry.pair is None:
        return {}
    trace, options, _ = entry.pair
    given = {**options, "noise": best.noise, "screen": 64, "starts": 2}
    found = fits.fit(best.model, trace, vary=[], polarity=best.model.polarity, **given)
    return dict(found.metrics)


def row(entry: Set, models: dict[str, Model], work: Path | None, workers: int) -> dict[str, Any]:
    """What a line of the table says."""
    begin = time.perf_counter()
    if entry.reads:
        return read_row(entry, models, work)
    folder = None if work is None else work / "fits"
    models = {name: models[name] for name in entry.models} if entry.models else models
    holdout = () if isinstance(entry.holdout, int) else entry.holdout
    rest = entry.traces[entry.holdout :] if isinstance(entry.holdout, int) else []
    found = fits.compare(
        models, entry.traces[: len(entry.traces) - len(rest)], holdout=holdout, folds=2, shortlist=entry.shortlist,
        workers=workers, folder=folder, progress=say, **{"starts": 3, **entry.options},
    )  # fmt: skip
    best, first = found.best, found.rows[0]
    hidden = first.cycles or first.amplitudes or {}
    held = "other cycles" if first.cycles or len(sweeps(entry.traces)) < len(entry.traces) else "other amplitudes"
    if rest:
        hidden = fits.held_out(best, rest)
    if entry.pair is not None:
        hidden, held = other_trace(best, entry), entry.pair[2]
    rho, where = structure(best)
    resistance = best.series_resistance
    if work is not None:
        (work / "reports").mkdir(parents=True, exist_ok=True)
        (work / "reports" / f"{_stem(entry.name)}.txt").write_text(f"{found.report()}\n\n{best.report()}\n", "utf-8")
    if entry.picture:
        draw(best, IMAGES if work is None else work / "pictures", entry.picture)
    fitted = [
        {"model": r.name, "nrmse": r.result.metrics["nrmse"]} for r in found.rows if r.result is not None
    ]  # those that were fitted to the end, best first
    out = {
        "traces": len(best.traces), "tried": len(models), "best": first.name, "fitted": fitted,
        "nrmse": best.metrics["nrmse"], "log_rmse": best.metrics["log_rmse"], "masked": best.metrics["masked"],
        "static": static(best.traces, entry.options), "held": held if hidden else "", "held_nrmse": hidden.get("nrmse"),
        "held_log_rmse": hidden.get("log_rmse"), "rho": rho, "where": where, "trusted": best.trusted,
        "resistance": resistance if entry.options.get("series_resistance") == "fit" else None,
        "cpu": sum(r.seconds for r in found.rows),
    }  # fmt: skip
    sys.stderr.write(f"{line(entry.name, out)} {time.perf_counter() - begin:.0f} s\n")
    return out


def draw(best: fits.FitResult, folder: Path, name: str) -> None:
    """The loop of the first trace with its fit and residual."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from devicelab import plot

    folder.mkdir(parents=True, exist_ok=True)
    trace, fitted, mask = best.traces[0], best.simulate()[0], best.masks[0]
    stop = len(trace) - int(best.problem.bench.periodic and not mask[-1])  # without the sample that closes the period
    for words, figure in (
        ("", plot.fit(trace.window(0, stop), fitted.window(0, stop), mask[:stop])),
        ("_residual", residuals(best)),
    ):
        figure.savefig(folder / f"{name}{words}.png", dpi=90, bbox_inches="tight")
        plt.close(figure)


def residuals(best: fits.FitResult) -> Figure:
    """Residuals of all traces along the sweep: what they share is the model's, what they do not is the cycle's."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(7, 5.6), height_ratios=[1, 2, 2], sharex=True, layout="constrained")
    for k, (trace, mask, mine) in enumerate(zip(best.traces, best.masks, best.simulate(), strict=True)):
        t = 100 * (trace.t - trace.t[0]) / trace.duration
        loud = mask & (np.abs(trace.i) > 3 * best.noise.floor) & (mine.i * trace.i > 0)  # as in the metrics
        with np.errstate(divide="ignore", invalid="ignore"):
            decades = np.where(loud, np.log10(np.abs(mine.i / trace.i)), np.nan)
        share = np.where(mask, 100 * (mine.i - trace.i) / np.abs(trace.i).max(), np.nan)
        for ax, y in zip(axes, (trace.v, share, decades), strict=True):
            ax.plot(t, y, lw=0.9, color=f"C{k}", label=f"trace {k + 1}")
    for ax, words in zip(
        axes, ("voltage [V]", "fit - trace\n[% of largest]", "log10 fit / trace\n[decades]"), strict=True
    ):
        ax.set_ylabel(words)
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes[2].set_xlabel("part of the sweep [%]")
    if 1 < len(best.traces) <= 6:
        axes[0].legend(frameon=False, fontsize=8, ncols=len(best.traces), loc="lower right")
    return figure


def line(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    held = "- | - | -"
    if found["held"]:
        held = f"{found['held']} | {100 * found['held_nrmse']:.2f} % | {found['held_log_rmse']:.3f}"
    return (
        f"| {name} | {found['traces']} | {found['best']} | {100 * found['nrmse']:.2f} % | {found['log_rmse']:.3f} | "
        f"{100 * found['static']:.1f} % | {held} | {found['rho']:.2f} | {found['where']} | "
        f"{100 * found['masked']:.0f} % |"
    )


def _stem(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name.lower())


HEAD = (
    "| set | traces | best | NRMSE | log10 RMSE | static NRMSE | held out | NRMSE | log10 RMSE | "
    "lag-1 autocorrelation | most of the squares | left out (compliance) |\n" + "| --- " * 12 + "|"
)


def main() -> None:
    """Fit all sets and put the table between its markers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, help="folder that keeps fits and rows")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pictures", action="store_true", help="those that the page shows go to docs/images/fits")
    parser.add_argument("--only", default="", help="sets whose name matches; the page stays as it is")
    parser.add_argument("--write", action="store_true", help="fit nothing; the page gets the rows that are kept")
    given = parser.parse_args()
    models, everything, sets = candidates(), family(), measured(given.data)
    file = None if given.work is None else given.work / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file is not None and file.exists() else {}
    for entry in sets:
        if given.write or not re.search(given.only, entry.name) or entry.name in rows:
            continue
        rows[entry.name] = row(
            entry, everything if entry.family or entry.models == GLANCED else models, given.work, given.workers
        )
        if file is not None:
            file.write_text(json.dumps(rows, indent=1))
    if given.only:
        return
    missing = [entry.name for entry in sets if entry.name not in rows]
    lines = [HEAD, *(line(entry.name, rows[entry.name]) for entry in sets if entry.name in rows), ""]
    lines.append(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}.")
    lines[-1] += f" Not run: {'; '.join(missing)}." if missing else ""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split("<!-- measured -->\n")
    tail = rest.split("\n<!-- /measured -->")[1]
    table = "\n".join(lines)
    PAGE.write_text(f"{head}<!-- measured -->\n{table}\n<!-- /measured -->{tail}", encoding="utf-8")
    if given.pictures and given.work is not None:
        for name in re.findall(r"images/fits/(\w+\.png)", tail):
            shutil.copy(given.work / "pictures" / name, IMAGES / name)


if __name__ == "__main__":
    main()
