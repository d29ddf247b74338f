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
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fits
from devicelab import VTEAM, Biolek, Model, NoWindow, Trace, parameter_set
from devicelab.commands import say
from devicelab.readers import read_dataset, read_traces

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

SEEN_WORSE = "linear_ion_drift, team, pku, simmons, data_driven_2021"
"""Tried on one loop of VCM: NRMSE 37, 34, 13.1, 36 and 44 %, where those above reach 12 to 18 %; pku takes 46 s."""

BEST_BEHIND_RESISTOR = ("VTEAM exponential Biolek p=1", "yakopcic_two_branch")


@dataclass
class Set:
    """Some traces of one device.

    Args:
        name: In words.
        traces: The traces.
        options: For `fits.fit`.
        models: Names of the candidates; all by default.
        holdout: For `fits.compare`.
        picture: Name of its picture; none by default.
    """

    name: str
    traces: list[Trace]
    options: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    holdout: tuple[Any, ...] = ("cycles",)
    picture: str = ""


def candidates() -> dict[str, Model]:
    """VTEAM with both resistance laws, without a window and with Biolek's, and the other models."""
    out: dict[str, Model] = {}
    for law in ("linear", "exponential"):
        for words, window in (("", NoWindow()), (" Biolek p=1", Biolek(p=1))):
            out[f"VTEAM {law}{words}"] = VTEAM(**VALUES, resistance=law, window=window)  # type: ignore[arg-type]
    return out | {name: parameter_set(source) for name, source in SETS.items()}


def measured(data: Path) -> list[Set]:
    """The sets of I/V traces, those of most interest first."""
    knowm = data / "knowm_w_sdc_sine"
    first = [_knowm(knowm, ohm, 8, 10, "M1") for ohm in (5, 47)]
    for entry in first:
        entry.models = ()
    first[0].picture, first[1].picture = "knowm_5k", "knowm_47k"
    vcm = read_traces(data / "vcm_w264740_40loops" / "ivloops_40cycles.csv")
    first.append(Set("VCM W264740, 10 µs loops", vcm[:40:13], picture="vcm"))
    folder = data / "nbsto_schottky_timestamped"
    sweeps = list(read_dataset(str(folder / "Radius 32 um")).traces)
    first.append(Set("Nb:SrTiO3, radius 32 µm, -2 V", _like(sweeps, -2)[:3], picture="nbsto_32um"))
    m12 = data / "rram_keithley4200_h16248L" / "M12"
    sets, resets = (read_traces(m12 / f"03 endurance {kind}.xlsx") for kind in ("set", "reset"))
    first.append(Set("H16248L, SET and RESET sweeps", [*sets[1:11:5], *resets[1:11:5]], picture="h16248l"))
    rest = []
    for hertz in (10, 100, 1, 1000):
        for ohm in (5, 47):
            for device in ("M1", "M2", "M3"):
                if (hertz, device) != (10, "M1") and _folder(knowm, ohm, 8, hertz, device).is_dir():
                    rest.append(_knowm(knowm, ohm, 8, hertz, device))
    rest += [_knowm(knowm, 5, 3, 10, device) for device in ("M1", "M2", "M3")]
    schottky = ("VTEAM exponential", "vteam_asymmetric", "yakopcic_two_branch")
    for words, level, kind in (("Radius 10 um", -3, "cycles"), ("Radius 100 um", -2, "cycles")):
        traces = _like(list(read_dataset(str(folder / words)).traces), level)
        name = f"Nb:SrTiO3, {words.lower().replace('um', 'µm')}, {level} V"
        first.append(Set(name, traces[:3], models=schottky, holdout=(kind,)))
    old = list(read_dataset(str(folder / "Old device")).traces)
    rest.append(Set("Nb:SrTiO3, old device, -1 to -4 V", old, models=schottky, holdout=("amplitudes",)))
    return [*first, *rest]


def _like(traces: Sequence[Trace], level: int) -> list[Trace]:
    return [trace for trace in traces if round(float(trace.v.min())) == level]


