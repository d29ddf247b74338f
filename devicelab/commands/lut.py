"""`devicelab lut`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..lut import Lut
from ..models.base import Model
from . import device_options, say, show_json

READ = "Read voltage for the conductance range [V]; the table's own by default, else 0.2."


@click.group()
def command() -> None:
    """Make and inspect lookup tables.

    Example: devicelab lut make --set out/fit/device.toml --v-max 1 --out device.h5
    """


@command.command()
@device_options
@click.option("--v-max", default=1.0, show_default=True, help="The table covers -v_max to v_max [V].")
@click.option("--tolerance", default=1e-4, show_default=True, help="Largest relative interpolation error.")
@click.option("--v-read", type=float, help="Keep the map from conductance to state at this voltage [V].")
@click.option("--rate", is_flag=True, help="Add the table of dx/dt over voltage and state.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file, .h5.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def make(
    model: Model,
    set_name: str,
    v_max: float,
    tolerance: float,
    v_read: float | None,
    rate: bool,
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
        v_read=v_read,
        rate=rate,
    )
    table.save(out, force=force)
    say(f"wrote {out}: {table.state.size} states x {table.voltage.size} voltages, error {table.error:.1e}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--v-read", type=float, help=READ)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(file: Path, v_read: float | None, as_json: bool) -> None:
    """Verify a table and say what is in it.

    Example: devicelab lut info device.h5
    """
    table = Lut.load(file)
    rows = _rows(table, v_read if v_read is not None else table.v_read or 0.2)
    if as_json:
        show_json(rows)
        return
    for name, value in rows.items():
        if isinstance(value, dict):
            click.echo(name)
            for key, entry in value.items():
                unit = table.device.get(key + "_unit", "") if name == "device" else ""
                click.echo(f"  {key:<12} {entry} {unit}".rstrip())
        else:
            text = " to ".join(f"{part:.4g}" for part in value) if isinstance(value, list) else value
            click.echo(f"{name:<26} {text}")


def _rows(table: Lut, v_read: float) -> dict[str, Any]:
    low, high = table.conductance_range(v_read)
    rows: dict[str, Any] = {
        "states": table.state.size,
        "voltages": table.voltage.size,
        "voltage range [V]": [float(table.voltage[0]), float(table.voltage[-1])],
        "interpolation error": table.error,
        f"conductance at {v_read:g} V [S]": [low, high],
        "rank at 1e-4": table.low_rank(1e-4).rank,
    }
    if table.levels is not None:
        rows["levels"] = table.levels.conductance.size
        for name in ("d2d", "c2c", "read_noise"):
            deviation = getattr(table.levels, name)
            if deviation is not None:
                rows[f"{name} of the levels"] = [float(deviation.min()), float(deviation.max())]
    if table.curves is not None:
        rows["sampled curves"] = len(table.curves.current)
    if table.rate is not None:
        rows["rates"] = f"{table.rate.state.size} states x {table.rate.voltage.size} voltages"
    rows["device"] = {key: value for key, value in table.device.items() if not key.endswith("_unit")}
    rows["provenance"] = dict(table.provenance)
    return rows


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check files against LUT format 1 (docs/lut.md); exit status 1 if one of them is not sound.

    Example: devicelab lut check device.h5
    """
    from ..lut import check as check_file

    wrong = 0
    for file in files:
        found = check_file(file)
        click.echo(f"{file}: {'sound, LUT format 1' if not found else f'{len(found)} problem(s)'}")
        for line in found:
            click.echo(f"  {line}")
        wrong += bool(found)
    if wrong:
        raise SystemExit(1)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Picture: .png, .pdf or .svg.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def plot(file: Path, out: Path, force: bool) -> None:
    """Draw a table: conductance over voltage and state.

    Example: devicelab lut plot device.h5 --out device.png
    """
    table = Lut.load(file)
    import matplotlib as mpl

    mpl.use("Agg")
    from .. import plot as figures
    from ..files import replacing

    figure = figures.lut(table).figure
    with replacing(out, force=force) as temporary:
        figure.savefig(temporary, format=out.suffix.lstrip(".") or "png", dpi=150)  # type: ignore[union-attr]
    say(f"wrote {out}")


@command.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Say how two tables differ; exit status 1 if they do.

    Example: devicelab lut diff old.h5 new.h5
    """
    from ..lut.compare import diff as compare

    found = compare(Lut.load(a), Lut.load(b))
    if as_json:
        show_json(found)
    elif found["same"]:
        click.echo("the tables are equal")
    else:
        off = found["current"]
        click.echo(f"current      {'nothing in common' if off is None else f'{off:.3g} of the largest of each state'}")
        click.echo(f"grid         {found['grid']['a']} and {found['grid']['b']}")
        for name in ("device", "provenance"):
            for key, (ours, theirs) in found[name].items():
                click.echo(f"{name:<12} {key}: {ours} and {theirs}")
        if found["content"]:
            click.echo(f"content      {', '.join(found['content'])}")
    if not found["same"]:
        raise SystemExit(1)


FORMATS = ("h5", "csv", "verilog-a", "neurosim", "aihwkit", "crosssim", "memtorch", "xbtorch", "subckt", "table2d")
PULSED = ("aihwkit", "xbtorch")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "target", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option("--v-read", type=float, help="Read voltage [V], where the table states none.")
@click.option("--pulse", type=float, nargs=2, help="aihwkit, xbtorch: voltages of the SET and the RESET pulse [V].")
@click.option("--width", type=float, help="aihwkit, xbtorch: width of the pulses [s].")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def convert(
    file: Path,
    out: Path,
    target: str,
    v_read: float | None,
    pulse: tuple[float, float] | None,
    width: float | None,
    force: bool,
) -> None:
    """Write a table for another tool, or a .csv, .tbl or .va as a table again.

    Example: devicelab lut convert device.h5 device.va --to verilog-a
    """
    from ..lut.convert import convert as write
    from ..lut.convert import open_table

    table = open_table(file, v_read)
    options: dict[str, Any] = {}
    if target in PULSED and (pulse is not None or width is not None):
        if pulse is None or width is None:
            raise click.UsageError("--pulse and --width go together")
        options = {"v_pulse": tuple(pulse), "width": width}
    elif target == "xbtorch":
        raise click.UsageError("xbtorch needs --pulse and --width")
    if target in ("subckt", "table2d"):
        _ngspice(table, out, target, force)
    else:
        write(table, out, target, force=force, **options)
    say(f"wrote {out} ({target})")


def _ngspice(table: Lut, out: Path, target: str, force: bool) -> None:
    from netlists import lut as spice

    from ..files import write_text

    if target == "subckt":
        write_text(out, spice.subckt(table), force=force)
    else:
        write_text(out, spice.table2d(table, out.with_suffix(".table"), force=force), force=force)
