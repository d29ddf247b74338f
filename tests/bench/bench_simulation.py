"""Exact simulation of separable models against an ODE solver, in one run: time ratio and agreement.

python tests/bench/bench_simulation.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from devicelab import Drive, Joglekar, Model, parameter_set, simulate, sine

POINTS = 1000


def seconds(call: Callable[[], object], budget: float = 1.0) -> float:
    """Median time of a call [s], after one call to warm up."""
    call()
    times: list[float] = []
    while sum(times) < budget and len(times) < 300:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def oracle(model: Model, drive: Drive, x0: float) -> np.ndarray:
    """scipy at rtol 1e-9, as one would write it: the rate of the model on the interpolated drive."""

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        inside = np.clip(x, 0.0, 1.0)
        rate = np.asarray(model.rate(np.interp(t, drive.t, drive.v), inside))
        return np.where(((x >= 1) & (rate > 0)) | ((x <= 0) & (rate < 0)), 0.0, rate)

    span = (drive.t[0], drive.t[-1])
    solution = solve_ivp(slope, span, [x0], t_eval=drive.t, rtol=1e-9, atol=1e-12, max_step=np.diff(drive.t).max())
    return np.clip(solution.y[0], 0.0, 1.0)


def row(name: str, model: Model, drive: Drive, x0: float) -> None:
    mine, theirs = simulate(model, drive, x0=x0).x, oracle(model, drive, x0)
    fast, slow = seconds(lambda: simulate(model, drive, x0=x0)), seconds(lambda: oracle(model, drive, x0))
    difference = np.abs(mine - theirs).max()
    print(f"{name:<34}{1e3 * fast:>9.3f} ms {1e3 * slow:>9.1f} ms {slow / fast:>8.0f} x   {difference:.1e}")


def main() -> None:
    print(f"{'':<34}{'exact':>12} {'solve_ivp':>12} {'ratio':>10}   largest difference in x   ({POINTS} points)")
    drift, vteam = parameter_set("strukov_2008_team"), parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)
    row("linear drift, no window", drift, sine(0.5, 1.0, points=POINTS), 0.2)
    row("linear drift, Joglekar p=1", drift.replace(window=Joglekar(p=1)), sine(1.0, 1.0, points=POINTS), 0.3)
    row("linear drift, Joglekar p=2", drift.replace(window=Joglekar(p=2)), sine(1.0, 1.0, points=POINTS), 0.3)
    row("VTEAM, no window", vteam, sine(0.8, 0.5, points=POINTS), 0.3)
    row("VTEAM, Joglekar p=1", vteam.replace(window=Joglekar(p=1)), sine(0.8, 0.5, points=POINTS), 0.3)


if __name__ == "__main__":
    main()
