"""`devicelab demo`."""

from __future__ import annotations

from pathlib import Path

import click

from . import choose, read_files, say, show_json


@click.command()
@click.option(
    "--trace", "files", multiple=True, type=click.Path(), help="Your own measurement; repeat for several files."
)
@click.option("--index", multiple=True, type=int, help="Use only this trace of the file (from 0); repeat.")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--duration", type=float, help="Duration of a sweep [s], for files without time.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True, help="Folder.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON on standard output.")
def command(
    files: tuple[str, ...],
    index: tuple[int, ...],
    profile: str | None,
    duration: float | None,
    out: Path,
    as_json: bool,
) -> None:
    """The whole story: trace, fit, ngspice, lookup table, array, network; figures and one HTML page.

    Example: devicelab demo --trace my_measurement.xlsx --out out/mine
    """
    from ..demo import MOST, demo, sample_traces

    traces = choose(read_files(files, profile=profile, duration=duration), index) if files else sample_traces()
    if len(traces) > MOST:
        say(f"taking the first {MOST} of {len(traces)} traces; --index chooses others")
        traces = traces[:MOST]
    summary = demo(out, traces, say=say)
    if as_json:
        show_json(summary)
    else:
        click.echo(out / "index.html")
