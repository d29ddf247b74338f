"""`devicelab sweep`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import say, show_json


@click.command()
@click.argument("file", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for results.")
@click.option("--workers", type=int, help="Processes, of one thread each; all cores by default.")
@click.option("--trust", is_flag=True, help="Run the network factory (module:function) that the file names.")
@click.option("--check", "only_check", is_flag=True, help="Check the file and say how much there is to run.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON.")
def command(file: Path, out: Path, workers: int | None, trust: bool, only_check: bool, as_json: bool) -> None:
    """Run an experiment over a grid of settings, with several draws of devices at each point.

    Each finished draw is stored at once: stop it when you like, and the same command goes on where it was. Results do
    not depend on the number of processes. The folder
    gets results.csv, results.json, accuracy.png and index.html.

    Example: devicelab sweep stuck.toml --out out/stuck
    """
    from crossbar.study import table
    from crossbar.sweep import check, run_sweep

    count = check(file)
    if only_check:
        click.echo(f"{file}: {count} draws to run")
        return
    with click.progressbar(range(count), label="draws", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.pos)

        result = run_sweep(file, out, trust=trust, workers=workers, say=say, progress=progress)
    if result.reused:
        say(f"{result.reused} of {count} draws were stored already")
    if as_json:
        show_json(result.rows())
        return
    click.echo(table(result.rows()))
    say(f"open {out / 'index.html'}")
