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
@click.option(
    "--crossbar", "size", type=click.IntRange(1, 128), help="Compare an array of SIZE x SIZE devices instead."
)
@click.option("--line-resistance", default=1.0, show_default=True, help="Of the array's lines [ohm a segment].")
@click.option("--v-read", default=0.2, show_default=True, help="Largest word-line voltage of the array [V].")
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
    size: int | None,
    line_resistance: float,
    v_read: float,
    as_json: bool,
) -> None:
    """Emit a device as an ngspice sub-circuit, run it, and compare with Python at ngspice's own time points.

    Example: devicelab spice --set vteam_memtorch --drive sine --amplitude 1 --period 20e-9 --out device.subckt
    """
    import netlists

    if conformance:
        _conformance(as_json)
        return
    if size is not None:
        _show(_array(model, size, line_resistance, v_read), as_json)
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
    mine = simulate(model, Drive(spice.t, spice.v), x0=circuit["x0"], y0=circuit["y0"])
    result = {
        "ngspice": netlists.ngspice_version(),
        "time points": len(spice),
        "largest difference in state": float(np.abs(spice.x - mine.x).max()),
        **({} if mine.y is None else {"largest difference in second state": float(np.abs(spice.y - mine.y).max())}),
        "largest difference in current, of full scale": float(np.abs(spice.i - mine.i).max() / np.abs(mine.i).max()),
    }
    _show(result, as_json)


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        click.echo("\n".join(f"{name:<46} {value:.3g}" for name, value in result.items()))


def _array(model: Model, size: int, line_resistance: float, v_read: float) -> dict[str, Any]:
    """An array of the device at random states under random inputs, by the array engine and by ngspice's `.op`."""
    import time

    import torch

    import crossbar
    import netlists

    generator = torch.Generator().manual_seed(0)
    states = torch.rand(size, size, generator=generator, dtype=torch.float64)
    v_in = v_read * torch.rand(size, generator=generator, dtype=torch.float64)
    r = line_resistance
    cells, wires = crossbar.ModelCells(model, states), crossbar.Wires(r_wl=r, r_bl=r, r_source=r, r_sense=r)
    start = time.perf_counter()
    mine = crossbar.solve(cells, v_in, wires, rtol=1e-10)
    between = time.perf_counter()
    vectors = netlists.run(netlists.crossbar(cells, v_in, wires))
    after = time.perf_counter()
    theirs = torch.tensor([float(vectors[f"i(vo{j})"][0]) for j in range(size)], dtype=torch.float64)
    return {
        "ngspice": netlists.ngspice_version(),
        "cells": size * size,
        "largest difference in output current, relative": float((mine.i_out - theirs).abs().max() / theirs.abs().max()),
        "residual of the engine": mine.residual,
        "seconds, engine": between - start,
        "seconds, ngspice": after - between,
    }


def _conformance(as_json: bool) -> None:
    import netlists

    rows: Any = netlists.conformance()
    if as_json:
        show_json([row.__dict__ for row in rows])
        return
    from netlists.conformance import table

    click.echo(table(rows))
