"""`devicelab plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ParameterError
from ..files import replacing
from ..trace import Trace
from . import choose, read_files, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..characterise import Cycle

KINDS = ("loops", "band", "cdf", "box", "endurance", "correlation", "mechanisms")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="[KIND] FILES...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Picture: .png, .pdf or .svg.")
@click.option("--log", is_flag=True, help="Without KIND: logarithmic |current| only; both scales by default.")
@click.option("--trace", "index", multiple=True, type=int, help="Only this trace of the file (from 0); repeat.")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--number", "numbers", multiple=True, help="For cdf, box, endurance: v_set.threshold, r_on, ...; repeat.")
@click.option("--style", default="screen", show_default=True, help="screen, one or two: columns of a journal.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def command(
    files: tuple[str, ...],
    out: Path,
    log: bool,
    index: tuple[int, ...],
    profile: str | None,
    numbers: tuple[str, ...],
    style: str,
    force: bool,
) -> None:
    """Plot instrument files: hysteresis loops, or with a KIND one of the figures of a paper.

    KIND is loops (coloured by cycle), band (median and quantiles over cycles), cdf, box, endurance, correlation or
    mechanisms.

    Example: devicelab plot data/oxide_cycles.csv --out loop.png

    Example: devicelab plot loops data/oxide_cycles.csv --out loops.pdf --style one
    """
    kind = files[0] if files[0] in KINDS and not Path(files[0]).is_file() else ""
    names = files[1:] if kind else files
    if not names:
        raise ParameterError("no files to plot", got=kind, hint=f"devicelab plot {kind} FILES --out {out}")
    import matplotlib as mpl

    mpl.use("Agg")
    from .. import plots

    traces = choose(_read(names, profile) if kind else read_files(names, profile=profile), index)
    with plots.style(style) as size:
        figure = _of_kind(kind, traces, numbers, size) if kind else _hysteresis(traces, log)
        with replacing(out, force=force) as temporary:
            figure.savefig(temporary, format=out.suffix.lstrip(".") or "png", dpi=150 if style == "screen" else 300)
    say(f"wrote {out}")


def _read(names: tuple[str, ...], profile: str | None) -> list[Trace]:
    """Traces of files, folders and globs."""
    from ..readers import find_files

    return read_files(tuple(str(path) for path in find_files(names)), profile=profile)


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
}


def _of_kind(kind: str, traces: list[Trace], numbers: tuple[str, ...], size: tuple[float, float]) -> Figure:
    import matplotlib.pyplot as plt

    from .. import plots
    from ..characterise import study

    figure, ax = plt.subplots(figsize=size, layout="constrained")
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
