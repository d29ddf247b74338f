"""Verilog-A: a module that reads a `$table_model` data file, and the data file.

The data file has the format of the Verilog-AMS LRM 2.4, section 9.21: one sample a line, the independent variables from
the outermost to the innermost (state, voltage) and the current last; lines that begin with # are comments. The control
string ``1E,3E`` asks for linear interpolation in state and a cubic spline in voltage, and for an error outside.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import LutError
from ..files import write_text
from .columns import grid
from .table import Lut

CONTROL = "1E,3E"


def write(lut: Lut, path: str | Path, *, force: bool = False) -> None:
    """Write PATH (``.va``) and, beside it, the samples as ``.tbl``.

    Raises:
        LutError: If the file's name is no name of a module.
        FileFormatError: If a file exists and `force` is not set.
    """
    path = Path(path)
    name = path.stem
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise LutError("not a name for a module", got=name, allowed="letters, digits, underscores")
    data = path.with_suffix(".tbl")
    write_text(data, samples(lut), force=force)
    write_text(path, module(lut, name, data.name), force=force)


def samples(lut: Lut) -> str:
    """The data file: state, voltage [V], current [A] a line, voltage fastest."""
    lines = ["# state  voltage [V]  current [A]"]
    for x, row in zip(lut.state.tolist(), lut.table.tolist(), strict=True):
        lines += [f"{x!r} {v!r} {i!r}" for v, i in zip(lut.voltage.tolist(), row, strict=True)]
    return "\n".join([*lines, ""])


def module(lut: Lut, name: str, data: str) -> str:
    """The module: terminals plus and minus, parameter x0 (state, 1 = low resistance)."""
    low, high = lut.state[[0, -1]].tolist()
    return f"""// lookup table of a {lut.device.get("model", "device")}, {lut.voltage[0]:g} V to {lut.voltage[-1]:g} V
`include "disciplines.vams"

module {name}(plus, minus);
  inout plus, minus;
  electrical plus, minus;
  parameter real x0 = {high!r} from [{low!r}:{high!r}];
  analog I(plus, minus) <+ $table_model(x0, V(plus, minus), "{data}", "{CONTROL}");
endmodule
"""


def read(path: str | Path) -> Lut:
    """The table in a data file (``.tbl``), or in the one beside a ``.va``.

    Raises:
        LutError: If it is not a full grid of three columns.
    """
    path = Path(path).with_suffix(".tbl")
    if not path.is_file():
        raise LutError("no such data file", got=str(path))
    try:
        x, v, i = np.loadtxt(path, comments="#", ndmin=2).T
    except ValueError as error:
        raise LutError("not a table of three columns", got=str(path), hint=str(error)) from error
    voltage, state, table = grid(x, v, i)
    return Lut(voltage, state, table, {"model": "verilog-a table"}, {"source": path.name})
