"""Simulation against scipy's ODE solver in one run: time ratio and agreement; then batches of devices on torch.

python tests/bench/bench_simulation.py [--large]
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp

from devicelab import Biolek, Drive, Joglekar, Model, parameter_set, simulate, sine
from devicelab.parameter_sets import parameter_set_info

POINTS = 1000


def seconds(call: Callable[[], object], budget: float = 0.5) -> float:
    """Median time of a call [s], after one call to warm up."""
    call()
    times: list[float] = []
    while sum(times) < budget and len(times) < 300:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def oracle(model: Model, drive: Drive, x0: float, method: str = "RK45") -> np.ndarray:
    """scipy at rtol 1e-9, as one would write it: the rate of the model on the interpolated drive."""

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        inside = np.clip(x, 0.0, 1.0)
        rate = np.asarray(model.rate(np.interp(t, drive.t, drive.v), inside))
        return np.where(((x >= 1) & (rate > 0)) | ((x <= 0) & (rate < 0)), 0.0, rate)

    solution = solve_ivp(
        slope,
        (drive.t[0], drive.t[-1]),
        [x0],
        t_eval=drive.t,
        rtol=1e-9,
        atol=1e-12,
        max_step=np.diff(drive.t).max(),
        method=method,
    )
    return np.clip(solution.y[0], 0.0, 1.0)


def row(name: str, model: Model, drive: Drive, x0: float) -> None:
    mine = simulate(model, drive, x0=x0).x
    fast = seconds(lambda: simulate(model, drive, x0=x0))
    text = f"{name:<34}{1e3 * fast:>8.3f} ms"
    for method in ("RK45", "LSODA"):
        start = time.perf_counter()
        theirs = oracle(model, drive, x0, method)
        slow = time.perf_counter() - start
        text += f" {1e3 * slow:>8.1f} ms {slow / fast:>6.0f} x"
    print(f"{text}   {np.abs(mine - theirs).max():.1e}", flush=True)


def single_traces() -> None:
    print(f"{POINTS} points, solve_ivp at rtol 1e-9; the last column is the largest difference in x from LSODA")
    print(f"{'':<34}{'here':>11} {'RK45':>11} {'ratio':>8} {'LSODA':>11} {'ratio':>8}")
    drift, vteam = parameter_set("strukov_2008_team"), parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)
    print("separable: exact, no steps")
    row("linear drift, no window", drift, sine(0.5, 1.0, points=POINTS), 0.2)
    row("linear drift, Joglekar p=1", drift.replace(window=Joglekar(p=1)), sine(1.0, 1.0, points=POINTS), 0.3)
    row("linear drift, Joglekar p=2", drift.replace(window=Joglekar(p=2)), sine(1.0, 1.0, points=POINTS), 0.3)
    row("linear drift, Biolek p=2", drift.replace(window=Biolek(p=2)), sine(1.0, 1.0, points=POINTS), 0.3)
    row("VTEAM, no window", vteam, sine(0.8, 0.5, points=POINTS), 0.3)
    row("VTEAM, Joglekar p=1", vteam.replace(window=Joglekar(p=1)), sine(0.8, 0.5, points=POINTS), 0.3)
    print("not separable: implicit, adaptive, compiled")
    for name in ("mms_knowm", "data_driven_tiox_dut2", "data_driven_2021", "team_fit_to_simmons", "stanford_default"):
        info = parameter_set_info(name)["drive"]
        row(name, parameter_set(name), sine(info["amplitude"], info["frequency"], points=POINTS), info["x0"])


def batches(counts: list[int]) -> None:
    print(f"\n{'devices x 1000 points, torch':<34}{'time':>12} {'a device':>12} {'memory of a device':>20}")
    base = parameter_set("vteam_pt_hf_ti")
    drive = sine(1.0, 0.5, points=999)
    for window in (base.window, Joglekar(p=1), Biolek(p=2)):
        for count in counts:
            r_on = 100.0 + 10.0 * torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            v_on = -0.53 * (1.0 + 0.1 * torch.rand(count, dtype=torch.float64))
            model = base.replace(window=window, r_on=r_on, v_on=v_on)
            with torch.no_grad():
                start = time.perf_counter()
                trace = simulate(model, drive, x0=0.3)
                took = time.perf_counter() - start
            kept = trace.x.numel() * 8 * 2 / count
            name = f"{count} VTEAM, {type(window).__name__}"
            print(f"{name:<34}{took:>10.2f} s {1e6 * took / count:>9.0f} us {kept / 1e3:>14.0f} kB kept", flush=True)
            del trace
    tracemalloc.start()
    numpy_model = base.replace(r_on=100.0 + 10.0 * np.random.default_rng(0).uniform(size=2000))
    simulate(numpy_model.replace(v_on=-0.53 * np.ones(2000)), drive, x0=0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"peak of the same in numpy, 2000 devices: {peak / 2000 / 1e3:.0f} kB a device")


if __name__ == "__main__":
    torch.set_num_threads(1)
    single_traces()
    batches([1_000, 10_000, 100_000] if "--large" in sys.argv else [1_000, 10_000])