def _folder(knowm: Path, ohm: int, tenths: int, hertz: int, device: str) -> Path:
    return knowm / f"{ohm}kohm" / f"{ohm}kohm_.{tenths}V_{hertz}Hz_{device}"


def _knowm(knowm: Path, ohm: int, tenths: int, hertz: int, device: str) -> Set:
    found = read_dataset(str(_folder(knowm, ohm, tenths, hertz, device))).traces
    source = next(trace for trace in found if "Resistor" in trace.meta["file"])
    options = {"series_resistance": ohm * 1e3, "periodic": True, "screen": 512, "starts": 2}
    name = f"W-SDC {device}, {hertz} Hz, 0.{tenths} V, {ohm} kΩ"
    return Set(name, [source], options, BEST_BEHIND_RESISTOR, ())


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


def row(entry: Set, models: dict[str, Model], work: Path | None, workers: int, pictures: bool) -> str:
    """One line of the table."""
    begin = time.perf_counter()
    options = {"starts": 3, **entry.options}
    chosen = {name: models[name] for name in entry.models} if entry.models else models
    folder = None if work is None else work / "fits"
    found = fits.compare(
        chosen, entry.traces, holdout=entry.holdout if len(entry.traces) > 1 else (), folds=2, shortlist=3,
        workers=workers, folder=folder, progress=say,
        **options,
    )  # fmt: skip
    best, first = found.best, found.rows[0]
    if pictures and entry.picture:
        import matplotlib as mpl

        mpl.use("Agg")
        from devicelab import plot

        IMAGES.mkdir(parents=True, exist_ok=True)
        figure = plot.fit(best.traces[0], best.simulate()[0], best.masks[0])
        figure.savefig(IMAGES / f"{entry.picture}.png", dpi=90, bbox_inches="tight")
    hidden = first.cycles or first.amplitudes
    held = f"{100 * hidden['nrmse']:.2f} % | {hidden['log_rmse']:.3f}" if hidden else "- | -"
    m = best.metrics
    rho, where = structure(best)
    if work is not None:
        (work / "reports").mkdir(parents=True, exist_ok=True)
        (work / "reports" / f"{_stem(entry.name)}.txt").write_text(found.report() + "\n", encoding="utf-8")
    line = (
        f"| {entry.name} | {len(entry.traces)} | {len(chosen)} | {first.name} | {100 * m['nrmse']:.2f} % | "
        f"{m['log_rmse']:.3f} | {held} | {rho:.2f} | {where} | {100 * m['masked']:.0f} % |"
    )
    sys.stderr.write(f"{line} {time.perf_counter() - begin:.0f} s\n")
    return line


def _stem(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name.lower())


HEAD = (
    "| set | traces | models tried | best | NRMSE | log10 RMSE | NRMSE held out | log10 RMSE held out | "
    "lag-1 autocorrelation | most of the squares | left out (compliance) |\n" + "| --- " * 11 + "|"
)


def main() -> None:
    """Fit all sets and put the table between its markers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, help="folder that keeps fits and rows")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--only", default="", help="sets whose name holds these words; the page stays as it is")
    parser.add_argument("--write", action="store_true", help="fit nothing; the page gets the rows that are kept")
    given = parser.parse_args()
    models, sets = candidates(), measured(given.data)
    file = None if given.work is None else given.work / "rows.json"
    rows: dict[str, str] = json.loads(file.read_text()) if file is not None and file.exists() else {}
    for entry in sets:
        if given.write or given.only not in entry.name or entry.name in rows:
            continue
        rows[entry.name] = row(entry, models, given.work, given.workers, given.pictures)
        if file is not None:
            file.write_text(json.dumps(rows, indent=1))
    if given.only:
        return
    missing = [entry.name for entry in sets if entry.name not in rows]
    lines = [HEAD, *(rows[entry.name] for entry in sets if entry.name in rows), ""]
    lines.append(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}.")
    lines[-1] += f" Not run: {'; '.join(missing)}." if missing else ""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split("<!-- measured -->\n")
    tail = rest.split("\n<!-- /measured -->")[1]
    table = "\n".join(lines)
    PAGE.write_text(f"{head}<!-- measured -->\n{table}\n<!-- /measured -->{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
