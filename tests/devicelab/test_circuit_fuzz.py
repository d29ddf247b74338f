"""Random devices on random waveforms behind random circuits: whatever happens, physics holds."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import WINDOWS, Drive, Model, parameter_set, parameter_sets, simulate
from devicelab.parameter_sets import parameter_set_info

KIRCHHOFF = 1e-7  # of the largest voltage: roots to 1e-13 of their argument, through the steepest I(V)
RUNS = 12  # of each parameter set


def scattered(model: Model, rng: np.random.Generator) -> Model | None:
    """The model with every parameter moved by some 30 %, a random window and polarity; None if that is impossible."""
    moved = {}
    for entry in model.parameters():
        value = float(getattr(model, entry.name)) * np.exp(0.3 * rng.normal())
        moved[entry.name] = min(max(value, entry.low), entry.high)
    window = list(WINDOWS.values())[rng.integers(len(WINDOWS))]()
    try:
        return model.replace(window=window, polarity=int(rng.choice([-1, 1])), **moved)
    except ValueError:
        return None


@pytest.mark.parametrize("name", parameter_sets())
def test_any_device_on_any_waveform_behind_any_circuit_obeys_physics(name: str) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    info = parameter_set_info(name)["drive"]
    for _ in range(RUNS):
        model = scattered(parameter_set(name), rng)
        count = int(rng.integers(2, 40))
        t = np.cumsum(10.0 ** rng.uniform(-4, 1, count)) / info["frequency"]
        v = info["amplitude"] * rng.choice([0.5, 1, 3]) * rng.normal(size=count) * (rng.uniform(size=count) > 0.1)
        r = 10.0 ** rng.uniform(-3, 7) if rng.uniform() < 0.5 else 0.0
        limit = 10.0 ** rng.uniform(-9, 0) if rng.uniform() < 0.5 else None
        x0 = float(rng.choice([0.0, 1.0, rng.uniform()]))
        if model is None:
            continue
        with np.errstate(all="ignore"):
            trace = simulate(model, Drive(t, v), x0=x0, series_resistance=r, compliance=limit)
        case = f"{model}, r {r}, limit {limit}, x0 {x0}"
        assert ((trace.x >= 0) & (trace.x <= 1)).all(), case
        assert (trace.v * trace.i >= 0).all(), case
        top = np.inf if limit is None else limit
        assert (np.abs(trace.i) <= top * (1 + 1e-6)).all(), case
        free = np.abs(trace.i) < top * (1 - 1e-6)
        assert (np.abs(trace.v + r * trace.i - v)[free] <= KIRCHHOFF * np.abs(v).max()).all(), case
