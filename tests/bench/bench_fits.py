"""Fits: success from cold, recovery, coverage of intervals, time against fits on scipy's ODE solver, cycles a minute.

python tests/bench/bench_fits.py [recovery] [coverage] [time] [cycles] [--repeats 40]

The device is Pt/Hf/Ti with a SET slow enough to be seen at 0.5 Hz (k_on = 6 /s), 400 samples a trace, nine parameters.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence

import numpy as np
from scipy.integrate import solve_ivp

import fits
from devicelab import Drive, Model, Trace, parameter_set, simulate, sine, triangle
from devicelab.errors import DevicelabError
from fits.problem import Problem

REL, FLOOR, FULL = 0.02, 0.001, 0.02
X0 = 0.5
FIXED = ["b_on", "b_off"]
SINGLE = [(1.0, 0.5)]
JOINT = [(1.0, 0.5), (0.85, 0.5), (1.2, 0.5), (1.0, 5.0), (1.0, 0.05)]
NAMES = ["v_off", "v_on", "k_off", "k_on", "a_off", "a_on", "r_on", "r_off"]


def truth() -> Model:
    """The device of the prototypes."""
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)


def clean(drives: Sequence[tuple[float, float]]) -> list[Trace]:
    """Ideal traces; x0 in the middle, so that the first half shows RESET and the second SET."""
    return [simulate(truth(), sine(a, f, points=400), x0=X0) for a, f in drives]


def noisy(traces: list[Trace], kind: str, seed: int) -> tuple[list[Trace], tuple[float, float]]:
    """Traces with noise, and its (relative, floor [A])."""
    top = max(float(np.abs(trace.i).max()) for trace in traces)
    rel, floor = (REL, FLOOR * top) if kind == "multiplicative" else (1e-9, FULL * top)
    rng = np.random.default_rng(seed)
    out = [Trace(s.t, s.v, s.i + np.hypot(rel * s.i, floor) * rng.normal(size=len(s))) for s in traces]
    return out, (rel, floor)


def nrmse(result: fits.FitResult, ideal: list[Trace]) -> float:
    """Of the fitted traces against the ideal ones, all together."""
    mine = np.concatenate([trace.i for trace in result.simulate()])
    true = np.concatenate([trace.i for trace in ideal])
    return float(np.sqrt(np.mean((mine - true) ** 2) / np.mean(true**2)))


def cold(traces: list[Trace], seed: int = 0) -> fits.FitResult:
    """A fit as a user would call it: noise, polarity and starts are found."""
    template = truth().replace(r_on=1e3, r_off=1e5, v_on=-0.5, v_off=0.5, k_on=1.0, k_off=1.0, a_on=3.0, a_off=3.0)
    return fits.fit(template, traces, fixed=FIXED, seed=seed)


def error(result: fits.FitResult, name: str) -> float:
    """Relative error; decades for k_on, plain for exponents."""
    mine, true = float(getattr(result.model, name)), float(getattr(truth(), name))
    if name == "k_on":
        return abs(np.log10(mine / true))
    return abs(mine - true) if name.startswith("a_") else abs(mine / true - 1)


def recovery(repeats: int) -> None:
    """Share of cold fits within 1 % of the ideal trace, and errors of the parameters, median (90 %)."""
    print(f"\n{repeats} cold fits each; NRMSE against the ideal trace; errors of parameters: median (90 %)")
    print("| data | under 1 % | NRMSE median (90 %) | from the truth: under 1 %, median | " + " | ".join(NAMES) + " |")
    print("| --- " * (4 + len(NAMES)) + "|")
    for words, drives in (("single", SINGLE), ("five traces", JOINT)):
        for kind in ("multiplicative", "additive"):
            ideal = clean(drives)
            found, limits, errors, failed = [], [], [], 0
            for seed in range(repeats):
                traces, noise = noisy(ideal, kind, 1000 + seed)
                try:
                    result = cold(traces, seed)
                except DevicelabError:
                    failed += 1
                    found.append(np.inf)
                    continue
                found.append(nrmse(result, ideal))
                errors.append([error(result, name) for name in NAMES])
                best = fits.fit(truth(), traces, fixed=FIXED, start=truth(), noise=(max(noise[0], 1e-3), noise[1]))
                limits.append(nrmse(best, ideal))
            share = np.mean(np.array(found) < 0.01)
            cells = []
            for name, column in zip(NAMES, np.array(errors).T, strict=True):
                median, most = np.median(column), np.quantile(column, 0.9)
                unit = (1, " dec") if name == "k_on" else (1, "") if name.startswith("a_") else (100, " %")
                cells.append(f"{unit[0] * median:.2g} ({unit[0] * most:.2g}){unit[1]}")
            print(
                f"| {words}, {kind} | {100 * share:.0f} %{f' ({failed} failed)' * bool(failed)} | "
                f"{100 * np.median(found):.2f} ({100 * np.quantile(found, 0.9):.2f}) % | "
                f"{100 * np.mean(np.array(limits) < 0.01):.0f} %, {100 * np.median(limits):.2f} % | "
                + " | ".join(cells) + " |",
                flush=True,
            )  # fmt: skip


def coverage(repeats: int) -> None:
    """Share of 95 % intervals that hold the truth."""
    print(f"\n95 % intervals that hold the truth, {repeats} repeats, noise estimated from the traces")
    names = [*NAMES, "x0"]
    print("| data | all | " + " | ".join(names) + " |")
    print("| --- " * (2 + len(names)) + "|")
    for words, drives in (("single", SINGLE), ("five traces", JOINT)):
        for kind in ("multiplicative", "additive"):
            ideal = clean(drives)
            inside: dict[str, list[bool]] = {name: [] for name in names}
            for seed in range(repeats):
                traces, _ = noisy(ideal, kind, 5000 + seed)
                try:
                    result = cold(traces, seed)
                except DevicelabError:
                    continue
                for e in result.estimates:
                    true = X0 if e.name.startswith("x0_") else float(getattr(truth(), e.name))
                    inside[e.name.partition("_")[0] if e.name.startswith("x0_") else e.name].append(
                        e.low <= true <= e.high
                    )
            every = np.concatenate([np.array(part) for part in inside.values()])
            cells = [f"{100 * np.mean(inside[name]):.0f}" for name in names]
            print(f"| {words}, {kind} | {100 * every.mean():.1f} % | " + " | ".join(cells) + " |", flush=True)


def ode_seconds(model: Model, drive: Drive) -> float:
    """CPU time of one trace by solve_ivp, LSODA at rtol 1e-6, steps no longer than a sample [s]; best of three."""

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        return np.asarray(model.rate(np.interp(t, drive.t, drive.v), np.clip(x, 0.0, 1.0)))

    times = []
    for _ in range(3):
        begin = time.process_time()
        solve_ivp(slope, (drive.t[0], drive.t[-1]), [X0], t_eval=drive.t, method="LSODA", rtol=1e-6, atol=1e-9,
                  max_step=float(np.diff(drive.t).max()))  # fmt: skip
        times.append(time.process_time() - begin)
    return min(times)


def timing() -> None:
    """A cold fit of nine parameters to 400 points, and what its evaluations would cost on solve_ivp."""
    ideal = clean(SINGLE)
    count = 0
    respond = Problem.respond

    def counted(self: Problem, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        nonlocal count
        count += 1 if theta.ndim == 1 else len(theta)
        return respond(self, theta)

    traces, _ = noisy(ideal, "multiplicative", 1)
    cold(traces)  # compiles
    Problem.respond = counted  # type: ignore[method-assign]
    cold(traces)
    Problem.respond = respond  # type: ignore[method-assign]
    cpu, wall = [], []
    for seed in range(12):
        traces, _ = noisy(ideal, "multiplicative", seed)
        begin = time.process_time(), time.perf_counter()
        cold(traces, seed)
        cpu.append(time.process_time() - begin[0])
        wall.append(time.perf_counter() - begin[1])
    slow = ode_seconds(truth(), sine(1.0, 0.5, points=400))
    print(
        f"\ncold fit, 9 parameters, 400 points: CPU median {np.median(cpu):.2f} s (largest {max(cpu):.2f}), wall "
        f"median {np.median(wall):.2f} s\n{count} simulated traces a fit; solve_ivp {1e3 * slow:.1f} ms a trace, so "
        f"{count * slow:.0f} s for the same fit: {count * slow / np.median(cpu):.0f} times slower"
    )


def cycle_rate(count: int = 400) -> None:
    """Warm fits of cycles over two processes."""
    model = truth()
    rng = np.random.default_rng(0)
    drive = triangle(1.0, 2.0, points=400)
    r_on, v_on = 100 * np.exp(0.05 * rng.normal(size=count)), -0.53 * np.exp(0.04 * rng.normal(size=count))
    batch = simulate(model.replace(r_on=r_on, v_on=v_on), drive, x0=0.5)
    i = batch.i * (1 + REL * rng.normal(size=batch.i.shape)) + 1e-5 * rng.normal(size=batch.i.shape)
    traces = [Trace(drive.t, drive.v, row) for row in i]
    shared = fits.fit(model, traces[0], fixed=FIXED, start=model)
    names = ["r_on", "r_off", "v_on", "v_off"]
    for workers in (1, 2):
        begin = time.process_time(), time.perf_counter()
        found = fits.cycles(shared, traces, vary=names, workers=workers)
        cpu, wall = time.process_time() - begin[0], time.perf_counter() - begin[1]
        note = f", {60 * count / cpu:.0f} a minute of CPU" if workers == 1 else ""
        print(f"warm cycle fits, {workers} process(es): {60 * count / wall:.0f} a minute{note}", flush=True)
    print(found.report())


def main() -> None:
    """The parts asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="recovery, coverage, time, cycles")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--coverage", type=int, default=100)
    given = parser.parse_args()
    print(
        time.strftime("%Y-%m-%d"), platform.machine(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}"
    )
    parts = given.parts or ["time", "cycles", "recovery", "coverage"]
    for part in parts:
        {
            "recovery": lambda: recovery(given.repeats),
            "coverage": lambda: coverage(given.coverage),
            "time": timing,
            "cycles": cycle_rate,
        }[part]()


if __name__ == "__main__":
    main()
