"""Every model, window and parameter set that is registered: what the laws of this folder are tried on.

A new model needs one parameter set with a `[drive]` table, a new window an entry in WINDOWS; then all laws apply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devicelab import MODELS, WINDOWS, Drive, Model, parameter_set, parameter_sets, sine
from devicelab.parameter_sets import parameter_set_info

STATES = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class Case:
    """A device and the sine of its parameter set, which takes it through a loop."""

    name: str
    model: Model
    amplitude: float
    frequency: float
    x0: float

    def drive(self, factor: float = 1.0, *, periods: float = 2.0, points: int = 200) -> Drive:
        return sine(factor * self.amplitude, self.frequency, periods=periods, points=points)

    def voltages(self, factor: float = 1.0, n: int = 41) -> np.ndarray:
        return np.linspace(-factor * self.amplitude, factor * self.amplitude, n)


def _case(name: str, window: str | None = None) -> Case:
    info = parameter_set_info(name)["drive"]
    model = parameter_set(name)
    if window is not None:
        model = model.replace(window=WINDOWS[window]())
    return Case(f"{name}-{window or 'own'}", model, info["amplitude"], info["frequency"], info["x0"])


SETS = [_case(name) for name in parameter_sets()]
"""Every published set as it is."""

FIRST = {name: next((case for case in SETS if case.model.name == name), None) for name in MODELS}
"""One set of each model."""

EVERY = [_case(case.name.removesuffix("-own"), window) for case in FIRST.values() if case for window in WINDOWS]
"""Every model with every window."""


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]
