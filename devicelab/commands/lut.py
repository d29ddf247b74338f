"""`devicelab lut`."""

from __future__ import annotations

from pathlib import Path

import click

from ..lut import Lut
from ..models.base import Model
from . import device_options, say, show_json


@click.group()
def command() -> None:
    """Make and inspect lookup tables.

    Example: devicelab lut make --set out/fit/device.toml --v-max 1 --out device.h5
    """


@command.command()
@device_options
@click.option("--v-max", default=1.0, show_default=True, help="The table covers -v_max to v_max [V].")
@click.option("--tolerance", default=1e-4, show_default=True, help="Largest relative interpolation error.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file, .h5.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def make(
    model: Model,
    set_name: str,
    v_max: float,
    tolerance: float,
    out: Path,
    force: bool,
) -> None:
    """Make the table of a device.

    Example: devicelab lut make --set vteam_pt_hf_ti --v-max 0.4 --out device.h5
    """
    from .. import __version__

    table = Lut.from_model(
        model,
        v_max,
        tolerance=tolerance,
        provenance={"devicelab": __version__, "parameter_set": set_name},
    )
    table.save(out, force=force)
    say(f"wrote {out}: {table.state.size} states x {table.voltage.size} voltages, error {table.error:.1e}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--v-read", default=0.2, show_default=True, help="Read voltage for the conductance range [V].")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(file: Path, v_read: float, as_json: bool) -> None:
    """Verify a table and say what is in it.

    Example: devicelab lut info device.h5
    """
    table = Lut.load(file)
    low, high = table.conductance_range(v_read)
    rows = {
        "states": table.state.size,
        "voltages": table.voltage.size,
        "voltage range [V]": [float(table.voltage[0]), float(table.voltage[-1])],
        "interpolation error": table.error,
        f"conductance at {v_read:g} V [S]": [low, high],
        "device": {key: value for key, value in table.device.items() if not key.endswith("_unit")},
        "provenance": dict(table.provenance),
    }
    if as_json:
        show_json(rows)
        return
    for name, value in rows.items():
        if isinstance(value, dict):
            click.echo(name)
            for key, entry in value.items():
                click.echo(
                    f"  {key:<12} {entry} {table.device.get(key + '_unit', '') if name == 'device' else ''}".rstrip()
                )
        else:
            text = " to ".join(f"{part:.4g}" for part in value) if isinstance(value, list) else value
            click.echo(f"{name:<26} {text}")
