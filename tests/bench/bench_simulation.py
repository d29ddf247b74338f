"""Simulation against scipy's ODE solver in one run: time ratio and agreement; then batches of devices on torch.

python tests/bench/bench_simulation.py [--large]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp

from devicelab import WINDOWS, Biolek, Drive, Joglekar, Model, NoWindow, parameter_set, parameter_sets, simulate, sine
from devicelab.events import EventSpread, simulate_events
from devicelab.models import SeparableModel, TwoStateModel
from devicelab.parameter_sets import parameter_set_info
from devicelab.simulation import trajectory
from devicelab.variability import simulate_cycles

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


PATIENCE = 20.0
"""Seconds after which scipy is not waited for."""


class OutOfPatience(Exception):
    """The reference takes too long or gives up; the ratio is a lower bound, marked with >."""


def oracle(model: Model, drive: Drive, x0: float, method: str = "RK45") -> np.ndarray:
    """scipy at rtol 1e-9, as one would write it: the rate of the model on the interpolated drive."""
    begun = time.perf_counter()

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        if time.perf_counter() - begun > PATIENCE:
            raise OutOfPatience
        inside = np.clip(x, 0.0, 1.0)
        v = np.interp(t, drive.t, drive.v)
        if isinstance(model, TwoStateModel):
            rate = np.array([model.rate(v, *inside), model.second_rate(v, *inside)])
        else:
            rate = np.asarray(model.rate(v, inside))
        return np.where(((x >= 1) & (rate > 0)) | ((x <= 0) & (rate < 0)), 0.0, rate)

    solution = solve_ivp(
        slope,
        (drive.t[0], drive.t[-1]),
        [x0, 0.0] if isinstance(model, TwoStateModel) else [x0],
        t_eval=drive.t,
        rtol=1e-9,
        atol=1e-12,
        max_step=np.diff(drive.t).max(),
        method=method,
    )
    if not solution.success:  # LSODA gives up on the tunnel barrier
        raise OutOfPatience
    return np.clip(solution.y[0], 0.0, 1.0)


def row(name: str, model: Model, drive: Drive, x0: float) -> tuple[float, float]:
    """Prints one line; ratio to RK45 and difference of the state from the solver on the same polyline."""
    mine = simulate(model, drive, x0=x0).x
    fast = seconds(lambda: simulate(model, drive, x0=x0))
    text, ratios, difference = f"{name:<42}{1e6 * fast:>7.0f} us", [], float("nan")
    for method in ("RK45", "LSODA"):
        start = time.perf_counter()
        more = " "
        try:
            difference = float(np.abs(mine - oracle(model, drive, x0, method)).max())
        except OutOfPatience:
            more = ">"
        slow = time.perf_counter() - start
        ratios.append(slow / fast)
        text += f" {more}{1e3 * slow:>8.1f} ms {slow / fast:>6.0f} x"
    print(f"{text}   {difference:.1e}", flush=True)
    return ratios[0], difference


def free(model: Model, drive: Drive) -> Drive:
    """The drive, quicker until the state stays off its ends: against a hard bound RK45 creeps for minutes."""
    for factor in np.geomspace(1.0, 1e-12, 73):
        quick = Drive(drive.t * factor, drive.v)
        x = simulate(model, quick, x0=0.4).x
        if x.min() > 0.02 and x.max() < 0.98:
            return quick
    raise SystemExit("no drive keeps the state off its ends")


def single_traces() -> None:
    print(f"{POINTS} points, solve_ivp at rtol 1e-9; the last column is the largest difference in x from LSODA")
    print(f"{'':<42}{'here':>10} {'RK45':>11} {'ratio':>8} {'LSODA':>11} {'ratio':>8}")
    first: dict[str, str] = {}
    for name in parameter_sets():
        first.setdefault(parameter_set(name).name, name)
    for separable in (True, False):
        print("separable: exact, no steps" if separable else "not separable: implicit, adaptive, compiled")
        found = []
        for name in first.values():
            model, info = parameter_set(name), parameter_set_info(name)["drive"]
            if isinstance(model, SeparableModel) is not separable:
                continue
            for window in WINDOWS.values() if separable else [type(model.window)]:
                tried = model.replace(window=window()) if separable else model
                drive = sine(info["amplitude"], info["frequency"], points=POINTS)
                if separable:
                    drive = free(tried, drive)
                found.append(row(f"{name}, {window.__name__}", tried, drive, 0.4 if separable else info["x0"]))
        ratios, differences = np.array(found).T
        print(
            f"{'':<42}RK45 / here: {ratios.min():.0f} to {ratios.max():.0f}; "
            f"worst difference {np.nanmax(differences):.1e}"
        )


def other_costs() -> None:
    """What a loop of fits pays, and what the very first call pays."""
    drive = sine(0.8, 0.5, points=POINTS)
    for window in (NoWindow(), Biolek(p=2)):
        for base, name in ((parameter_set("vteam_pt_hf_ti"), "r_off"), (parameter_set("strukov_2008_team"), "r_off")):
            devices = iter([base.replace(window=window, **{name: 1e5 + k}) for k in range(400)])
            took = seconds(lambda devices=devices, drive=drive: simulate(next(devices), drive, x0=0.3), 0.1)
            print(f"new parameters every call: {base.name}, {type(window).__name__:<9} {1e6 * took:>6.0f} us")
    rng = np.random.default_rng(0)
    base = parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)
    spread = {n: getattr(base, n) * np.exp(0.1 * rng.normal(size=1024)) for n in ("r_on", "v_on", "k_on", "a_on")}
    start = rng.uniform(0.1, 0.9, 1024)
    short = sine(1.0, 0.5, points=399)
    for window in (NoWindow(), Joglekar(p=1), Biolek(p=2)):
        many = base.replace(window=window, **spread)
        took = seconds(lambda many=many: trajectory(many, short.t, short.v, start))
        print(f"1024 parameter vectors x 400 points, {type(window).__name__:<9} {1e3 * took:>6.1f} ms")
    code = (
        "import time; from devicelab import parameter_set, simulate, sine; m, d = parameter_set('vteam_pt_hf_ti'), "
        "sine(1.0, 0.5); s = time.perf_counter(); simulate(m, d, x0=0.3); print(time.perf_counter() - s)"
    )
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "NUMBA_CACHE_DIR": cache}
        once, again = (
            float(
                subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True).stdout
            )
            for _ in range(2)
        )
    print(f"first call of a process: {once:.1f} s on a new machine (compiles), {again:.2f} s from then on")


def many_cycles(cycles: int = 10_000, points: int = 1000) -> None:
    """Cycles that differ by switching event, in one pass, against half-cycles simulated one after the other."""
    model = parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)
    spread = EventSpread(set={"r_on": 0.1, "v_on": 0.05}, reset={"r_off": 0.2, "v_off": 0.05}, memory=5.0)
    simulate_events(model, sine(1.0, 0.5, periods=2, points=points), spread, np.random.default_rng(0))
    drive = sine(1.0, 0.5, periods=cycles, points=points)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    trace, (events,) = simulate_events(model, drive, spread, np.random.default_rng(0), x0=0.3)
    took = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / trace.i.size
    few, half = 200, points // 2
    start, x = time.perf_counter(), 0.3
    for k in range(2 * few):
        own = model.replace(
            r_off=float(events.reset["r_off"][k // 2]),
            v_off=float(events.reset["v_off"][k // 2]),
            v_on=float(events.set["v_on"][k // 2]),
            r_on=float(events.set["r_on"][(k - 1) // 2 if k else 0]),
        )
        part = simulate(
            own, Drive(drive.t[k * half : (k + 1) * half + 1], drive.v[k * half : (k + 1) * half + 1]), x0=x
        )
        x = float(part.x[-1])
    loop = (time.perf_counter() - start) * cycles / few
    print(
        f"\n{cycles} cycles x {points} points, {events.t_set.size + events.t_reset.size} events: {took:.2f} s "
        f"({1e9 * took / trace.i.size:.0f} ns a sample), peak {peak:.0f} bytes a sample; in a loop {loop:.1f} s"
    )
    table = {name: np.exp(0.05 * np.random.default_rng(1).normal(size=cycles)) for name in ("v_on", "v_off")}
    many = model.replace(**{name: getattr(model, name) * factor for name, factor in table.items()})
    one = sine(1.0, 0.5, points=points)
    start = time.perf_counter()
    simulate_cycles(many, one, x0=0.3)
    print(f"the same cycles side by side (simulate_cycles): {time.perf_counter() - start:.2f} s", flush=True)


def batches(counts: list[int]) -> None:
    """Time and peak memory of a batch, each in a process of its own."""
    print(f"\n{'devices x 1000 points, torch':<30}{'time':>11} {'a device':>12} {'peak of a device':>18} {'kept':>8}")
    for window in ("none", "joglekar", "biolek"):
        for count in counts:
            done = subprocess.run(
                [sys.executable, __file__, "--batch", window, str(count)], capture_output=True, check=True, text=True
            )
            print(done.stdout, end="", flush=True)


def one_batch(window: str, count: int) -> None:
    base = parameter_set("vteam_pt_hf_ti")
    drive = sine(1.0, 0.5, points=999)
    rng = torch.Generator().manual_seed(0)
    r_on = 100.0 + 10.0 * torch.rand(count, dtype=torch.float64, generator=rng)
    v_on = -0.53 * (1.0 + 0.1 * torch.rand(count, dtype=torch.float64, generator=rng))
    with torch.no_grad():
        simulate(base.replace(window=WINDOWS[window](), r_on=r_on[:10], v_on=v_on[:10]), drive, x0=0.3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        trace = simulate(base.replace(window=WINDOWS[window](), r_on=r_on, v_on=v_on), drive, x0=0.3)
        took = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / count  # kB
    kept = trace.x.numel() * 8 * 2 / count / 1e3
    name = f"{count} VTEAM, {window}"
    print(f"{name:<30}{took:>9.2f} s {1e6 * took / count:>9.0f} us {peak:>15.0f} kB {kept:>5.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--batch" in sys.argv:
        one_batch(sys.argv[-2], int(sys.argv[-1]))
    else:
        batches(
            [1_000, 10_000, 100_000] if "--large" in sys.argv else [1_000, 10_000]
        )  # first: a process inherits peaks
        single_traces()
        other_costs()
        many_cycles()
