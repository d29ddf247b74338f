"""CrossSim 3.2: a device class whose `nonlinear_current` is the table.

The file is Python that needs CrossSim only. Put it in ``simulator/devices/custom`` and import it in ``device.py``, or
import it before a core is made: CrossSim finds device classes as sub-classes. Then::

    params.xbar.device.nonlinear_IV.enable = True
    params.xbar.device.nonlinear_IV.model = "DevicelabTable"
    params.xbar.device.Rmin, params.xbar.device.Rmax = DevicelabTable.RMIN, DevicelabTable.RMAX
    params.xbar.device.Vread = DevicelabTable.VREAD
    params.simulation.disable_fast_nonlinear_IV = True
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LutError
from ..files import write_text
from .table import Lut

NAME = "DevicelabTable"
CLASS = '''

def _interpolated(V, x):
    """Monotone cubic in voltage, linear in state, as the table asks."""
    import numpy as np

    v, s = np.asarray(DATA["voltage"]), np.asarray(DATA["state"])
    table, slope = np.asarray(DATA["current"]), np.asarray(DATA["slope"])
    if V.size and (V.min() < v[0] or V.max() > v[-1]):
        raise ValueError(f"voltage outside the table: {V.min()} to {V.max()} V, allowed {v[0]} to {v[-1]} V")
    j = np.clip(np.searchsorted(s, x, side="right") - 1, 0, s.size - 2)
    k = np.clip(np.searchsorted(v, V, side="right") - 1, 0, v.size - 2)
    w, h = (x - s[j]) / (s[j + 1] - s[j]), v[k + 1] - v[k]
    u = (V - v[k]) / h

    def row(r):
        y0, y1, m0, m1 = table[r, k], table[r, k + 1], h * slope[r, k], h * slope[r, k + 1]
        return y0 + u * (m0 + u * (3 * (y1 - y0) - 2 * m0 - m1 + u * (2 * (y0 - y1) + m0 + m1)))

    return (1 - w) * row(j) + w * row(j + 1)


class DevicelabTable(EmptyDevice):
    """The conductance that CrossSim programs is current / voltage at VREAD."""

    RMIN, RMAX, VREAD = 1 / DATA["conductance"][-1], 1 / DATA["conductance"][0], DATA["v_read"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.Gmax = 1 / self.device_params.Rmin
        self.Gmin = self.Gmax / self.on_off_ratio
        self.Vread = self.device_params.Vread

    def _siemens(self, Gmat):
        return self.Gmin + (self.Gmax - self.Gmin) * (Gmat - self.Gmin_norm) / self.Grange_norm

    def nonlinear_current(self, Gmat, Vmat):
        import numpy as np

        G, V = self._siemens(Gmat), Vmat * self.Vread
        if Gmat.ndim != Vmat.ndim:
            G = G[(..., *(None,) * (V.ndim - G.ndim))]
        G, V = np.broadcast_arrays(np.asarray(G, dtype=float), np.asarray(V, dtype=float))
        I = _interpolated(V, np.interp(G, DATA["conductance"], DATA["state"]))
        scale = self.Grange_norm / (self.Gmax - self.Gmin)
        return I / self.Vread * scale - Vmat * (scale * self.Gmin - self.Gmin_norm)

    def _strayed(self, input_, relative):
        import numpy as np

        if relative is None:
            return input_
        deviation = np.interp(self._siemens(input_), DATA["level"], relative)
        return input_ + input_ * deviation * np.random.normal(size=input_.shape)

    def programming_error(self, input_):
        return self._strayed(input_, DATA["spread"])

    def read_noise(self, input_):
        return self._strayed(input_, DATA["read_noise"])
'''


def write(lut: Lut, path: str | Path, *, force: bool = False) -> None:
    """Write the Python file of the device class `DevicelabTable`.

    Raises:
        LutError: If the table states no read voltage.
        FileFormatError: If the file exists and `force` is not set.
    """
    head = (
        '"""A devicelab lookup table as a CrossSim device."""\n\nfrom simulator.devices.idevice import EmptyDevice\n\n'
    )
    write_text(path, f"{head}DATA = {data(lut)}\n{CLASS}", force=force)


def data(lut: Lut) -> str:
    """What the class holds: axes, currents, slopes, the map of conductance to state, spread; as a Python literal."""
    conductance, state = lut.mapping()
    held: dict[str, Any] = {"voltage": lut.voltage, "state": state, "current": lut.table, "slope": lut.slope}
    held |= {"conductance": conductance, "level": None, "spread": None, "read_noise": None}
    if lut.levels is not None:
        held |= {"level": lut.levels.conductance, "spread": lut.levels.spread(), "read_noise": lut.levels.read_noise}
    plain = {key: None if value is None else np.asarray(value).tolist() for key, value in held.items()}
    return json.dumps({**plain, "v_read": lut.v_read}).replace("null", "None")


def read(path: str | Path) -> Lut:
    """The table in a file that `write` made; its code is not run.

    Raises:
        LutError: If it holds no table.
    """
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        found = next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "DATA"
        )
        return Lut(
            found["voltage"],
            found["state"],
            found["current"],
            {"model": "cross-sim table"},
            {"source": Path(path).name},
            v_read=found["v_read"],
        )
    except (StopIteration, SyntaxError, KeyError, TypeError) as error:
        raise LutError("not a device file of ours", got=str(path), hint=str(error) or None) from error
