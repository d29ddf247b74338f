"""Writes the table of measured sets in docs/fits.md: every I/V set fitted by the best of several models.

python docs/make_fits.py DATA [--pictures]

DATA is the folder of measured sets. Each set is compared over the candidates with cycles held out; see `fits.compare`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fits
from devicelab import VTEAM, Biolek, Model, NoWindow, Trace
from devicelab.readers import read_dataset, read_traces

PAGE = Path(__file__).parent / "fits.md"
IMAGES = Path(__file__).parent / "images" / "fits"
VALUES = {"r_on": 1e3, "r_off": 1e5, "v_on": -0.5, "v_off": 0.5, "k_on": 1.0, "k_off": 1.0}


@dataclass
class Set:
    """Some traces of one device.

    Args:
        name: In words.
        traces: The traces.
        options: For `fits.fit`.
    """

    name: str
    traces: list[Trace]
    options: dict[str, Any] = field(default_factory=dict)


def candidates() -> dict[str, Model]:
    """VTEAM with both resistance laws, without a window and with Biolek's."""
    out: dict[str, Model] = {}
    for law in ("linear", "exponential"):
        for words, window in (("", NoWindow()), (" Biolek p=1", Biolek(p=1))):
            out[f"VTEAM {law}{words}"] = VTEAM(**VALUES, resistance=law, window=window)  # type: ignore[arg-type]
    return out


def measured(data: Path) -> list[Set]:
    """The sets of I/V traces."""
    vcm = read_traces(data / "vcm_w264740_40loops" / "ivloops_40cycles.csv")
    out = [Set("VCM W264740, 10 µs loops", vcm[:40:13])]
    folder = data / "rram_keithley4200_h16248L" / "M12"
    sets, resets = (read_traces(folder / f"03 endurance {kind}.xlsx") for kind in ("set", "reset"))
    out.append(Set("H16248L, SET and RESET sweeps", [*sets[1:11:5], *resets[1:11:5]]))
    for device in ("Radius 10 um", "Radius 32 um", "Radius 100 um"):
        traces = list(read_dataset(str(data / "nbsto_schottky_timestamped" / device)).traces)
        groups: dict[int, list[Trace]] = {}
        for trace in traces:
            groups.setdefault(round(float(trace.v.min())), []).append(trace)
        level, most = max(groups.items(), key=lambda item: len(item[1]))
        out.append(Set(f"Nb:SrTiO3, {device}, {level} V", most[:3]))
    for ohm in (5, 47):
        for device in ("M1", "M2", "M3"):
            for hertz in (10,):
                where = data / "knowm_w_sdc_sine" / f"{ohm}kohm" / f"{ohm}kohm_.8V_{hertz}Hz_{device}"
                if where.is_dir():
                    source = next(
                        trace for trace in read_dataset(str(where)).traces if "Resistor" in trace.meta["file"]
                    )
                    resistor = {"series_resistance": ohm * 1e3, "periodic": True}
                    out.append(Set(f"Knowm W-SDC {device}, {hertz} Hz, behind {ohm} kΩ", [source], resistor))
    return out


def structure(result: fits.FitResult) -> str:
    """Where the residual is: the share of its sum of squares in the tenth of the samples that holds most of it."""
    parts = []
    for trace, mask, mine in zip(result.traces, result.masks, result.simulate(), strict=True):
        parts.append(np.square(mine.i - trace.i)[mask])
    squares = np.sort(np.concatenate(parts))[::-1]
    return f"{100 * squares[: squares.size // 10].sum() / squares.sum():.0f} %"


def row(entry: Set, models: dict[str, Model], pictures: bool) -> str:
    """One line of the table."""
    begin = time.process_time()
    options = {"starts": 4, **entry.options}
    if entry.options:
        options |= {"screen": 256, "starts": 2}
    holdout = ["cycles"] if len(entry.traces) > 1 else []
    found = fits.compare(models, entry.traces, holdout=holdout, folds=2, **options)  # type: ignore[arg-type]
    best, first = found.best, found.rows[0]
    if pictures:
        import matplotlib as mpl

        mpl.use("Agg")
        from devicelab import plot

        IMAGES.mkdir(parents=True, exist_ok=True)
        stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in entry.name.lower())
        figure = plot.fit(best.traces[0], best.simulate()[0], best.masks[0])
        figure.savefig(IMAGES / f"{stem}.png", dpi=90, bbox_inches="tight")
    alone = f"{100 * fits.fit(best.model, entry.traces[0], **options).metrics['nrmse']:.2f} %"
    hidden = first.cycles
    held = f"{100 * hidden['nrmse']:.2f} % | {hidden['log_rmse']:.3f}" if hidden else "- | -"
    m = best.metrics
    line = (
        f"| {entry.name} | {len(entry.traces)} | {first.name} | {alone} | "
        f"{100 * m['nrmse']:.2f} % | {m['log_rmse']:.3f} | {held} | {structure(best)} | {100 * m['masked']:.0f} % |"
    )
    sys.stderr.write(f"{line} {time.process_time() - begin:.0f} s\n")
    return line


HEAD = (
    "| set | traces | best model | NRMSE of one trace alone | NRMSE joint | log10 RMSE joint | "
    "NRMSE held out | log10 RMSE held out | squares in the worst tenth | left out (compliance) |\n"
    + "| --- " * 10
    + "|"
)


def main() -> None:
    """Fit all sets and put the table between its markers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    models = candidates()
    lines = [row(entry, models, given.pictures) for entry in measured(given.data) if given.only in entry.name]
    if given.only:
        return
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split("<!-- measured -->\n")
    tail = rest.split("\n<!-- /measured -->")[1]
    table = "\n".join([HEAD, *lines])
    PAGE.write_text(f"{head}<!-- measured -->\n{table}\n<!-- /measured -->{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
