"""MemTorch 1.1: a memristor class that follows the table at a state that reads do not move.

The file is Python that needs MemTorch only (`memtorch.bh.memristor.Memristor`). It has the methods that MemTorch's
crossbars call: `set_conductance`, `get_resistance`, `current`, `simulate`; `det_current` serves the layers to which
`apply_nonidealities(..., NonLinear)` was applied.
"""

from __future__ import annotations

from pathlib import Path

from ..files import write_text
from . import cross_sim
from .table import Lut

CLASS = '''

class DevicelabTable(Memristor):
    """`g` is current / voltage at the read voltage [S]; parameters of the base class are the table's own."""

    def __init__(self, time_series_resolution=1e-8, r_off=None, r_on=None, **kwargs):
        low, high = DATA["conductance"][0], DATA["conductance"][-1]
        r_off, r_on = 1 / low if r_off is None else r_off, 1 / high if r_on is None else r_on
        super().__init__(r_off, r_on, time_series_resolution, 0, 0)
        self.g = 1 / self.r_on

    def set_conductance(self, conductance):
        low, high = DATA["conductance"][0], DATA["conductance"][-1]
        self.g = min(max(float(conductance), low), high)

    def current(self, voltage):
        import numpy as np

        x = np.interp(self.g, DATA["conductance"], DATA["state"])
        return float(_interpolated(np.asarray(voltage, dtype=float), np.asarray(x)))

    det_current = current

    def simulate(self, voltage_signal, return_current=False):
        import numpy as np

        if return_current:
            return np.array([self.current(voltage) for voltage in np.atleast_1d(voltage_signal)])

    def plot_hysteresis_loop(self, **kwargs):
        raise NotImplementedError("a table at a fixed state has no loop")

    plot_bipolar_switching_behaviour = plot_hysteresis_loop
'''


def write(lut: Lut, path: str | Path, *, force: bool = False) -> None:
    """Write the Python file of the memristor class `DevicelabTable`.

    Raises:
        LutError: If the table states no read voltage.
        FileFormatError: If the file exists and `force` is not set.
    """
    head = '"""A devicelab lookup table as a MemTorch memristor."""\n\n'
    interpolation = cross_sim.CLASS[: cross_sim.CLASS.index("\n\nclass ")]
    text = f"{head}from memtorch.bh.memristor.Memristor import Memristor\n\nDATA = {cross_sim.data(lut)}\n"
    write_text(path, text + interpolation + CLASS, force=force)


def read(path: str | Path) -> Lut:
    """The table in a file that `write` made; its code is not run.

    Raises:
        LutError: If it holds no table.
    """
    return cross_sim.read(path)
