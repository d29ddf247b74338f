"""`devicelab characterize`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import DevicelabError, FileFormatError
from ..files import write_text
from ..trace import Trace
from . import say, show_json


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--v-read", type=float, help="|Read voltage| of the resistances [V]; a tenth of the peak by default.")
@click.option("--threshold", type=float, help="|Current| of the threshold method [A]; half of the largest by default.")
@click.option("--thickness", type=float, help="Film thickness [m], for the constants of conduction mechanisms.")
@click.option("--temperature", default=300.0, show_default=True, help="For the same [K].")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--duration", type=float, help="Duration of a sweep [s], for files without time.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for cycles.csv, summary.json, index.html, figures."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON on standard output.")
def command(
    paths: tuple[str, ...],
    v_read: float | None,
    threshold: float | None,
    thickness: float | None,
    temperature: float,
    profile: str | None,
    duration: float | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Numbers and statistics of measured cycles: files, folders, globs, HDF5 stores.

    Example: devicelab characterize data/oxide_cycles.csv --out out/oxide
    """
    from ..characterise import study
    from ..characterise.summary import conduction_of, table, to_dict

    shown: list[Trace] = []
    if out is not None and out.exists() and any(out.iterdir()) and not force:
        raise FileFormatError("folder is not empty", got=str(out), hint="give another, or --force to replace files")
    options = {key: value for key, value in (("profile", profile), ("duration", duration)) if value is not None}
    found = study(_keeping(_stream(paths, options), shown), v_read=v_read, threshold=threshold)
    for name, reason in found.skipped:
        say(f"left out: {name}: {reason.splitlines()[0]}")
    laws = conduction_of(shown, thickness=thickness, temperature=temperature)
    result = to_dict(found, laws)
    if as_json:
        show_json(result)
    else:
        click.echo(table(found, laws))
    if out is not None:
        from ..characterise.page import write_page

        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "cycles.csv", found.to_csv(), force=force)
        page = write_page(out, found, shown, laws, result, force=force)
        say(f"wrote {page}")


SHOWN = 200


def _keeping(traces: Iterator[Trace], shown: list[Trace]) -> Iterator[Trace]:
    """The same traces; the first 200 stay for figures, so that memory does not grow with the number of files."""
    for trace in traces:
        if len(shown) < SHOWN:
            shown.append(trace)
        yield trace


def _stream(paths: tuple[str, ...], options: dict[str, Any]) -> Iterator[Trace]:
    """Traces one file at a time; a file that cannot be read is reported and left out, unless it is the only one."""
    from ..readers import find_files, open_store, read_traces

    files = find_files(paths)
    for path in files:
        try:
            with open_store(path) as store:
                yield from store
            continue
        except FileFormatError:
            pass  # not a store: an instrument file
        try:
            yield from read_traces(path, **options)
        except DevicelabError as problem:
            if len(files) == 1:
                raise
            say(f"left out: {path.name}: {problem.what}")
