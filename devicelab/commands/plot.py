"""`devicelab plot`."""

from __future__ import annotations

from pathlib import Path

import click

from ..files import replacing
from . import choose, read_files, say


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Picture: .png, .pdf or .svg.")
@click.option("--log", is_flag=True, help="Logarithmic |current| only; both scales by default.")
@click.option("--trace", "index", multiple=True, type=int, help="Only this trace of the file (from 0); repeat.")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def command(
    files: tuple[str, ...], out: Path, log: bool, index: tuple[int, ...], profile: str | None, force: bool
) -> None:
    """Plot hysteresis loops from instrument files.

    Example: devicelab plot data/oxide_cycles.csv --out loop.png
    """
    traces = choose(read_files(files, profile=profile), index)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from .. import plot

    scales = [True] if log else [False, True]
    figure, axes = plt.subplots(1, len(scales), figsize=(4.6 * len(scales), 3.8), layout="constrained", squeeze=False)
    for ax, logarithmic in zip(axes[0], scales, strict=True):
        plot.hysteresis(traces, ax, log=logarithmic)
    with replacing(out, force=force) as temporary:
        figure.savefig(temporary, format=out.suffix.lstrip(".") or "png", dpi=150)
    say(f"wrote {out}")
