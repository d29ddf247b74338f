"""Makes docs/measured: every table, number and figure from the measured sets, the words from docs/measured/templates.

python docs/make_measured.py [PAGE ...]      the pages named, or all; the data lie in ../shared/data, or $DEVICELAB_DATA

In a template `{{name}}` stands for a number or a table that the page's function returns; a name that it does not
return, or returns and the template does not use, is an error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from devicelab import Trace, plots
from devicelab.characterise import Study, series_of, study
from devicelab.characterise.findings import Finding, findings
from devicelab.characterise.number import engineering
from devicelab.characterise.summary import conduction_of
from devicelab.errors import DevicelabError
from devicelab.files import write_text
from devicelab.readers import Table, read_dataset, read_tables, read_traces

PAGES = Path(__file__).parent / "measured"
IMAGES = Path(__file__).parent / "images" / "measured"
DATA = Path(os.environ.get("DEVICELAB_DATA", Path(__file__).parents[2] / "shared" / "data"))
METHODS = {
    "v_set.max_slope": "largest dI/dV",
    "v_set.threshold": "half of the largest current",
    "v_set.charge_flux": "charge-flux knee",
    "v_set.max_current": "97 % of the largest current first reached",
}
VCM_NUMBERS = (
    "r_on", "r_off", "ratio", "v_reset.threshold", "compliance_negative", "energy_set", "r_series_max", "noise_floor",
)  # fmt: skip
INDEPENDENT = (-0.895, 0.066, 100)
"""Mean and standard deviation of V_set [V] of the VCM cell by an independent look, and its number of loops."""

Words = dict[str, str]


def save(name: str, ax: Any) -> None:
    """Write the figure of some axes and close it."""
    figure = getattr(ax, "figure", ax)
    figure.savefig(IMAGES / f"{name}.png", dpi=110)
    plt.close(figure)


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def v_set_table(found: Study) -> str:
    """V_set by each method against the independent look."""
    mean, sd, count = INDEPENDENT
    body = []
    for name, said in METHODS.items():
        x = found.values(name)
        error = sd * np.sqrt(1 / x.size - 1 / count)  # of a mean over part of the same loops
        half = 1.96 * x.std(ddof=1) / np.sqrt(x.size)
        apart = f"{abs(x.mean() - mean) / error:.1f} standard errors"
        body.append(
            [
                said,
                str(x.size),
                f"{x.mean():.3f} ± {x.std(ddof=1):.3f}",
                f"{x.mean() - half:.3f} to {x.mean() + half:.3f}",
                apart,
            ]
        )
    return rows(["method", "cycles", "mean ± sd [V]", "95 % of the mean [V]", "from the independent look"], body)


def numbers(found: Study, names: Sequence[str]) -> str:
    """Medians with intervals, spread, distribution and memory of some numbers."""
    body = []
    for name in (name for name in names if name in found.names()):
        try:
            s = found.summary(name)
        except DevicelabError:
            continue
        low, high = s.spread.median.low or 0.0, s.spread.median.high or 0.0
        best = f"{s.fits[0].family} (p = {s.fits[0].p_value:.2g})" if s.fits else "-"
        memory = "-" if s.memory is None else f"{s.memory.p_value:.2g}"
        bounds = f", {s.censored} bounds left out" if s.censored else ""
        body.append([
            f"`{name}`", f"{s.spread.n}{bounds}",
            f"{engineering(s.spread.median.value, s.unit)} ({engineering(low, s.unit)} to {engineering(high, s.unit)})",
            f"{100 * s.spread.cv.value:.3g} %", best, memory,
        ])  # fmt: skip
    return rows(["number", "cycles", "median (95 %)", "CV", "best distribution", "independent cycles, p"], body)


def laws(traces: Sequence[Trace]) -> str:
    """The three best conduction laws of each branch."""
    body = []
    for branch, fits in conduction_of(traces).items():
        said = [f"{fit.name.replace('_', ' ')} ({fit.delta:.1f})" for fit in fits[:3]]
        body.append([branch, *said, *[""] * (3 - len(said))])
    return rows(["branch", "best law (ΔAICc)", "second", "third"], body)


def of(finding: Finding, names: Sequence[str]) -> list[str]:
    """Some numbers of a finding as text."""
    return [str(finding[name]) if name in finding else "-" for name in names]


def vcm() -> Words:
    """VCM cell W264740."""
    traces = read_traces(DATA / "vcm_w264740_40loops" / "ivloops_40cycles.csv")
    found = study(traces)
    save("vcm_loops", plots.loops(traces))
    save("vcm_band", plots.band(traces))
    save("vcm_box", plots.box({name: found.values(name) for name in METHODS}, label="V_set [V]"))
    save("vcm_cdf", plots.cdf({"v_set.threshold": found.values("v_set.threshold")}, label="v_set.threshold [V]"))
    with_nan = {
        n: [c[n].value if n in c and not c[n].censored else np.nan for c in found.cycles] for n in ("r_on", "r_off")
    }
    save("vcm_endurance", plots.endurance(with_nan))
    mapped = ("v_set.threshold", "v_reset.max_current", "r_on", "r_off", "area", "power_set", "energy_reset")
    mapped = tuple(name for name in mapped if name in found.names())
    save("vcm_correlation", plots.correlation({n: [c.value(n) for c in found.cycles] for n in mapped}))
    save("vcm_mechanisms", plots.mechanism(traces))
    return {
        "cycles": str(len(found.cycles)),
        "forming": str(sum(cycle.forming for cycle in found.cycles)),
        "held": f"{100 * np.mean([cycle.held for cycle in found.cycles]):.1f}",
        "methods": v_set_table(found),
        "numbers": numbers(found, VCM_NUMBERS),
        "laws": laws(traces),
    }  # fmt: skip


def h16248l() -> Words:
    """RRAM H16248L."""
    folder = DATA / "rram_keithley4200_h16248L" / "M12"
    sets, resets = (read_traces(folder / f"03 endurance {kind}.xlsx") for kind in ("set", "reset"))
    found = study([*sets, *resets])
    whole = study(read_dataset(str(folder / "*.xlsx")))
    save("h16248l_loops", plots.loops([*sets, *resets]))
    ax = plots.endurance({name: found.values(name) for name in list(METHODS)[:2]}, label="V_set [V]")
    save("h16248l_cycles", ax)
    save("h16248l_cdf", plots.cdf({"v_set.threshold": found.values("v_set.threshold")}, label="v_set.threshold [V]"))
    memory = found.summary("v_set.threshold").memory
    v = found.values("v_set.threshold")
    return {
        "cycles": str(len(found.cycles)),
        "formed": ", ".join(sorted({str(c.meta["file"]) for c in whole.cycles if c.forming})),
        "no_v_set": str(len(sets) - v.size),
        "early": f"{-v[:6].max():.2f} to {-v[:6].min():.2f}",
        "late": f"{-np.median(v[6:]):.2f}",
        "memory": f"{np.corrcoef(v[:-1], v[1:])[0, 1]:.2f}",
        "memory_p": "-" if memory is None else f"{memory.p_value:.1g}",
        "numbers": numbers(found, (*METHODS, "v_reset.max_current", "r_on", "r_off", "ratio", "compliance_negative")),
    }


def nbsto() -> Words:
    """Nb:SrTiO3, radius 32 um."""
    root = DATA / "nbsto_schottky_timestamped"
    traces = list(read_dataset(root / "Radius 32 um"))
    found = study(traces)
    save("nbsto_loops", plots.loops(traces))
    save("nbsto_mechanisms", plots.mechanism(traces))
    body = []
    for name in ("Radius 10 um", "Radius 32 um", "Radius 100 um", "small", "medium", "large", "Old device"):
        part = list(read_dataset(root / name))
        peak = max(float(np.abs(trace.i).max()) for trace in part)
        timed = sum(trace.meta["time"].startswith("measured") for trace in part)
        stops = sorted({round(float(trace.v.min()), 1) for trace in part})
        body.append([name, str(len(part)), f"{stops[0]:g} to {stops[-1]:g} V", engineering(peak, "A", 3), str(timed)])
    (record,) = (root / "raw_data" / "pulses" / "old_device").glob("*steps_of_100mV*")
    (trains,) = findings(series_of(read_tables(record)))
    save("nbsto_pulses", plots.pulses(trains.items[:2]))
    levels = sorted({round(float(item.series.meta["pulse_voltage"]), 1) for item in trains.items})
    table = []
    for level in levels:
        part = [item for item in trains.items if round(float(item.series.meta["pulse_voltage"]), 1) == level]
        span = np.array([abs(np.diff(next(iter(item.series.y.values()))[[0, -1]])[0]) for item in part])
        label = np.array([item["label"].value for item in part])
        table.append(
            [f"{level:g} V", str(len(part)), engineering(float(np.median(span)), "S", 3), f"{np.median(label):.2f}"]
        )
    return {
        "cycles": str(len(found.cycles)),
        "ramps": str(len(trains.items)),
        "length": f"{np.median([len(item.series) for item in trains.items]):g}",
        "read": f"{trains.items[0].series.meta['voltage']:g}",
        "programme": rows(["pulses", "ramps", "change of the conductance (median)", "label (median)"], table),
        "folders": rows(["folder", "sweeps", "negative stop", "largest current", "with time"], body),
        "numbers": numbers(found, (*METHODS, "v_set.spread", "r_on", "r_off")),
        "r_off": str(found.values("r_off").size if "r_off" in found.names() else 0),
        "laws": laws(traces),
    }


def knowm() -> Words:
    """Knowm W-SDC."""
    data = read_dataset(DATA / "knowm_w_sdc_sine")
    alone = data.filter(file="Memristor.csv")
    few = alone.filter(series_kohm=5, frequency=10, device="M1")
    save("knowm_loops", plots.loops(list(alone.filter(series_kohm=5))))
    body = []
    for (resistor, frequency), part in sorted(alone.group("series_kohm", "frequency").items()):
        found = study(list(part))
        if "v_set.max_slope" not in found.names():
            continue
        v = found.values("v_set.max_slope")
        energy = found.values("energy_set") if "energy_set" in found.names() else np.array([np.nan])
        body.append(
            [
                f"{resistor} kΩ",
                f"{frequency} Hz",
                str(len(part)),
                f"{np.median(v):.3f} V",
                engineering(float(np.median(energy)), "J", 3),
            ]
        )
    return {
        "traces": str(len(data)),
        "alone": str(len(alone)),
        "polarities": ", ".join(sorted({f"{c.polarity:+d}" for c in study(list(alone)).cycles})),
        "samples": str(len(few[0])),
        "by_frequency": rows(
            ["resistor", "frequency", "traces", "V_set, largest dI/dV (median)", "energy of the set excursion"], body
        ),
    }


def gong2018() -> Words:
    """HfO2 ReRAM of Gong et al."""
    (found,) = findings(series_of(read_tables(DATA / "gong2018_pulse_response" / "gong_et_al.csv")))
    save("gong_pulses", plots.pulses(found.items))
    names = {
        "label": "NeuroSim label", "scale": "step at weight 0 (aihwkit)",
        "slope": "change of the step per weight (aihwkit gamma)",
        "write_noise": "scatter about the curve", "step_noise": "written at each step", "read_noise": "read",
        "levels": "levels four standard deviations apart",
    }  # fmt: skip
    columns = [of(item, list(names)) for item in found.items]
    return {
        "pulses": str(len(found.items[0].series.x)),
        "numbers": rows(
            ["", "up", "down"], [[said, *cells] for said, *cells in zip(names.values(), *columns, strict=True)]
        ),
        "asymmetry": str(found.together["asymmetry"]),
        "remarks": "\n".join(f"- {text}" for text in dict.fromkeys(t for item in found.items for t in item.remarks)),
    }


def switched(table: Table, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Voltages (gate, pulse) of each pulse, [n, 2], and the resistance after it over that before, [n]."""
    ratio = table["resistance after"] / table["resistance before"]
    return np.column_stack([table["gate voltage"], table["pulse voltage"]]), ratio if kind == "reset" else 1 / ratio


