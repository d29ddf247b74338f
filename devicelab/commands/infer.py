"""`devicelab infer`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from . import say, show_json


@click.command()
@click.option("--lut", "file", required=True, type=click.Path(path_type=Path), help="Lookup table of the device.")
@click.option("--v-read", default=0.2, show_default=True, help="Voltage of the largest input [V].")
@click.option("--rows", default=64, show_default=True, help="Word lines of a tile.")
@click.option("--columns", default=64, show_default=True, help="Bit lines of a tile.")
@click.option("--line-resistance", "r_line", default=1.0, show_default=True, help="Ohm a segment, word and bit lines.")
@click.option("--hidden", default=64, show_default=True, help="Neurons of the hidden layer.")
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON.")
def command(
    file: Path,
    v_read: float,
    rows: int,
    columns: int,
    r_line: float,
    hidden: int,
    seed: int,
    as_json: bool,
) -> None:
    """Put a digit-recognising network on arrays of a device, and say what each non-ideality costs.

    A perceptron is trained on real handwritten digits, then run in floating point, on ohmic cells, on the device's own
    non-linear cells, and with line resistance and sneak paths.

    Example: devicelab infer --lut device.h5 --line-resistance 2
    """
    import crossbar
    from crossbar.digits import costs, load_digits, train_mlp

    from ..lut import Lut

    table = Lut.load(file)
    wires = crossbar.Wires(r_wl=r_line, r_bl=r_line, r_source=r_line, r_sense=r_line)
    real = crossbar.Config(rows=rows, columns=columns, v_read=v_read)
    digits = load_digits()
    say(f"training 64-{hidden}-10 on {len(digits.train_y)} digits")
    net = train_mlp(digits, hidden=hidden, seed=seed)
    cases = costs(net, table, real, {f"{r_line:g} ohm": wires}, digits, say)
    if as_json:
        show_json([asdict(row) for row in cases])
        return
    click.echo(f"{'arrays':<28}{'accuracy':>10}{'output error':>14}{'seconds':>10}")
    for row in cases:
        shares = f"{100 * row.accuracy:>8.1f} %{100 * row.error:>12.2f} %"
        click.echo(f"{row.arrays:<28}{shares}{row.seconds:>10.1f}")
