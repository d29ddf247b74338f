"""Compiled solver of a device with two states: the one of `_kernels`, with a second unknown solved inside each stage.

A stage of the method is then two equations, z = base + w rate(z, zeta) and zeta = base' + w rate'(zeta, z). For every z
that is tried the second is solved for zeta first, by the bracketed search of one unknown; what is left is one equation
in z, which is bracketed in its turn. So what makes the solver of one state robust holds here as well: no iteration
between the two can diverge, however strong their coupling, and no step has to be shortened for it.

Each state has a program of its own (`tape.pair_of_programs`), in which the other one is an input. A side of the pair is
(program, registers, circuit), as the functions of `_kernels` take them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._kernels import (
    B1,
    B2,
    C2,
    GAMMA,
    MAX_STEPS,
    MIN_STEP,
    NO_VOLTAGE,
    NOT_A_NUMBER,
    OK,
    ROOT,
    SWING,
    TOO_MANY_STEPS,
    device_voltage,
    execute,
    jit,
    rate_at,
    stage,
    step_error,
)

OTHER = 2  # register of the other state


@jit
def enter(p: Any, r: Any, circuit: Any, source: float) -> None:
    """Run what depends on the voltage only, where the source is all of it."""
    if circuit[4] == 0.0:
        r[0] = source
        execute(p[0], r, p[1][0], p[1][1])


@jit
def rate_beside(one: Any, two: Any, source: float, z: float, w: float, inner: Any) -> Any:
    """Rate of the first state at z, the second one solved for.

    `inner` holds the base of the second state's equation, its last solution, and the slope of its rate.
    """
    two[1][OTHER] = z
    inner[1] = stage(two[0], two[1], two[2], source, inner[0], w, inner[1], inner[2:])
    one[1][OTHER] = inner[1]
    one[2][3] = two[2][3]
    return rate_at(one[0], one[1], one[2], source, z)


@jit
def stage_of_two(one: Any, two: Any, source: float, base: float, w: float, guess: float, slope: Any, inner: Any) -> Any:
    """z as `_kernels.stage` finds it, and in inner[1] the second state that goes with it."""
    circuit = one[2]
    enter(one[0], one[1], circuit, source)
    bottom, top, root = circuit[5], 1.0 - circuit[5], circuit[6]
    z = min(max(guess, bottom), top)
    f = z - base - w * rate_beside(one, two, source, z, w, inner)
    if abs(f) <= root:
        return z
    low, high = -np.inf, np.inf
    derivative = 1.0 - w * slope[0]
    if derivative < 0.1:
        derivative = 1.0
    for _ in range(12):
        if f > 0.0:
            high = min(high, z)
        else:
            low = max(low, z)
        new = z - f / derivative
        if not (new > low and new < high):
            break
        new = min(max(new, bottom), top)
        if new == z:  # held by a bound
            return z
        old, f_old = z, f
        z = new
        f = z - base - w * rate_beside(one, two, source, z, w, inner)
        derivative = (f - f_old) / (z - old)
        if not derivative > 0.05:
            break
        if abs(f) <= root * max(1.0, derivative) or abs(f / derivative) <= root:
            slope[0] = (1.0 - derivative) / w
            return z
    return search_of_two(one, two, source, base, w, inner)


@jit
def search_of_two(one: Any, two: Any, source: float, base: float, w: float, inner: Any) -> Any:
    """`stage_of_two` by expanding from the base and bisecting."""
    bottom, top = one[2][5], 1.0 - one[2][5]
    start = min(max(base, bottom), top)
    inner[1] = inner[0]
    f = start - base - w * rate_beside(one, two, source, start, w, inner)
    if not abs(f) > ROOT:
        return start if f == f else np.nan
    way = -1.0 if f > 0.0 else 1.0
    near, far, step = start, start, 1e-9
    while True:
        far = min(max(start + way * step, bottom), top)
        g = far - base - w * rate_beside(one, two, source, far, w, inner)
        if g != g:
            return np.nan
        if g * f <= 0.0:
            break
        if far in (bottom, top):
            return far
        near = far
        step *= 4.0
    for _ in range(60):
        middle = 0.5 * (near + far)
        if abs(far - near) <= ROOT:
            break
        g = middle - base - w * rate_beside(one, two, source, middle, w, inner)
        if g * f <= 0.0:
            far = middle
        else:
            near = middle
    return 0.5 * (near + far)


@jit
def voltage_of(one: Any, source: float, x: float, y: float) -> Any:
    """Voltage across the device at both states; nan where a current source finds none."""
    if one[2][4] == 0.0:
        return source
    one[1][OTHER] = y
    return device_voltage(one[0], one[1], one[2], source, x)


@jit
def solve_pair(
    one: Any, two: Any, t: Any, s: Any, start: Any, tolerance: float, x: Any, y: Any, u: Any, report: Any
) -> Any:
    """States `x` and `y` and device voltage `u` at the samples of a drive `s` over `t`; a status code.

    `start` holds both states at the first sample; `report` as in `_kernels.solve_device`.
    """
    execute(one[0][0], one[1], 0, one[0][1][0])
    execute(two[0][0], two[1], 0, two[0][1][0])
    bottom, top = one[2][5], 1.0 - one[2][5]
    a, b = min(max(start[0], bottom), top), start[1]
    x[0], y[0] = start[0], start[1]
    u[0] = voltage_of(one, s[0], start[0], start[1])
    if u[0] != u[0]:
        report[2] = a
        return NO_VOLTAGE
    slope, inner = np.zeros(1), np.zeros(3)
    speed = 0.0
    h = 1.0
    peak = np.abs(s).max()
    steps = 0
    for n in range(t.size - 1):
        dt, s0, ds = t[n + 1] - t[n], s[n], s[n + 1] - s[n]
        longest = min(1.0, SWING * peak / abs(ds)) if ds != 0.0 else 1.0
        at = 0.0
        count = 0
        while at < 1.0:
            h = min(h, longest, 1.0 - at)
            if 1.0 - at - h < 1e-12:
                h = 1.0 - at
            w = GAMMA * h * dt
            source = s0 + ds * (at + GAMMA * h)
            enter(two[0], two[1], two[2], source)
            inner[0], inner[1] = b, b  # no extrapolation: what does not move stays exactly where it is
            z1 = stage_of_two(one, two, source, a, w, a + w * speed, slope, inner)
            k1, m1 = (z1 - a) / GAMMA, (inner[1] - b) / GAMMA
            source = s0 + ds * (at + C2 * h)
            enter(two[0], two[1], two[2], source)
            base = a + (C2 - GAMMA) * k1
            inner[0] = b + (C2 - GAMMA) * m1
            inner[1] = inner[0] + GAMMA * m1
            z2 = stage_of_two(one, two, source, base, w, base + GAMMA * k1, slope, inner)
            k2, m2 = (z2 - base) / GAMMA, (inner[1] - inner[0]) / GAMMA
            source = s0 + ds * (at + h)
            enter(two[0], two[1], two[2], source)
            base = a + B1 * k1 + B2 * k2
            inner[0] = b + B1 * m1 + B2 * m2
            inner[1] = inner[0] + GAMMA * m2
            z3 = stage_of_two(one, two, source, base, w, base + GAMMA * k2, slope, inner)
            k3, m3 = (z3 - base) / GAMMA, (inner[1] - inner[0]) / GAMMA
            if z3 != z3 or inner[1] != inner[1]:
                report[0], report[1], report[2] = steps, n, a
                return NOT_A_NUMBER
            error = max(step_error(k1, k2, k3, w, slope[0]), step_error(m1, m2, m3, w, inner[2]))
            factor = 0.9 * (tolerance / error) ** (1.0 / 3.0) if error > 0.0 else 4.0
            count += 1
            if error > tolerance and h > MIN_STEP:
                h = max(h * min(max(factor, 0.1), 0.7), MIN_STEP)
                if count < MAX_STEPS:
                    continue
            if count >= MAX_STEPS:
                report[0], report[1], report[2] = steps, n, a
                return TOO_MANY_STEPS
            at = 1.0 if h == 1.0 - at else at + h
            a, b = z3, inner[1]
            speed = k3 / (h * dt)
            steps += 1
            h = min(h * min(max(factor, 0.3), 4.0), 1.0)
        x[n + 1], y[n + 1] = a, b
        u[n + 1] = voltage_of(one, s[n + 1], a, b)
        if u[n + 1] != u[n + 1]:
            report[0], report[1], report[2] = steps, n, a
            return NO_VOLTAGE
        h = min(h * dt / (t[n + 2] - t[n + 1]), 1.0) if n + 2 < t.size else h
    report[0] = steps
    return OK


@jit
def solve_pairs(
    p: Any,
    registers: Any,
    circuits: Any,
    q: Any,
    other_registers: Any,
    other_circuits: Any,
    t: Any,
    s: Any,
    starts: Any,
    tolerance: float,
    x: Any,
    y: Any,
    u: Any,
    report: Any,
) -> Any:
    """`solve_pair` for each row; (status, row) of the first failure, or (OK, number of rows)."""
    for k in range(x.shape[0]):
        one = (p, registers[k], circuits[k])
        two = (q, other_registers[k], other_circuits[k])
        status = solve_pair(one, two, t, s[k % s.shape[0]], starts[k], tolerance, x[k], y[k], u[k], report[k])
        if status != OK:
            return status, k
    return OK, x.shape[0]