def grid(kind: str) -> tuple[str, str]:
    """Share of cells that a pulse moves by a factor of two, by width and by gate voltage; the figure is for 2 µs."""
    (table,) = read_tables(DATA / "ni_1t1r_rram_array" / f"{kind}_sweep.tsv")
    where, ratio = switched(table, kind)
    longest = table["pulse width"] == table["pulse width"].max()
    places, index = np.unique(where[longest], axis=0, return_inverse=True)
    shares = np.bincount(index.ravel(), ratio[longest] > 2) / np.bincount(index.ravel())
    ax = plots.wafer(places, 100 * shares, label=f"{kind}: cells moved by a factor of two [%]", log=False)
    ax.set(xlabel="gate voltage [V]", ylabel="pulse voltage [V]")
    ax.xaxis.set_major_locator(mpl.ticker.AutoLocator())
    ax.yaxis.set_major_locator(mpl.ticker.AutoLocator())
    ax.invert_yaxis()
    ax.set_aspect("auto")
    save(f"ni_{kind}", ax)
    width, gate = table["pulse width"], table["gate voltage"]
    gates = np.unique(gate)
    body = []
    for w in np.unique(width):
        shares = [np.mean(ratio[(width == w) & (gate == g)] > 2) for g in gates]
        body.append(
            [engineering(float(w), "s", 3), str(int((width == w).sum())), *[f"{100 * share:.0f} %" for share in shares]]
        )
    return rows(["width", "pulses", *[f"{g:g} V" for g in gates]], body), str(len(table))


