"""A lookup table in ngspice: an XSPICE `table2d` element, and a smooth sub-circuit.

The sub-circuit is the table's own interpolation, cubic in voltage and linear in state, as a sum over its low-rank
factors; beyond the last voltage it continues linearly, so that Newton's iterates find the way back. `table2d` is
linear in both, whatever the table, and needs ngspice with XSPICE and a data file beside the netlist.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devicelab.errors import LutError, ParameterError
from devicelab.files import write_text
from devicelab.lut import Lut

from .crossbar import _cubics

Array = NDArray[np.float64]


def subckt(lut: Lut, name: str = "lut", *, tolerance: float = 1e-9) -> str:
    """The smooth sub-circuit: terminals plus and minus, parameter x0 (state, 1 = low resistance).

    Args:
        lut: The table.
        name: Name of the sub-circuit, and prefix of its functions.
        tolerance: Largest error of the low-rank sum at the nodes, relative to the largest current of a state.

    Raises:
        ParameterError: If the name is not a SPICE name.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ParameterError("not a name for a sub-circuit", got=repr(name), allowed="letters, digits, underscores")
    scale = np.abs(lut.table).max(axis=1, keepdims=True)
    step = np.gradient(lut.voltage)  # turns slopes into currents of the same size
    u, s, vt = np.linalg.svd(np.hstack([lut.table, lut.slope * step]) / scale, full_matrices=False)
    rank = max(1, int(np.sum(np.cumsum(s[::-1])[::-1] > tolerance)))
    amplitude = scale * u[:, :rank] * s[:rank]
    value, slope = np.split(vt[:rank], 2, axis=1)
    value[:, lut.voltage == 0] = 0.0
    slope = slope / step
    low, high = lut.voltage[[0, -1]].tolist()
    lines = [f"* lookup table of a {lut.device.get('model', 'device')}; x0 = 1 is the low resistance"]
    terms = []
    for r in range(rank):
        inner = _cubics(lut.voltage, _pieces(lut.voltage, value[r], slope[r]))
        lines.append(f".func {name}_c{r}(v) {{{inner}}}")
        beyond = f"({float(slope[r, 0])!r})*min(v-({low!r}),0)+({float(slope[r, -1])!r})*max(v-({high!r}),0)"
        lines.append(f".func {name}_f{r}(v) {{{name}_c{r}(min(max(v,({low!r})),({high!r})))+{beyond}}}")
        pairs = ",".join(f"{x!r},{a!r}" for x, a in zip(lut.state.tolist(), amplitude[:, r].tolist(), strict=True))
        terms.append(f"pwl(V(state),{pairs})*{name}_f{r}(V(plus,minus))")
    lines += [
        f".subckt {name} plus minus params: x0={float(lut.state[-1])!r}",
        "Vx state 0 {x0}",
        f"Bi plus minus I={'+'.join(terms)}",
        f".ends {name}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _pieces(voltage: Array, value: Array, slope: Array) -> Array:
    """Coefficients of the cubic on every interval, in the share of the interval, [4, k - 1]."""
    h, y0, y1 = np.diff(voltage), value[:-1], value[1:]
    s0, s1 = h * slope[:-1], h * slope[1:]
    return np.stack([y0, s0, 3 * (y1 - y0) - 2 * s0 - s1, 2 * (y0 - y1) + s0 + s1])


def table2d(lut: Lut, path: str | Path, name: str = "lut", *, force: bool = False) -> str:
    """A sub-circuit around XSPICE's `table2d`; terminals plus, minus, parameter x0. Writes the data file PATH.

    Args:
        lut: The table.
        path: Data file, named in the sub-circuit as given.
        name: Name of the sub-circuit.
        force: Whether a data file that exists is replaced.

    Raises:
        LutError: If the path has a quote or a space, which ngspice cannot take.
        FileFormatError: If the data file exists and `force` is not set.
    """
    if re.search(r"[\"'\s]", str(path)):
        raise LutError("ngspice cannot open a path with spaces or quotes", got=str(path))
    write_text(path, table2d_data(lut), force=force)
    return (
        f".subckt {name} plus minus params: x0={float(lut.state[-1])!r}\n"
        "Vx state 0 {x0}\n"
        f"Atable %vd(plus minus) %v(state) %id(plus minus) {name}_model\n"
        f'.model {name}_model table2d(offset=0 gain=1 order=2 file="{path}")\n'
        f".ends {name}\n"
    )


def table2d_data(lut: Lut) -> str:
    """The data file: sizes, voltages, states, and the currents, one state a line."""
    lines = ["* devicelab lookup table: voltage [V] by state, current [A]", str(lut.voltage.size), str(lut.state.size)]
    rows = [lut.voltage, lut.state, *lut.table]
    return "\n".join([*lines, *(" ".join(map(repr, row.tolist())) for row in rows), ""])


def read_table2d(path: str | Path) -> Lut:
    """The table in a data file of `table2d`.

    Raises:
        LutError: If it is not one.
    """
    words = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines() if not line.startswith("*")]
    flat = [word for line in words for word in line]
    try:
        k, s = int(flat[0]), int(flat[1])
        values = np.array(flat[2:], dtype=np.float64)
        voltage, state, table = np.split(values, [k, k + s])
        return Lut(voltage, state, table.reshape(s, k), {"model": "table2d"}, {"source": Path(path).name})
    except (ValueError, IndexError) as error:
        raise LutError("not a table2d data file", got=str(path), hint=str(error)) from error
