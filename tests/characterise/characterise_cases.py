"""Traces whose numbers are known in closed form."""

from __future__ import annotations

import numpy as np

from devicelab import Trace

R_ON, R_OFF = 1e3, 1e5
V_SET, V_RESET = 0.8, -0.6


def abrupt(
    v_set: float = V_SET,
    v_reset: float = V_RESET,
    *,
    compliance: float | None = None,
    points: int = 400,
    noise: float = 0.0,
    seed: int = 0,
    sign: int = 1,
    **meta: object,
) -> Trace:
    """A triangular loop 0, 1.2, -1.2, 0 V of an ohmic device that jumps at v_set to R_ON and at v_reset to R_OFF."""
    v = np.interp(np.linspace(0, 4, points + 1), [0, 1, 3, 4], [0, 1.2, -1.2, 0])
    r = np.full(v.size, R_OFF)
    on = False
    for k in range(v.size):
        on = (on or v[k] >= v_set) and not v[k] <= v_reset
        r[k] = R_ON if on else R_OFF
    i = v / r
    if compliance is not None:
        i = np.minimum(i, compliance)
    i = i + noise * np.random.default_rng(seed).standard_normal(v.size)
    return Trace(np.linspace(0.0, 1.0, v.size), sign * v, sign * i, meta=dict(meta))
