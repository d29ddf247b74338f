"""XBTorch: the six text tables of a `TabularDevice`, for pulses of one voltage and width.

For SET and for RESET: the conductances [S] (``_axis_level_G``), the changes of a pulse [S] (``_axis_level_dG``), and
the probability that a pulse at a conductance changes it by at most a change (``_cdf``, [conductances, changes]). The
mean change follows the table's rates; its deviation is the levels' C2C spread, normal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ..errors import LutError
from ..files import write_text
from .pulses import after_pulse
from .table import Lut

Array = NDArray[np.float64]
PARTS = ("axis_level_G", "axis_level_dG", "cdf")


def tables(
    lut: Lut, *, v_pulse: tuple[float, float], width: float, points: int = 101, changes: int = 201
) -> dict[str, Array]:
    """The six tables by name, such as ``set_cdf``.

    Args:
        lut: A table with rates.
        v_pulse: Voltages [V] of the SET and the RESET pulse.
        width: Their width [s].
        points: Conductances.
        changes: Changes.

    Raises:
        LutError: If the table has no rates, or states no read voltage.
    """
    low, high = lut.mapping()[0][[0, -1]]
    g = np.linspace(low, high, points)
    relative = np.zeros(points)
    if lut.levels is not None and lut.levels.c2c is not None:
        relative = np.interp(g, lut.levels.conductance, lut.levels.c2c)
    out: dict[str, Array] = {}
    for name, v in zip(("set", "reset"), v_pulse, strict=True):
        mean = after_pulse(lut, g, v, width) - g
        reach = max(float((np.abs(mean) + 4 * relative * np.abs(mean)).max()), 1e-6 * high)
        axis = np.linspace(-reach, reach, changes)
        deviation = np.maximum(relative * np.abs(mean), 0.05 * (axis[1] - axis[0]))
        out[f"{name}_axis_level_G"], out[f"{name}_axis_level_dG"] = g, axis
        out[f"{name}_cdf"] = ndtr((axis - mean[:, None]) / deviation[:, None])
    return out


def write(lut: Lut, path: str | Path, *, force: bool = False, **options: Any) -> None:
    """Write PATH_set_cdf.txt and its five siblings; options of `tables`.

    Raises:
        LutError: As `tables`.
        FileFormatError: If a file exists and `force` is not set.
    """
    for name, values in tables(lut, **options).items():
        rows = values.reshape(-1, 1) if values.ndim == 1 else values
        text = "".join(" ".join(map(repr, row)) + "\n" for row in rows.tolist())
        write_text(_file(path, name), text, force=force)


def read(path: str | Path) -> dict[str, Array]:
    """The six tables of PATH, checked: axes increase, probabilities lie in [0, 1] and rise along the changes.

    Raises:
        LutError: If one is missing or is not such a table.
    """
    out: dict[str, Array] = {}
    for direction in ("set", "reset"):
        for part in PARTS:
            name = f"{direction}_{part}"
            try:
                out[name] = np.loadtxt(_file(path, name), ndmin=1)
            except (OSError, ValueError) as error:
                raise LutError("no such XBTorch table", got=str(_file(path, name)), hint=str(error)) from error
        g, axis, cdf = (out[f"{direction}_{part}"] for part in PARTS)
        if cdf.shape != (g.size, axis.size) or (np.diff(g) <= 0).any() or (np.diff(axis) <= 0).any():
            raise LutError("XBTorch tables do not fit", got=cdf.shape, allowed=(g.size, axis.size))
        if (cdf < 0).any() or (cdf > 1).any() or (np.diff(cdf, axis=1) < 0).any():
            raise LutError("not cumulative probabilities", got=str(_file(path, f"{direction}_cdf")))
    return out


def _file(path: str | Path, name: str) -> Path:
    return Path(f"{path}_{name}.txt")
