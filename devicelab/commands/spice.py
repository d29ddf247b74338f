"""`devicelab spice`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from ..drive import Drive
from ..models.base import Model
from ..simulation import simulate
from . import device_options, drive_options, say, show_json


@click.command()
@device_options
@drive_options
@click.option("--out", type=click.Path(path_type=Path), help="Write the sub-circuit to this file.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("--no-run", is_flag=True, help="Only emit the sub-circuit.")
@click.option("--conformance", is_flag=True, help="Compare every model, window and drive, and print the table.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON.")
def command(
    model: Model,
    set_name: str,
    drive: Drive,
    circuit: dict[str, Any],
    out: Path | None,
    force: bool,
    no_run: bool,
    conformance: bool,
    as_json: bool,
) -> None:
    """Emit a device as an ngspice sub-circuit, run it, and compare with Python at ngspice's own time points.

    Example: devicelab spice --set vteam_memtorch --drive sine --amplitude 1 --period 20e-9 --out device.subckt
    """
    import netlists

    if conformance:
        _conformance(as_json)
        return
    text = netlists.subckt(model)
    if out is not None:
        from ..files import write_text

        write_text(out, text, force=force)
        say(f"wrote {out}")
    elif no_run:
        click.echo(text)
    if no_run:
        return
    spice = netlists.simulate(model, drive, **circuit)
    # the voltage across the device is given, so the comparison is of the device alone
    mine = simulate(model, Drive(spice.t, spice.v), x0=circuit["x0"])
    result = {
        "ngspice": netlists.ngspice_version(),
        "time points": len(spice),
        "largest difference in state": float(np.abs(spice.x - mine.x).max()),
        "largest difference in current, of full scale": float(np.abs(spice.i - mine.i).max() / np.abs(mine.i).max()),
    }
    if as_json:
        show_json(result)
    else:
        click.echo("\n".join(f"{name:<46} {value:.3g}" for name, value in result.items()))


def _conformance(as_json: bool) -> None:
    import netlists

    rows: Any = netlists.conformance()
    if as_json:
        show_json([row.__dict__ for row in rows])
        return
    from netlists.conformance import table

    click.echo(table(rows))
