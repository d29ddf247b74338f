"""`devicelab plot`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DevicelabError, FileFormatError, ParameterError, unknown_name
from ..files import check_target, replacing
from ..trace import Trace
from . import choose, read_files, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..characterise import Cycle

CYCLES = ("loops", "band", "cdf", "box", "endurance", "correlation", "mechanisms")
SERIES = {
    "pulses": "pulses", "wear": "endurance", "retention": "retention", "spectrum": "noise", "telegraph": "noise",
    "states": "states",
}  # fmt: skip
"""Kinds of figures of readings, and the kind of measurement that each is of."""
KINDS = (*CYCLES, "wafer", *SERIES)
PANELS = 6
PICTURES = (".png", ".pdf", ".svg")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="[KIND] FILES...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Picture: .png, .pdf or .svg.")
@click.option("--log", is_flag=True, help="Without KIND: logarithmic |current| only; both scales by default.")
@click.option("--trace", "index", multiple=True, type=int, help="Only this trace or measurement (from 0); repeat.")
@click.option("--cycles", metavar="1-10,20", help="Only these cycles, as the files number them.")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option(
    "--number", "numbers", multiple=True, help="For cdf, box, endurance, wafer: v_set.threshold, r_on, ...; repeat."
)
@click.option("--style", default="screen", show_default=True, help="screen, one or two: columns of a journal.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def command(
    files: tuple[str, ...],
    out: Path,
    log: bool,
    index: tuple[int, ...],
    cycles: str | None,
    profile: str | None,
    numbers: tuple[str, ...],
    style: str,
    force: bool,
) -> None:
    """Plot instrument files: hysteresis loops, or with a KIND one of the figures of a paper.

    KIND is loops (coloured by cycle), band (median and quantiles over cycles), cdf, box, endurance, correlation or
    mechanisms of sweeps; pulses, wear, retention, spectrum, telegraph or states of readings; wafer, a number over the
    positions of the devices.

    Example: devicelab plot data/oxide_cycles.csv --out loop.png

    Example: devicelab plot loops data/oxide_cycles.csv --out loops.pdf --style one
    """
    kind = files[0] if files[0] in KINDS and not Path(files[0]).is_file() else ""
    names = files[1:] if kind else files
    if not names:
        raise ParameterError("no files to plot", got=kind, hint=f"devicelab plot {kind} FILES --out {out}")
    _check(kind, names, out, style, force)
    import matplotlib as mpl

    mpl.use("Agg")
    from .. import plots

    with plots.style(style) as size:
        if kind == "wafer":
            figure = _wafer(names, profile, numbers, size)
        elif kind in SERIES:
            figure = _of_series(kind, names, profile, size, index)
        else:
            traces = choose(_read(names, profile) if kind else read_files(names, profile=profile), index)
            traces = _cycles(traces, cycles) if cycles is not None else traces
            figure = _of_kind(kind, traces, numbers, size) if kind else _hysteresis(traces, log)
        with replacing(out, force=force) as temporary:
            figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=150 if style == "screen" else 300)
    say(f"wrote {out}")


def _check(kind: str, names: Sequence[str], out: Path, style: str, force: bool) -> None:
    """Raise before anything is read where the picture could not be written."""
    from ..plots.styles import STYLES

    if style not in STYLES:
        raise unknown_name("style", style, list(STYLES))
    if out.suffix.lower() not in PICTURES:
        raise ParameterError("unknown kind of picture", got=out.name, allowed=", ".join(PICTURES))
    check_target(out, force=force)
    if not kind and not Path(names[0]).exists() and Path(names[0]).suffix == "" and "*" not in names[0]:
        raise unknown_name("kind of figure, and no file,", names[0], list(KINDS))


def _read(names: tuple[str, ...], profile: str | None) -> list[Trace]:
    """Traces of files, folders and globs; a file that cannot be read is reported, and fatal if it is the only one."""
    from ..readers import find_files

    traces: list[Trace] = []
    files = find_files(names)
    for k, path in enumerate(files):
        try:
            traces += read_files((str(path),), profile=profile)
        except DevicelabError as problem:
            if not traces and k == len(files) - 1:
                raise
            say(f"left out: {path.name}: {problem.what}")
    return traces


def _cycles(traces: list[Trace], text: str) -> list[Trace]:
    """The traces whose cycle is in a list such as `1-10,20`; their places from 1 where they have no cycle."""
    ranges = [re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part) for part in text.split(",")]
    if not all(ranges):
        raise ParameterError("cycles are not understood", got=repr(text), allowed="numbers and ranges: 1-10,20")
    wanted = {k for part in ranges if part for k in range(int(part[1]), int(part[2] or part[1]) + 1)}
    known = [int(trace.meta.get("cycle", k + 1)) for k, trace in enumerate(traces)]
    kept = [trace for trace, cycle in zip(traces, known, strict=True) if cycle in wanted]
    if not kept:
        raise ParameterError("no such cycles", got=repr(text), allowed=f"{min(known)} to {max(known)}")
    return kept


def _hysteresis(traces: list[Trace], log: bool) -> Figure:
    import matplotlib.pyplot as plt

    from .. import plot

    scales = [True] if log else [False, True]
    figure, axes = plt.subplots(1, len(scales), figsize=(4.6 * len(scales), 3.8), layout="constrained", squeeze=False)
    for ax, logarithmic in zip(axes[0], scales, strict=True):
        plot.hysteresis(traces, ax, log=logarithmic)
    return figure


USUAL = {
    "cdf": ("v_set.threshold",),
    "box": ("v_set.max_slope", "v_set.threshold", "v_set.max_current", "v_set.charge_flux"),
    "endurance": ("r_on", "r_off"),
    "correlation": ("v_set.threshold", "v_reset.max_current", "r_on", "r_off", "area", "power_set", "energy_reset"),
    "wafer": ("r_on", "resistance"),
}


def _of_kind(kind: str, traces: list[Trace], numbers: tuple[str, ...], size: tuple[float, float]) -> Figure:
    import matplotlib.pyplot as plt

    from .. import plots
    from ..characterise import study

    tall = {"mechanisms": 1.35, "correlation": 1.15}.get(kind, 1.0)
    figure, ax = plt.subplots(figsize=(size[0], tall * size[1]), layout="constrained")
    if kind in ("loops", "band"):
        (plots.loops if kind == "loops" else plots.band)(traces, ax)
        return figure
    if kind == "mechanisms":
        from ..characterise import CAVEAT

        plots.mechanism(traces, ax)
        say(CAVEAT)
        return figure
    found = study(traces)
    chosen = numbers or tuple(name for name in USUAL[kind] if name in found.names())
    if kind == "correlation":
        plots.correlation({name: [cycle.value(name) for cycle in found.cycles] for name in chosen}, ax)
        return figure
    samples: dict[str, Any] = {name: found.values(name) for name in chosen}
    if not samples:
        raise ParameterError(f"no numbers for {kind}", got="none of the usual", allowed=", ".join(found.names()))
    unit = next(cycle[chosen[0]].unit for cycle in found.cycles if chosen[0] in cycle)
    shared = chosen[0] if len(chosen) == 1 else chosen[0].partition(".")[0]
    label = f"{shared} [{unit}]" if kind != "endurance" or unit != "ohm" else "resistance [ohm]"
    if kind == "endurance":
        rows = [cycle for cycle in found.cycles if not cycle.forming]
        plots.endurance({name: [_seen(cycle, name) for cycle in rows] for name in chosen}, ax, label=label)
    elif kind == "cdf":
        plots.cdf(samples, ax, label=label)
    else:
        plots.box(samples, ax, label=label)
    return figure


def _seen(cycle: Cycle, name: str) -> float:
    return float("nan") if name not in cycle or cycle[name].censored else cycle[name].value


def _of_series(
    kind: str, names: tuple[str, ...], profile: str | None, size: tuple[float, float], index: tuple[int, ...]
) -> Figure:
    """A figure of readings, a panel a measurement (two ramps of pulses share one), at most six of them."""
    import matplotlib.pyplot as plt

    from .. import plots
    from ..characterise import series_of
    from ..characterise.findings import findings
    from ..readers import find_files, read_tables

    options: Any = {} if profile is None else {"profile": profile}
    tables = [table for path in find_files(names) for table in read_tables(path, **options)]
    series = choose(series_of(tables, SERIES[kind]), index, of="measurement")
    together = {"pulses": 2, "states": PANELS}.get(kind, 1)
    (found,) = findings(series[: together * PANELS], settings=None)
    for name, reason in found.skipped:
        say(f"left out: {name}: {reason.splitlines()[0]}")
    groups = [found.items[k : k + together] for k in range(0, len(found.items), together)]
    if len(series) > together * PANELS:
        say(f"drawn: the first {together * PANELS} of {len(series)} measurements; --trace chooses others")
    columns = min(len(groups), 2)
    rows = -(-len(groups) // columns)
    tall = (size[0] if columns == 1 else 2 * size[0] / columns, rows * size[1] / (1 if columns == 1 else 1.4))
    figure, axes = plt.subplots(rows, columns, figsize=tall, layout="constrained", squeeze=False)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax, group in zip(axes.flat, groups, strict=False):
        drawn: Any = group if together > 1 else group[0]
        getattr(plots, kind)(drawn, ax)
        if len(groups) > 1:
            ax.set_title(group[0].series.name, fontsize="small")
    return figure


def _wafer(names: tuple[str, ...], profile: str | None, numbers: tuple[str, ...], size: tuple[float, float]) -> Figure:
    """A map of one number: of a column of tables with positions, or of cycles of devices with positions."""
    import matplotlib.pyplot as plt

    from .. import plots
    from ..characterise import study
    from ..readers import read_dataset

    options: Any = {} if profile is None else {"profile": profile}
    data = read_dataset(names, **options)
    for failure in data.failures:
        say(f"left out: {Path(failure.path).name}: {failure.reason.splitlines()[0]}")
    if not data.traces and not data.tables:
        raise FileFormatError("no file could be read", got=f"{len(data.failures)} failures", allowed="one that is read")
    if data.traces:
        places = plots.positions_of([trace.meta for trace in data.traces])
        named = [t.with_meta(device=f"({x:g}, {y:g})") for t, (x, y) in zip(data.traces, places, strict=True)]
        found = study(named)
        name = _one("wafer", numbers, found.names())
        rows = [cycle for cycle in found.cycles if not cycle.forming]
        places = plots.positions_of([cycle.meta for cycle in rows])
        values = [_seen(cycle, name) for cycle in rows]
        unit = next(cycle[name].unit for cycle in rows if name in cycle)
    else:
        table = data.tables[0]
        name = _one("wafer", numbers, [key for key in table if table.units[key] or key in numbers])
        unit, values = table.units[name], list(table[name])
        plain = [key for key in table if table[key].dtype.kind != "U"]
        places = plots.positions_of(
            [{**table.meta, **{key: table[key][k].item() for key in plain}} for k in range(len(table))]
        )
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    plots.wafer(places, values, ax, label=f"{name.replace('_', ' ')} [{unit}]")
    return figure


def _one(kind: str, numbers: tuple[str, ...], known: Sequence[str]) -> str:
    """The number to draw: the one asked for, a usual one, or the only one."""
    if len(numbers) > 1:
        raise ParameterError(f"{kind} draws one number", got=", ".join(numbers), allowed="--number once")
    if numbers and numbers[0] not in known:
        raise unknown_name("number", numbers[0], list(known))
    usual = [name for name in (*numbers, *USUAL[kind]) if name in known] or list(known)[:1]
    if not usual:
        raise ParameterError(f"no numbers for {kind}", got="none", allowed="cycles, or a column with a unit")
    return usual[0]
