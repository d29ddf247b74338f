"""What one programming pulse does to the conductance, from the rates of a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import LutError
from .table import Lut

Array = NDArray[np.float64]
STEPS = 256


def after_pulse(lut: Lut, conductance: Array, v: float, width: float) -> Array:
    """Conductance [S] at the read voltage after a rectangular pulse of `v` [V] and `width` [s], shape as given.

    The state moves at the table's rate, integrated in `STEPS` Heun steps and kept within the table's states.

    Raises:
        LutError: If the table has no rates or states no read voltage, or `v` is outside its rates.
    """
    if lut.rate is None:
        raise LutError("this table has no rates", hint="make it with `rate=True` (`devicelab lut make --rate`)")
    low, high = max(lut.state[0], lut.rate.state[0]), min(lut.state[-1], lut.rate.state[-1])
    x = np.clip(lut.state_for(conductance), low, high)
    step = width / STEPS
    for _ in range(STEPS):
        first = lut.rate.at(v, x)
        second = lut.rate.at(v, np.clip(x + step * first, low, high))
        x = np.clip(x + 0.5 * step * (first + second), low, high)
    g, states = lut.mapping()
    return np.interp(x, states, g)
