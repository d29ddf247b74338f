"""The whole story in one command: a measured loop, a fitted device, ngspice, a lookup table, an array, a network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, plot
from .drive import Drive, triangle
from .files import write_text
from .lut import Lut
from .models import VTEAM, Model
from .models.threshold import Resistance
from .report import Report
from .simulation import simulate
from .trace import Trace
from .windows import Biolek, NoWindow, Window

V_READ = 0.2
LINE_RESISTANCES = (2.0, 20.0)
SIMULATED = "simulated by a virtual instrument on a virtual device; give --trace FILE for a measurement of yours"
MOST = 5
"""Most traces that the demo fits together."""
CANDIDATES: tuple[tuple[str, Window, Resistance], ...] = (
    ("linear R, no window", NoWindow(), "linear"),
    ("exponential R, no window", NoWindow(), "exponential"),
    ("linear R, Biolek", Biolek(p=1), "linear"),
    ("exponential R, Biolek", Biolek(p=1), "exponential"),
    ("exponential R, Biolek p=4", Biolek(p=4), "exponential"),
)


@dataclass
class Story:
    """What the steps share."""

    report: Report
    say: Callable[[str], None]
    summary: dict[str, Any]
    started: float

    def step(self, title: str, text: str = "") -> None:
        """Announce a step."""
        self.say(f"[{time.perf_counter() - self.started:5.1f} s] {title}")
        self.report.section(title, text)


def demo(out: Path, traces: list[Trace], *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the story on some traces of one device; write figures, files and index.html to `out`.

    Args:
        out: Folder; created if missing.
        traces: One or several loops.
        say: Called with a line of text at every step.

    Returns:
        The figures that matter, as plain numbers; also written to ``summary.json``.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    out.mkdir(parents=True, exist_ok=True)
    story = Story(Report("devicelab: from a measured loop to a network", out), say, {}, time.perf_counter())
    _measured(story, traces)
    fitted = _fit(story, traces)
    _spice(story, fitted)
    table = _table(story, fitted)
    _array(story, table, fitted.model)
    _network(story, table)
    story.summary["seconds"] = time.perf_counter() - story.started
    story.report.text(f"devicelab {__version__}, {story.summary['seconds']:.0f} s.")
    write_text(out / "summary.json", json.dumps(story.summary, indent=2) + "\n", force=True)
    story.say(f"open {story.report.write()}")
    return story.summary


def sample_traces() -> list[Trace]:
    """The sample traces of the checkout, or, in an installed package without them, a simulated one with noise."""
    from .readers import read_traces

    folder = Path(__file__).resolve().parent.parent / "data"
    names = [folder / name for name in ("oxide_small.csv", "oxide_large.csv", "oxide_fast.csv")]
    if all(name.is_file() for name in names):
        return [read_traces(name)[0].with_meta(origin=SIMULATED) for name in names]
    device = VTEAM(
        r_on=1e4, r_off=2e5, v_on=-0.6, v_off=0.5, k_on=20.0, k_off=8.0, a_on=3.0, a_off=2.0, b_on=0.5, b_off=2.5,
        window=Biolek(p=2), resistance="exponential",
    )  # fmt: skip
    ideal = simulate(device, triangle(-1.2, 1.0, negative=1.2, points=400), x0=0.05)
    rng = np.random.default_rng(1)
    i = ideal.i * (1 + 0.02 * rng.standard_normal(ideal.i.size)) + 5e-8 * rng.standard_normal(ideal.i.size)
    return [Trace(ideal.t, ideal.v, i, meta={"file": "sample", "profile": "-", "origin": SIMULATED})]


def _measured(story: Story, traces: list[Trace]) -> None:
    import matplotlib.pyplot as plt

    first = traces[0].meta
    story.step("The trace", "Everything below starts from these current-voltage loops.")
    story.report.table(
        [
            {
                "file": trace.meta.get("file", "-"),
                "read as": trace.meta.get("profile", "-"),
                "samples": len(trace),
                "voltage": f"{trace.v.min():.3g} to {trace.v.max():.3g} V",
                "largest current": f"{np.abs(trace.i).max():.3g} A",
                "duration": f"{trace.duration:.3g} s",
                "time": str(trace.meta.get("time", "-")),
            }
            for trace in traces[:8]
        ]
    )
    story.report.text(f"Origin: {first.get('origin', 'measured, or not stated in the file')}.")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    plot.hysteresis(traces, axes[0])
    plot.hysteresis(traces, axes[1], log=True)
    story.report.figure(figure, "loops", "The loops, linear and logarithmic; arrows along the sweep.")


def _fit(story: Story, traces: list[Trace]) -> Any:
    import fits

    story.step("The fit", "VTEAM with five combinations of resistance law and window; the lowest AICc wins.")
    templates = {
        name: VTEAM(
            r_on=1e3, r_off=1e5, v_on=-0.5, v_off=0.5, k_on=1.0, k_off=1.0, window=window, resistance=resistance
        )
        for name, window, resistance in CANDIDATES
    }
    found = fits.compare(templates, traces, holdout=(), starts=8, progress=lambda line: story.say(f"          {line}"))
    best = found.best
    story.report.table(found.table())
    story.report.figure(found.plot(), "models", "Error of each candidate, and its AICc above the least.")
    story.report.preformatted(best.report())
    fitted = best.simulate()
    for k, (trace, model) in enumerate(list(zip(traces, fitted, strict=True))[:2]):
        caption = "Loop, fit and residuals."
        story.report.figure(plot.fit(trace, model, best.masks[k]), f"fit_{k + 1}", caption)
    folder = story.report.folder
    best.to_json(folder / "fit.json", force=True)
    write_text(folder / "device.toml", best.parameter_set(), force=True)
    story.summary["fit"] = {key: float(value) for key, value in best.metrics.items()}
    story.summary["model"] = found.rows[0].name
    return best


def _spice(story: Story, result: Any) -> None:
    import netlists

    story.step("The same device in ngspice")
    if not netlists.available():
        story.say("          skipped: ngspice is not installed")
        story.report.text("Skipped: ngspice is not installed (apt-get install ngspice libngspice0).")
        story.summary["spice"] = None
        return
    trace = result.traces[0]
    write_text(story.report.folder / "device.subckt", netlists.subckt(result.model), force=True)
    spice = netlists.simulate(result.model, Drive.from_trace(trace), x0=result.x0[0])
    mine = simulate(result.model, Drive(spice.t, spice.v), x0=result.x0[0])
    state = float(np.abs(spice.x - mine.x).max())
    current = float(np.abs(spice.i - mine.i).max() / np.abs(mine.i).max())
    version = netlists.ngspice_version()
    story.report.text(
        f"ngspice {version} ran the emitted sub-circuit (device.subckt) under the first trace's voltage. At its own "
        f"{len(spice)} time points the state differs by at most {state:.1e} and the current by {current:.1e} of its "
        "largest value from the exact simulation in Python."
    )
    story.say(f"          largest difference: state {state:.1e}, current {current:.1e}")
    story.summary["spice"] = {"state": state, "current": current, "version": version}


def _table(story: Story, result: Any) -> Lut:
    story.step("The lookup table")
    model = result.model
    v_max = max(1.0, 2 * V_READ)
    sources = [trace.meta.get("sha256", "") for trace in result.traces]
    table = Lut.from_model(model, v_max, provenance={"devicelab": __version__, "source_sha256": " ".join(sources)})
    path = story.report.folder / "device.h5"
    table.save(path, force=True)
    table = Lut.load(path)
    low, high = table.conductance_range(V_READ)
    story.report.text(
        f"{table.state.size} states x {table.voltage.size} voltages, interpolation error {table.error:.1e}, verified "
        f"on reading. At {V_READ} V the device covers {1e6 * low:.3g} to {1e6 * high:.3g} µS (ratio {high / low:.3g})."
    )
    story.report.figure(plot.lut(table), "lut", "Conductance over voltage and state; contours of |current|.")
    story.summary["on_off_ratio"] = high / low
    return table


def _array(story: Story, table: Lut, model: Model) -> None:
    import torch

    import crossbar
    import netlists

    story.step("One passive array")
    generator = torch.Generator().manual_seed(0)
    wires = crossbar.Wires(r_wl=5.0, r_bl=5.0, r_source=5.0, r_sense=5.0)
    states = torch.rand(64, 64, generator=generator, dtype=torch.float64)
    applied = torch.full((64,), V_READ, dtype=torch.float64)
    solution = crossbar.solve(crossbar.LutCells(table, states), applied, wires)
    figure = plot.cell_voltages(solution.v_cell, V_READ)
    story.report.figure(
        figure, "array", f"64 x 64 cells at random states, {V_READ} V on every word line, 5 ohm a segment."
    )
    ideal = crossbar.solve(crossbar.LutCells(table, states), applied).i_out
    lost = float(1 - solution.i_out.sum() / ideal.sum())
    story.report.text(
        f"The lines take {100 * lost:.0f} % of the output current. Relative residual of Kirchhoff's current law "
        f"{solution.residual:.1e}."
    )
    story.summary["array"] = {"lost_current": lost, "residual": solution.residual}
    if not netlists.available():
        return
    cells = crossbar.ModelCells(model, states[:8, :8].contiguous())
    mine = crossbar.solve(cells, applied[:8], wires, rtol=1e-9).i_out
    vectors = netlists.run(netlists.crossbar(cells, applied[:8], wires))
    theirs = torch.tensor([float(vectors[f"i(vo{j})"][0]) for j in range(8)], dtype=torch.float64)
    error = float((mine - theirs).abs().max() / theirs.abs().max())
    story.report.text(
        f"An 8 x 8 corner of it, from the model itself, in ngspice: the same output currents to {error:.1e}."
    )
    story.say(f"          8 x 8 corner against ngspice: {error:.1e}")
    story.summary["array"]["ngspice"] = error


def _network(story: Story, table: Lut) -> None:
    import crossbar
    from crossbar.digits import costs, load_digits, train_mlp

    from .errors import MissingDependencyError

    story.step(
        "A network on such arrays", "A perceptron 64-64-10 trained on real handwritten digits, on 64 x 64 tiles."
    )
    try:
        digits = load_digits()
    except MissingDependencyError as error:
        story.say(f"          skipped: {error.what}")
        story.report.text(f"Skipped: {error.what}. {error.hint}")
        return
    lines = {f"{r:g} ohm": crossbar.Wires(r_wl=r, r_bl=r, r_source=r, r_sense=r) for r in LINE_RESISTANCES}
    net, config = train_mlp(digits), crossbar.Config(v_read=V_READ)
    rows = costs(net, table, config, lines, digits, lambda line: story.say(f"        {line}"))
    accuracies, errors = ({row.arrays: getattr(row, name) for row in rows} for name in ("accuracy", "error"))
    story.report.preformatted(crossbar.report(crossbar.convert(net, table, config)))
    caption = f"{len(digits.test_y)} test images; the outputs are those of the last layer."
    story.report.figure(plot.accuracy(accuracies, errors), "accuracy", caption)
    story.summary["accuracy"] = accuracies
    story.summary["output_error"] = errors
