"""`devicelab infer`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..errors import ParameterError
from . import say, show_json

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--lut", "file", type=_FILE, help="Lookup table of the device.")
@click.option("--config", "settings", type=_FILE, help="Experiment as a TOML file; the options below change it.")
@click.option("--network", metavar="NAME|FILE.pt2|MODULE:FUNCTION", help="A network of yours, or one of the zoo.")
@click.option("--weights", type=_FILE, help="State dict for the network; read as tensors only.")
@click.option("--data", metavar="NAME", help="Data set: digits, mnist-5k, eeg, mnist, fashion-mnist, cifar10.")
@click.option("--data-folder", type=_FILE, help="Folder of the data set's files.")
@click.option("--images", type=int, help="Test inputs; all by default.")
@click.option("--epochs", type=int, help="Train the network for so long first.")
@click.option("--draws", type=int, help="Draws of devices.")
@click.option("--workers", type=int, help="Processes for draws and cases, of one thread each; none by default.")
@click.option("--trust", is_flag=True, help="Run MODULE:FUNCTION, which is code.")
@click.option("--sensitivity", is_flag=True, help="Each non-ideality alone, and all but one.")
@click.option("--layers", is_flag=True, help="Error and signal-to-noise ratio of every layer.")
@click.option("--estimate", is_flag=True, help="First-order estimate of energy, latency and area.")
@click.option("--out", type=_FILE, help="Folder for a report with tables and figures.")
@click.option("--v-read", default=0.2, show_default=True, help="Voltage of the largest input [V].")
@click.option("--rows", default=64, show_default=True, help="Word lines of a tile.")
@click.option("--columns", default=64, show_default=True, help="Bit lines of a tile.")
@click.option(
    "--share-tiles",
    type=click.Choice(["groups", "layers"]),
    help="Blocks of a convolution's groups, or of all layers, on common tiles.",
)
@click.option("--line-resistance", "r_line", default=1.0, show_default=True, help="Ohm a segment, word and bit lines.")
@click.option("--hidden", default=64, show_default=True, help="Neurons of the hidden layer of the digits' network.")
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    r"""Put a network on arrays of a device, and say what each non-ideality costs.

    With --lut alone: a perceptron trained on real handwritten digits, in floating point, on ohmic cells, on the
    device's own non-linear cells, and with line resistance and sneak paths. With --config or --network: your network,
    data and arrays.

    \b
    Example:
      devicelab infer --lut device.h5 --line-resistance 2
      devicelab infer --config arrays.toml --sensitivity --out out/report
      devicelab infer --lut device.h5 --network lenet --data mnist-5k --epochs 5
      devicelab infer --lut device.h5 --network net.pt2 --data cifar10 --data-folder cifar-10-batches-py
    """
    if options["settings"] is None and options["network"] is None:
        own = [name for name in _OF_AN_EXPERIMENT if options[name]]
        if own:
            raise ParameterError("these options need a network", got=", ".join(own), hint="give --config or --network")
        _digits(as_json, **options)
        return
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    _experiment(as_json, given, options)


_OF_AN_EXPERIMENT = (
    "weights", "data", "data_folder", "images", "epochs", "draws", "workers", "trust", "sensitivity", "layers",
    "estimate", "out", "share_tiles",
)  # fmt: skip


def _digits(as_json: bool, **options: Any) -> None:
    import crossbar
    from crossbar.digits import costs, load_digits, train_mlp

    from ..lut import Lut

    if options["file"] is None:
        raise ParameterError("no device", hint="give --lut FILE, or --config FILE.toml")
    r_line, hidden = options["r_line"], options["hidden"]
    table = Lut.load(options["file"])
    wires = crossbar.Wires(r_wl=r_line, r_bl=r_line, r_source=r_line, r_sense=r_line)
    real = crossbar.Config(rows=options["rows"], columns=options["columns"], v_read=options["v_read"])
    digits = load_digits()
    say(f"training 64-{hidden}-10 on {len(digits.train_y)} digits")
    net = train_mlp(digits, hidden=hidden, seed=options["seed"])
    cases = costs(net, table, real, {f"{r_line:g} ohm": wires}, digits, say)
    if as_json:
        show_json([asdict(row) for row in cases])
        return
    click.echo(f"{'arrays':<28}{'accuracy':>10}{'output error':>14}{'seconds':>10}")
    for row in cases:
        shares = f"{100 * row.accuracy:>8.1f} %{100 * row.error:>12.2f} %"
        click.echo(f"{row.arrays:<28}{shares}{row.seconds:>10.1f}")


def _experiment(as_json: bool, given: set[str], options: dict[str, Any]) -> None:
    from crossbar.infer import infer
    from crossbar.study import table

    report = infer(
        options["settings"],
        changes=_changes(given, options),
        trust=options["trust"],
        sensitivity=options["sensitivity"],
        layers=options["layers"],
        estimate=options["estimate"],
        workers=options["workers"],
        out=options["out"],
        say=say,
    )
    if as_json:
        show_json(report.plain())
        return
    for title, rows in report.tables.items():
        click.echo(f"{title}\n{rows if isinstance(rows, str) else table(rows)}\n")
    if options["out"] is not None:
        say(f"open {options['out'] / 'index.html'}")


def _changes(given: set[str], options: dict[str, Any]) -> dict[str, Any]:
    """Dotted settings of an experiment from the options that were given."""
    names = {
        "data": "data.name", "data_folder": "data.folder", "images": "data.images", "weights": "network.weights",
        "epochs": "network.epochs", "draws": "sweep.draws", "file": "device.lut",
        "v_read": "config.v_read", "rows": "config.rows", "columns": "config.columns", "seed": "network.seed",
        "share_tiles": "config.share_tiles",
    }  # fmt: skip
    changes = {names[key]: options[key] for key in names if key in given}
    if "r_line" in given:
        changes |= {f"config.wires.{name}": options["r_line"] for name in ("r_wl", "r_bl", "r_source", "r_sense")}
    if options["network"] is not None:
        kind = "program" if options["network"].endswith(".pt2") else "factory" if ":" in options["network"] else "name"
        changes[f"network.{kind}"] = options["network"]
    return {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in changes.items()}
