"""What `devicelab fit` does beyond one fit: comparison, cycles, a batch, profiles, bootstrap, advice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DevicelabError, ParameterError, TraceError
from ..models.base import Model, SeparableModel
from ..trace import Trace
from ..windows import window as make_window
from . import say
from .fit_out import Out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    import fits

WINDOWS: tuple[tuple[str, dict[str, float]], ...] = (
    ("none", {}),
    ("joglekar", {"p": 1}),
    ("biolek", {"p": 1}),
    ("biolek", {"p": 4}),
)
"""Windows that a comparison tries."""


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all modes; the command gets them as `mode` keywords."""
    for option in (
        click.option("--workers", type=int, help="Processes for many fits; all cores by default."),
        click.option("--retry", is_flag=True, help="With --each: try again what failed before."),
        click.option("--bootstrap", "draws", type=int, metavar="DRAWS", help="Intervals by resampling."),
        click.option("--advise", metavar="PARAMETER", help="Which further sweep would determine a parameter."),
        click.option("--profiles", is_flag=True, help="Intervals by profile likelihood; bounds where open."),
        click.option("--cycles", "each_cycle", is_flag=True, help="Fit every cycle; give their spread."),
        click.option("--each", is_flag=True, help="Fit every trace alone; FILES may be folders; resumable in --out."),
        click.option(
            "--shortlist",
            type=click.IntRange(1),
            metavar="N",
            help="With --compare or --model all: halve the field until N are left (6 with --model all).",
        ),
        click.option("--compare", is_flag=True, help="Try resistance laws and windows; hold traces out."),
    ):
        function = option(function)
    return function


def exclusive(**flags: bool) -> None:
    """At most one of the modes that say what is fitted."""
    given = [f"--{name}" for name, flag in flags.items() if flag]
    if len(given) > 1:
        raise ParameterError("these cannot go together", got=" ".join(given), allowed="one of them")


def variants(templates: Sequence[Model], laws: Sequence[str]) -> dict[str, Model]:
    """Templates with every law and window that the comparison tries; models solved in steps keep their own window."""
    from fits.compare import label

    out: dict[str, Model] = {}
    for template in templates:
        for law in laws if hasattr(template, "resistance") else (None,):
            changed = template if law is None else template.replace(resistance=law)
            windows = [make_window(name, **values) for name, values in WINDOWS]
            for window in windows if isinstance(template, SeparableModel) else [template.window]:
                model = changed.replace(window=window)
                out[label(model)] = model
    return out


def compare(models: dict[str, Model], traces: list[Trace], out: Out | None, **rest: Any) -> fits.FitResult:
    """Compare, print the table, draw it; the best fit."""
    import fits

    with unfinished(out) as folder:
        found = fits.compare(models, traces, folder=folder, progress=say, **rest)
    click.echo(found.report() + "\n")
    if out is not None:
        out.text("comparison.txt", found.report() + "\n")
        _picture(out, "comparison.png", found.plot)
    return found.best


@contextmanager
def unfinished(out: Out | None) -> Iterator[Path | None]:
    """The folder in `out` that keeps finished fits until all are done; says after Ctrl-C how to go on.

    Raises:
        click.Abort: After Ctrl-C.
    """
    folder = None if out is None else out.parts
    try:
        yield folder
    except KeyboardInterrupt:
        if folder is None:
            say("\nstopped; with --out FOLDER the same command would go on from here")
        else:
            say(f"\nstopped: finished fits are kept in {folder}; the same command goes on from there")
        raise click.Abort from None


def cycles(template: Model, traces: list[Trace], out: Out | None, **rest: Any) -> None:
    """Fit every cycle; print spread, memory and how simulated cycles agree with measured ones."""
    import fits
    from devicelab.characterise.sweeps import split_cycles
    from fits.cycles import agreement_report, plot_agreement

    traces = [cycle for trace in traces for cycle in split_cycles(trace)]

    with unfinished(out) as folder:
        found = fits.cycles(template, traces, folder=folder, progress=say, **rest)
    again = fits.agreement(found, traces)
    text = "\n".join([found.report(), "", "simulated cycles against measured ones:", agreement_report(again)])
    click.echo(text)
    if out is not None:
        out.text("cycles.txt", text + "\n")
        _picture(out, "cycles.png", found.plot)
        _picture(out, "agreement.png", lambda: plot_agreement(again))


def each(
    template: Model, paths: Sequence[str], out: Path | None, read: Callable[[Path], list[Trace]], **rest: Any
) -> None:
    """Fit every trace of every file alone, into the folder `out`."""
    import fits

    if out is None:
        raise ParameterError("--each needs a folder for its results", got="no --out", hint="--out FOLDER")
    jobs, unread = _jobs(paths, read)
    if not jobs:
        raise TraceError("no trace could be read", got="; ".join(unread) or "no file")
    with click.progressbar(length=len(jobs), label="fits", file=sys.stderr) as bar:
        before = 0

        def tick(done: int, total: int, line: str) -> None:
            nonlocal before
            bar.update(done - before)
            before = done
            if line:
                say(f"\n  {line}")

        try:
            found = fits.batch(template, jobs, out, progress=tick, **rest)
        except KeyboardInterrupt:
            say(f"\nstopped: what was fitted is in {out}; the same command goes on from there")
            raise click.Abort from None
    click.echo(found.report())
    for line in unread:
        click.echo(f"not read: {line}")
    say(f"wrote {out}/results.csv, {out}/results.h5, {out}/fits/")


def _jobs(paths: Sequence[str], read: Callable[[Path], list[Trace]]) -> tuple[dict[str, Trace], list[str]]:
    """Traces by name, and files that could not be read with the reason."""
    jobs: dict[str, Trace] = {}
    unread = []
    for given in map(Path, paths):
        inside = sorted(path for path in given.rglob("*") if path.is_file()) if given.is_dir() else [given]
        for path in inside:
            if given.is_dir() and path.name.startswith("."):
                continue
            try:
                found = read(path)
            except DevicelabError as error:
                if not given.is_dir():
                    raise
                unread.append(f"{path}: {str(error).splitlines()[0]}")
                continue
            stem = str(path.relative_to(given.parent)) if given.is_dir() else path.name
            for k, trace in enumerate(found):
                jobs[stem if len(found) == 1 else f"{stem}#{k}"] = trace
    return jobs, unread


def after(
    result: fits.FitResult, out: Out | None, profiles: bool, advise: str | None, draws: int | None, workers: int | None
) -> None:
    """What is asked for about a finished fit."""
    import fits

    found: dict[str, fits.Profile] = {}
    if profiles:
        click.echo("\nprofile likelihood, 95 %:")
        found = fits.profile(result)
        for entry in found.values():
            click.echo(entry.line())
        if out is not None:
            _picture(out, "profiles.png", lambda: fits.plot_profiles(found))
    if draws is not None:
        with unfinished(out) as folder:
            drawn = fits.bootstrap(result, draws=draws, workers=workers, folder=folder, progress=say)
        click.echo("\n" + drawn.report())
    if advise is not None:
        click.echo(f"\nadvice on {advise}:\n" + fits.advise(result, advise, found=found, progress=say).report())


def _picture(out: Out, name: str, draw: Callable[[], Figure]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    with out.replacing(name) as temporary:
        draw().savefig(temporary, format="png", dpi=130, bbox_inches="tight")
