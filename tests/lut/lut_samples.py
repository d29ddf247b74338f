"""Tables with everything in them, for the tests of the lookup table."""

from __future__ import annotations

import numpy as np

from devicelab import VTEAM, Lut, Stanford, parameter_set
from devicelab.lut.make import changed
from devicelab.variability import spread

V_READ = 0.2


def full(tolerance: float = 1e-2) -> Lut:
    """A small non-linear device with levels, spread, curves, rates and factors."""
    model = parameter_set("stanford_default")
    assert isinstance(model, Stanford)
    table = Lut.from_stochastic(
        model,
        0.6,
        v_read=V_READ,
        levels=5,
        devices=spread(model, {"i0": 0.1}, 200, np.random.default_rng(1)),
        cycles=spread(model, {"i0": 0.03}, 200, np.random.default_rng(2)),
        read_noise=0.01,
        keep=3,
        rate=True,
        tolerance=tolerance,
        provenance={"seed": 1, "note": "µA, Ω"},
    )
    return changed(table, factors=table.low_rank(1e-6))


def programmable() -> Lut:
    """A device that pulses of 1 V and milliseconds move a few per cent, with 5 % C2C spread."""
    model = VTEAM(r_on=1e3, r_off=1e4, v_on=-0.7, v_off=0.6, k_on=40.0, k_off=25.0)
    cycles = spread(model, {"r_on": 0.05}, 200, np.random.default_rng(3))
    return Lut.from_stochastic(model, 1.2, v_read=V_READ, levels=5, cycles=cycles, rate=True, tolerance=1e-2)