def ni_1t1r() -> Words:
    """NI 1T1R array."""
    root = DATA / "ni_1t1r_rram_array"
    sets, n_set = grid("set")
    resets, n_reset = grid("reset")
    before, after = (read_tables(root / f"{when}bake110.tsv")[0] for when in ("pre", "post"))
    for name, table in (("before", before), ("after", after)):
        places = [(int(a) % 256, int(a) // 256) for a in table["address"]]
        save(f"ni_bake_{name}", plots.wafer(places, table["resistance"], label=f"resistance {name} the bake [ohm]"))
    same = np.array_equal(before["address"], after["address"])
    (bakes,) = findings([s for when in ("pre", "post") for s in series_of(read_tables(root / f"{when}bake110.tsv"))])
    save("ni_states", plots.states(bakes.items))
    bake = {name.partition(": ")[2]: str(number) for name, number in bakes.together.items()}
    (reads,) = findings(series_of(read_tables(root / "ret1.csv"), "noise"))
    save("ni_spectrum", plots.spectrum(reads.items[0]))
    (drift,) = findings(series_of(read_tables(root / "ret1.csv"), "retention"))
    save("ni_retention", plots.retention(drift.items[0]))
    worn = {}
    for name in ("1us_endurance", "endurance_slow"):
        (worn[name],) = findings(series_of(read_tables(root / f"{name}.tsv")))
    save("ni_endurance", plots.wear(worn["1us_endurance"].items[0]))
    fast, slow = (worn[name].items[0] for name in ("1us_endurance", "endurance_slow"))
    keys = {
        "r_on": "R_on",
        "r_off": "R_off",
        "window": "R_off / R_on",
        "failed": "share of closed windows",
        "cycles_to_failure": "cycles to failure, extrapolated",
    }
    (hundred,) = findings(series_of(read_tables(root / "100cyc.tsv")))
    cells = read_traces(root / "read_multivolt.tsv")
    slopes = np.array([np.polyfit(trace.v, trace.i, 1) for trace in cells])
    read_keys = ("mean", "sd", "exponent", "white", "corner", "thermal")
    return {
        "n_set": n_set, "set_grid": sets, "n_reset": n_reset, "reset_grid": resets,
        "baked": str(len(before)), "same": "the same" if same else "other",
        "bake_before": engineering(float(np.median(before["resistance"])), "ohm", 3),
        "bake_after": engineering(float(np.median(after["resistance"])), "ohm", 3),
        "bake_shift": bake["shift"], "bake_moved": bake["moved"], "bake_changed": bake["changed"],
        "endurance": rows(["", *worn], [[said, *of(fast, [key]), *of(slow, [key])] for key, said in keys.items()]),
        "fast_points": str(len(fast.series.x)), "slow_points": str(len(slow.series.x)),
        "hundred": str(len(hundred.items)), "hundred_d2d": str(hundred.together["log10_r_on.share"]),
        "reads": rows(["number", "value (95 %)"], [[key, *of(reads.items[0], [key])] for key in read_keys]),
        "read_remarks": "\n".join(f"- {text}" for text in reads.items[0].remarks),
        "cells": str(len(cells)), "offset": engineering(float(np.median(slopes[:, 1])), "A", 3),
        "conductance": engineering(float(np.median(slopes[:, 0])), "S", 3),
        "conductance_cv": f"{100 * slopes[:, 0].std(ddof=1) / slopes[:, 0].mean():.2g}",
    }  # fmt: skip


def format_samples() -> Words:
    """One real file of each format."""
    body, notes = [], []
    for path in sorted((DATA / "format_samples").rglob("*")):
        if not path.is_file() or path.suffix == ".md":
            continue
        scope = "scope" in path.parent.name
        options: dict[str, Any] = {"shunt": 1000.0, "columns": {"v": "2"}} if scope else {}
        traces = read_traces(path, **options)
        meta = traces[0].meta
        v, i = (np.concatenate([getattr(trace, k) for trace in traces]) for k in "vi")
        name = path.name if len(path.name) <= 34 else path.name[:31] + "..."
        body.append([
            f"`{path.parent.name}`/{name}".replace("|", "/"), f"`{meta['profile']}`", str(len(traces)), str(v.size),
            f"{v.min():.4g} to {v.max():.4g} V",
            f"{engineering(float(i.min()), 'A', 3)} to {engineering(float(i.max()), 'A', 3)}",
            ", ".join(f"{role} = {column}" for role, column in meta["columns"].items()),
            str(meta["time"]).partition(":")[0].partition(";")[0],
            "-" if "compliance" not in meta else engineering(float(meta["compliance"]), "A", 3),
        ])  # fmt: skip
        notes.append(f"- `{path.parent.name}`, {name}: {meta['profile_why']}; {meta['time']}.")
    head = ["file", "profile", "traces", "samples", "voltage", "current", "columns", "time", "compliance"]
    return {"files": rows(head, body), "why": "\n".join(dict.fromkeys(notes)), "count": str(len(body))}


MADE: dict[str, Callable[[], Words]] = {
    "vcm_w264740": vcm, "h16248l": h16248l, "nbsto": nbsto, "knowm": knowm, "gong2018": gong2018, "ni_1t1r": ni_1t1r,
    "format_samples": format_samples,
}  # fmt: skip


def page(name: str) -> str:
    """The text of one page; its figures are written on the way."""
    template = (PAGES / "templates" / f"{name}.md").read_text(encoding="utf-8")
    words = MADE[name]()
    wanted = set(re.findall(r"\{\{(\w+)\}\}", template))
    if wanted != set(words):
        raise SystemExit(f"{name}: template and numbers differ in {sorted(wanted ^ set(words))}")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], template)


def main(names: Sequence[str]) -> None:
    """Write the pages."""
    unknown = set(names) - set(MADE)
    if unknown or not DATA.is_dir():
        raise SystemExit(f"no page {', '.join(unknown)}; pages: {', '.join(MADE)}" if unknown else f"no data at {DATA}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in names or MADE:
        write_text(PAGES / f"{name}.md", page(name), force=True)
        print(f"wrote docs/measured/{name}.md", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
