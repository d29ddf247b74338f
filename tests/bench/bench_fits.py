"""Fits: success from cold, recovery, coverage of intervals, time against fits on scipy's ODE solver, cycles a minute.

python tests/bench/bench_fits.py [time] [cycles] [recovery] [coverage] [profiles] [--repeats 40] [--coverage 100]
python tests/bench/bench_fits.py trust [--seeds 20]

Without parts all but trust, which takes half a minute a fit: about ten minutes on one idle core.

The device is Pt/Hf/Ti with a SET slow enough to be seen at 0.5 Hz (k_on = 6 /s), 400 samples a trace, nine parameters.
Errors stand beside the Cramer-Rao bound of the same sweeps: what no unbiased fit can beat.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time

import numpy as np
from scipy.integrate import solve_ivp

import fits
from devicelab import Drive, Model, Trace, parameter_set, simulate, sine
from devicelab.errors import DevicelabError
from devicelab.parameter_sets import parameter_set_info
from fits.design import information
from fits.noise import Noise
from fits.problem import Problem
from fits.trust import SIMILAR

REL, FLOOR, FULL = 0.02, 0.001, 0.02
FIXED = ["b_on", "b_off"]
SINGLE = [(-1.0, 0.5)]
"""(amplitude [V], frequency [Hz]). The negative half comes first: SET, then a whole RESET."""

JOINT = [(0.8, 0.5), (1.0, 0.5), (1.3, 0.5), (1.0, 0.05), (1.0, 0.005)]
"""Three amplitudes and two further rates; MODELS.md gives no numbers, these have the bounds of what it found."""

START = {"single": 0.7, "five traces": 0.9}
NAMES = ["v_off", "v_on", "k_off", "k_on", "a_off", "a_on", "r_on", "r_off"]


def truth() -> Model:
    """The device of the prototypes."""
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)


def clean(words: str) -> list[Trace]:
    """Ideal traces of a design, "single" or "five traces"."""
    drives = SINGLE if words == "single" else JOINT
    return [simulate(truth(), sine(a, f, points=400), x0=START[words]) for a, f in drives]


def bound(words: str, kind: str) -> list[float]:
    """Median |error| that the Cramer-Rao bound leaves to an efficient fit, in the units of `error`."""
    traces = clean(words)
    noise = Noise(*noise_of(traces, kind))
    masks = [np.ones(len(trace), dtype=bool) for trace in traces]
    info = information(truth(), NAMES, traces, [START[words]] * len(traces), masks, noise)
    sd = np.sqrt(np.diag(np.linalg.inv(info)))  # of ln |p|
    unit = [sd[k] / np.log(10) if n == "k_on" else sd[k] * float(getattr(truth(), n)) if n.startswith("a_") else sd[k]
            for k, n in enumerate(NAMES)]  # fmt: skip
    return [0.6745 * float(value) for value in unit]  # the median of |N(0, 1)|


def noise_of(traces: list[Trace], kind: str) -> tuple[float, float]:
    """(relative, floor [A]) of a kind of noise."""
    top = max(float(np.abs(trace.i).max()) for trace in traces)
    return (REL, FLOOR * top) if kind == "multiplicative" else (1e-9, FULL * top)


def noisy(traces: list[Trace], kind: str, seed: int) -> tuple[list[Trace], tuple[float, float]]:
    """Traces with noise, and its (relative, floor [A])."""
    rel, floor = noise_of(traces, kind)
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


def recovery(repeats: int, designs: list[str]) -> None:
    """Share of cold fits within 1 % of the ideal trace, and errors of the parameters, median (90 %)."""
    print(f"\n{repeats} cold fits each; NRMSE against the ideal trace; errors: median (90 %; median at Cramer-Rao)")
    print("| data | under 1 % | NRMSE median (90 %) | from the truth: under 1 %, median | " + " | ".join(NAMES) + " |")
    print("| --- " * (4 + len(NAMES)) + "|")
    for words in designs:
        for kind in ("multiplicative", "additive"):
            ideal = clean(words)
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
            for name, column, least in zip(NAMES, np.array(errors).T, bound(words, kind), strict=True):
                median, most = np.median(column), np.quantile(column, 0.9)
                unit = (1, " dec") if name == "k_on" else (1, "") if name.startswith("a_") else (100, " %")
                cells.append(f"{unit[0] * median:.2g} ({unit[0] * most:.2g}; {unit[0] * least:.2g}){unit[1]}")
            print(
                f"| {words}, {kind} | {100 * share:.0f} %{f' ({failed} failed)' * bool(failed)} | "
                f"{100 * np.median(found):.2f} ({100 * np.quantile(found, 0.9):.2f}) % | "
                f"{100 * np.mean(np.array(limits) < 0.01):.0f} %, {100 * np.median(limits):.2f} % | "
                + " | ".join(cells) + " |",
                flush=True,
            )  # fmt: skip


def coverage(repeats: int, designs: list[str]) -> None:
    """Share of 95 % intervals that hold the truth."""
    print(f"\n95 % intervals that hold the truth, {repeats} repeats, noise estimated from the traces")
    names = [*NAMES, "x0"]
    print("| data | all | " + " | ".join(names) + " |")
    print("| --- " * (2 + len(names)) + "|")
    for words in designs:
        for kind in ("multiplicative", "additive"):
            ideal = clean(words)
            inside: dict[str, list[bool]] = {name: [] for name in names}
            for seed in range(repeats):
                traces, _ = noisy(ideal, kind, 5000 + seed)
                try:
                    result = cold(traces, seed)
                except DevicelabError:
                    continue
                for e in result.estimates:
                    true = START[words] if e.name.startswith("x0_") else float(getattr(truth(), e.name))
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
        solve_ivp(slope, (drive.t[0], drive.t[-1]), [START["single"]], t_eval=drive.t, method="LSODA", rtol=1e-6,
                  atol=1e-9, max_step=float(np.diff(drive.t).max()))  # fmt: skip
        times.append(time.process_time() - begin)
    return min(times)


def timing() -> None:
    """A cold fit of nine parameters to 400 points, and what its evaluations would cost on solve_ivp."""
    ideal = clean("single")
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
    slow = ode_seconds(truth(), sine(-1.0, 0.5, points=400))
    print(
        f"\ncold fit, 9 parameters, 400 points: CPU median {np.median(cpu):.2f} s (largest {max(cpu):.2f}), wall "
        f"median {np.median(wall):.2f} s\n{count} simulated traces a fit; solve_ivp {1e3 * slow:.1f} ms a trace, so "
        f"{count * slow:.0f} s for the same fit: {count * slow / np.median(cpu):.0f} times slower"
    )


def cycle_rate(count: int = 400) -> None:
    """Warm fits of cycles, in this process and over two."""
    model = truth()
    rng = np.random.default_rng(0)
    drive = sine(-1.0, 0.5, points=400)  # a triangle of 1 V never reaches the low resistance: nothing says what r_on is
    r_on, v_on = 100 * np.exp(0.05 * rng.normal(size=count)), -0.53 * np.exp(0.04 * rng.normal(size=count))
    batch = simulate(model.replace(r_on=r_on, v_on=v_on), drive, x0=0.7)
    i = batch.i * (1 + REL * rng.normal(size=batch.i.shape)) + 1e-5 * rng.normal(size=batch.i.shape)
    traces = [Trace(drive.t, drive.v, row) for row in i]
    shared = fits.fit(model, traces[0], fixed=FIXED, start=model)
    names = ["r_on", "r_off", "v_on", "v_off"]
    for workers in (1, 2, 1, 2, 1, 2):
        begin = time.process_time(), children(), time.perf_counter()
        found = fits.cycles(shared, traces, vary=names, workers=workers)
        here, there, wall = time.process_time() - begin[0], children() - begin[1], time.perf_counter() - begin[2]
        free = here + there / workers  # the parent's share is not done at the same time, at worst
        print(
            f"warm cycle fits, {workers} process(es): {60 * count / wall:.0f} a minute of wall time (load "
            f"{os.getloadavg()[0]:.0f}), {60 * count / free:.0f} a minute on cores of their own; CPU {here:.2f} s "
            f"in this process, {there:.2f} s in others",
            flush=True,
        )
    print(found.report())
    low, high = np.quantile(found.values[:, 0] / r_on, (0.05, 0.95))
    print(f"r_on over its true value: 90 % of the cycles in {low:.4f} .. {high:.4f}")


def children() -> float:
    """CPU time of the processes that have ended [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def profiles(repeats: int, designs: list[str]) -> None:
    """Share of 95 % intervals by profile likelihood that hold the truth, of the parameters hardest to know."""
    print(f"\n95 % intervals by profile likelihood (and those of the fit) that hold the truth, {repeats} repeats")
    names = ["v_on", "k_on", "a_on"]
    for words in designs:
        ideal = clean(words)
        inside: dict[str, list[tuple[bool, bool]]] = {name: [] for name in names}
        for seed in range(repeats):
            traces, _ = noisy(ideal, "multiplicative", 5000 + seed)
            result = cold(traces, seed)
            found = fits.profile(result, names)
            for e in result.estimates:
                if e.name in found:
                    true, entry = float(getattr(truth(), e.name)), found[e.name]
                    low = -np.inf if entry.open_low else entry.low
                    high = np.inf if entry.open_high else entry.high
                    inside[e.name].append((low <= true <= high, e.low <= true <= e.high))
        cells = [f"{name} {100 * np.mean(part, axis=0)[0]:.0f} % ({100 * np.mean(part, axis=0)[1]:.0f} %)"
                 for name, part in inside.items()]  # fmt: skip
        print(f"{words}, multiplicative: " + ", ".join(cells), flush=True)


def trust(seeds: int) -> None:
    """Fits of all parameters of published devices to one loop with 1 % noise, stated right and three times too large.

    The excess is chi2 above that of a descent from the truth, per chi2 per degree of freedom; a fit is wrong from
    `SIMILAR` on.
    """
    print("\n| device | noise stated | right, trusted | right, not trusted | wrong, not trusted | wrong, trusted |")
    print("| --- " * 6 + "|")
    for name in ("vteam_pt_hf_ti", "stanford_default"):
        device, drive = parameter_set(name), parameter_set_info(name)["drive"]
        sweep = sine(drive["amplitude"], drive["frequency"], periods=1.25, points=960)
        ideal = simulate(device, sweep, x0=drive["x0"])
        t, v, i = ideal.t[::6], ideal.v[::6], ideal.i[::6]
        floor = 1e-4 * float(np.abs(i).max())
        for factor in (1.0, 3.0):
            counts = {(right, trusted): 0 for right in (True, False) for trusted in (True, False)}
            for seed in range(seeds):
                rng = np.random.default_rng(100 + seed)
                trace = Trace(t, v, i + np.hypot(0.01 * i, floor) * rng.normal(size=i.size))
                template = device
                for entry in device.parameters():
                    if entry.fit and getattr(device, entry.name):
                        moved = float(getattr(device, entry.name)) * float(np.exp(0.2 * rng.normal()))
                        template = template.bind(**{entry.name: float(np.clip(moved, entry.low, entry.high))})
                result = fits.fit(template, trace, noise=(0.01 * factor, floor * factor), seed=seed)
                problem = result.problem
                best = problem.vector(problem.descend(problem.space.encode(device, [drive["x0"]])).params)
                excess = problem.chisqr(result.theta) - problem.chisqr(best)
                counts[excess < SIMILAR * problem.chisqr(best) / problem.size, result.trusted] += 1
            cells = [counts[key] for key in ((True, True), (True, False), (False, False), (False, True))]
            stated = "right" if factor == 1 else f"{factor:g} times"
            print(f"| {name} | {stated} | " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main() -> None:
    """The parts asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="time, cycles, recovery, coverage, profiles, trust")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--coverage", type=int, default=100)
    parser.add_argument("--profiles", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--designs", nargs="+", choices=list(START), default=list(START))
    given = parser.parse_args()
    print(
        time.strftime("%Y-%m-%d"), platform.machine(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}"
    )
    parts = given.parts or ["time", "cycles", "recovery", "coverage", "profiles"]
    for part in parts:
        {
            "recovery": lambda: recovery(given.repeats, given.designs),
            "coverage": lambda: coverage(given.coverage, given.designs),
            "profiles": lambda: profiles(given.profiles, given.designs),
            "time": timing,
            "cycles": cycle_rate,
            "trust": lambda: trust(given.seeds),
        }[part]()


if __name__ == "__main__":
    main()
