"""`devicelab characterize`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FileFormatError
from ..files import write_text
from . import say, show_json

if TYPE_CHECKING:
    from ..characterise.findings import Settings
    from ..characterise.survey import Survey

KINDS = ("auto", "loops", "pulses", "endurance", "retention", "noise", "states")
MANY = 20


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--kind", type=click.Choice(KINDS), default="auto", show_default=True,
              help="What was measured; auto tells it file by file from the columns.")  # fmt: skip
@click.option("--v-read", "--read-voltage", "v_read", type=float,
              help="|Read voltage| of the resistances of loops [V]; a tenth of the peak by default.")  # fmt: skip
@click.option("--threshold", type=float, help="|Current| of the threshold method [A]; half of the largest by default.")
@click.option("--thickness", type=float, help="Film thickness [m], for the constants of conduction mechanisms.")
@click.option("--temperature", default=300.0, show_default=True, help="For the same, and for thermal noise [K].")
@click.option("--closed", default=2.0, show_default=True,
              help="Endurance: R_off/R_on of a closed window. Others: factor that is a failure.")  # fmt: skip
@click.option("--lifetime", default=10 * 365.25 * 86400.0, show_default="ten years",
              help="Retention: extrapolate to this time [s].")  # fmt: skip
@click.option("--service", default=358.15, show_default=True, help="Retention: Arrhenius line read at this [K].")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--duration", type=float, help="Duration of a sweep [s], for files without time.")
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder for tables (csv), summary.json, index.html, figures; resumable.")  # fmt: skip
@click.option("--csv", "as_csv", is_flag=True, help="Numbers as CSV on standard output.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON on standard output.")
def command(
    paths: tuple[str, ...],
    kind: str,
    v_read: float | None,
    threshold: float | None,
    thickness: float | None,
    temperature: float,
    closed: float,
    lifetime: float,
    service: float,
    profile: str | None,
    duration: float | None,
    out: Path | None,
    as_csv: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Numbers and statistics of measurements: loops, pulses, endurance, retention, read noise, states of cells.

    PATH is a file, folder, glob or HDF5 store; every file is told for what it is, unless --kind says.

    Example: devicelab characterize data/oxide_cycles.csv --out out/oxide

    Example: devicelab characterize reads.csv --kind retention --lifetime 3e8
    """
    from ..characterise.findings import Settings
    from ..characterise.summary import conduction_of, positive
    from ..characterise.survey import JOURNAL, survey

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    settings = Settings(lifetime=lifetime, closed=closed, temperature=temperature, service=service)
    positive(thickness=thickness, temperature=temperature)
    options = {key: value for key, value in (("profile", profile), ("duration", duration)) if value is not None}
    journal = _folder(out, JOURNAL, force=force)
    try:
        found = survey(paths, kind=None if kind == "auto" else kind, v_read=v_read, threshold=threshold,
                       settings=settings, journal=journal, watch=_watch, **options)  # fmt: skip
        _report(found)
        laws = conduction_of(found.cycling, thickness=thickness, temperature=temperature) if found.study else {}
        _show(found, laws, settings, out, as_csv=as_csv, as_json=as_json)
    except KeyboardInterrupt:
        if journal is not None:
            say(f"interrupted: the numbers so far are in {journal}; the same command goes on from there")
        raise
    except BaseException:
        _clear(journal)
        raise
    _clear(journal)


def _folder(out: Path | None, journal: str, *, force: bool) -> Path | None:
    """The journal in the folder for results, which is new, empty, or left by an interrupted run."""
    if out is None:
        return None
    if out.exists() and not out.is_dir():
        raise FileFormatError("not a folder", got=str(out), allowed="a folder that is new or empty")
    if out.exists() and any(out.iterdir()) and not force and not (out / journal).exists():
        raise FileFormatError("folder is not empty", got=str(out), hint="give another, or --force to replace files")
    out.mkdir(parents=True, exist_ok=True)
    return out / journal


def _clear(journal: Path | None) -> None:
    """Remove the journal, and the folder where nothing else is in it."""
    if journal is not None:
        journal.unlink(missing_ok=True)
        if not any(journal.parent.iterdir()):
            journal.parent.rmdir()


def _watch(files: Sequence[Path]) -> Iterator[Path]:
    """The files, with a bar on a terminal where they are many."""
    hidden = len(files) < MANY or not sys.stderr.isatty()
    with click.progressbar(files, label="characterising", file=sys.stderr, hidden=hidden, show_pos=True) as bar:
        yield from bar


def _report(found: Survey) -> None:
    """On standard error: what was left out and what was gone on with."""
    if found.resumed:
        say(f"went on with an interrupted run: {found.resumed} files were done")
    skipped = [*(found.study.skipped if found.study else ()), *found.left_out]
    skipped += [pair for one in found.found for pair in one.skipped]
    for name, reason in skipped:
        say(f"left out: {name}: {', '.join(' '.join(line.split()) for line in reason.splitlines()[:2])}")


def _show(found: Survey, laws: Any, settings: Settings, out: Path | None, *, as_csv: bool, as_json: bool) -> None:
    from ..characterise.page import write_page
    from ..characterise.summary import table, to_dict, whole_curves
    from ..characterise.tables import text, to_csv, to_plain

    curves = whole_curves(found.cycling) if found.study else {}
    result: dict[str, Any] = to_dict(found.study, laws, curves) if found.study else {}
    result |= {one.kind: to_plain(one) for one in found.found}
    result["left_out"] = [{"file": name, "reason": reason} for name, reason in found.left_out]
    numbers = to_csv(found.found) if found.found else ""
    if as_json:
        show_json(result)
    elif as_csv:
        click.echo((found.study.to_csv() if found.study else "") + numbers, nl=False)
    else:
        parts = [table(found.study, laws, curves)] if found.study else []
        click.echo("\n\n".join([*parts, *(text(one) for one in found.found)]))
    if out is not None:
        if found.study:
            write_text(out / "cycles.csv", found.study.to_csv(), force=True)
        if found.found:
            write_text(out / "numbers.csv", numbers, force=True)
        page = write_page(out, found, laws, curves, result, settings=settings, force=True)
        say(f"wrote {page}")
