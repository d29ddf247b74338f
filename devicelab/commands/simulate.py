"""`devicelab simulate`."""

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
@click.option("--out", type=click.Path(path_type=Path), help="Write the trace: .csv or .h5.")
@click.option("--plot", "figure", type=click.Path(path_type=Path), help="Write the loop as a picture.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
def command(
    model: Model,
    set_name: str,
    drive: Drive,
    circuit: dict[str, Any],
    out: Path | None,
    figure: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Simulate a device under a sine, a triangle or pulses.

    Example: devicelab simulate --set vteam_pt_hf_ti --drive sine --amplitude 1 --period 2 --plot loop.png
    """
    trace = simulate(model, drive, **circuit)
    if out is not None:
        from ..tracefile import write_traces

        write_traces(out, trace, force=force)
        say(f"wrote {out}")
    if figure is not None:
        from ..files import replacing
        from ..plot import hysteresis

        with replacing(figure, force=force) as temporary:
            hysteresis(trace).get_figure(root=True).savefig(  # type: ignore[union-attr]
                temporary, format=figure.suffix.lstrip(".") or "png", dpi=150
            )
        say(f"wrote {figure}")
    summary = {
        "model": model.name,
        "samples": len(trace),
        "largest current [A]": float(np.abs(trace.i).max()),
        "state first": float(trace.x[0]),
        "state last": float(trace.x[-1]),
        "state lowest": float(trace.x.min()),
        "state highest": float(trace.x.max()),
    }
    if trace.y is not None:
        summary |= {"second state first": float(trace.y[0]), "second state last": float(trace.y[-1])}
    if as_json:
        show_json(summary)
    else:
        click.echo("\n".join(f"{name:<20} {value}" for name, value in summary.items()))
