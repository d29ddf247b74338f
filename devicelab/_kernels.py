"""Compiled kernels: the interpreter of `tape.Program`, and an implicit solver of one device behind a circuit.

The solver is a singly diagonally implicit Runge-Kutta method of third order (Alexander 1977), L-stable, with an
embedded second order for the error. Every stage is one equation in one unknown, so it can be bracketed: a jump of the
rate is as good as a zero, and the hard bounds at 0 and 1 are a projection. That is what makes it robust: there is
nothing that can fail to converge but a rate that is not a number.

Source: R. Alexander, SIAM J. Numer. Anal. 14, 1006 (1977), doi:10.1137/0714068.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

VOLTAGE_DRIVE, CURRENT_DRIVE = 0, 1
OK, NOT_A_NUMBER, TOO_MANY_STEPS, NO_VOLTAGE = 0, 1, 2, 3
MAX_STEPS = 200_000
MIN_STEP = 1e-13  # of a segment of the drive
ROOT = 1e-13  # resolution of a stage in x, at the finest
SWING = 0.04  # of the largest value of the drive: a longer step could jump over a threshold and back unseen
V_LIMIT = 1e6  # a current source gives up beyond it [V]

GAMMA = 0.43586652150845899942
C2 = 0.5 * (1.0 + GAMMA)
B1 = -(6.0 * GAMMA**2 - 16.0 * GAMMA + 1.0) / 4.0
B2 = (6.0 * GAMMA**2 - 20.0 * GAMMA + 5.0) / 4.0
E2 = (0.5 - GAMMA) / (C2 - GAMMA)  # weights of the embedded second order: 1 - E2, E2, 0

jit = numba.njit(cache=True, error_model="numpy", fastmath=False)


@jit
def execute(code: Any, r: Any, start: int, stop: int) -> None:
    """Run instructions start..stop-1 on the registers."""
    for k in range(start, stop):
        op = code[k, 0]
        a = r[code[k, 2]]
        b = r[code[k, 3]]
        if op == 0:
            y = a + b
        elif op == 1:
            y = a - b
        elif op == 2:
            y = a * b
        elif op == 3:
            y = a / b
        elif op == 4:
            y = -a
        elif op == 5:
            y = np.exp(a)
        elif op == 6:
            y = np.log(a)
        elif op == 7:
            y = np.sqrt(a)
        elif op == 8:
            y = np.sinh(a)
        elif op == 9:
            y = np.tanh(a)
        elif op == 10:
            y = abs(a)
        elif op == 11:
            y = min(a, b)
        elif op == 12:
            y = max(a, b)
        elif op == 13:
            y = 1.0 + a * a / 6.0 if abs(a) < 1e-4 else np.sinh(a) / a
        elif op == 14:
            y = 0.0 if a <= 0.0 and b != 0.0 else a**b
        else:
            y = b if a > 0.0 else r[code[k, 4]]
        r[code[k, 1]] = y


@jit
def current_at(p: Any, r: Any, u: float, x: float) -> Any:
    """Current of the device at a voltage and a state."""
    code, marks = p[0], p[1]
    r[0] = u
    r[1] = x
    execute(code, r, marks[0], marks[2])
    return r[marks[4]]


@jit
def excess(p: Any, r: Any, u: float, x: float, target: float, resistance: float) -> Any:
    """Voltage over device and resistor beyond the target; with resistance < 0, current beyond the target."""
    i = current_at(p, r, u, x)
    return i - target if resistance < 0.0 else u + resistance * i - target


@jit
def monotone_root(
    p: Any, r: Any, low: float, high: float, x: float, target: float, resistance: float, guess: float
) -> Any:
    """Zero of `excess` between low and high, where it rises: secant steps kept within a shrinking bracket."""
    u = min(max(guess, low), high)
    f = excess(p, r, u, x, target, resistance)
    f_low, f_high = np.nan, np.nan
    old, f_old = np.nan, np.nan
    for k in range(200):
        if f == 0.0:
            return u
        if f > 0.0:
            high, f_high = u, f
        else:
            low, f_low = u, f
        if high - low <= 4e-16 * (abs(low) + abs(high)):
            return u
        new = u - f * (u - old) / (f - f_old) if k > 0 and k % 8 != 7 else np.nan
        if not (new > low and new < high):
            if k % 8 == 3 and np.isfinite(f_low) and np.isfinite(f_high):
                new = low - f_low * (high - low) / (f_high - f_low)
            if not (new > low and new < high):
                new = 0.5 * (low + high) if k > 0 else (u + 1e-6 * (high - low) if f < 0.0 else u - 1e-6 * (high - low))
                if not (new > low and new < high):
                    new = 0.5 * (low + high)
        if abs(new - u) <= 1e-13 * abs(u):
            return new
        old, f_old = u, f
        u = new
        f = excess(p, r, u, x, target, resistance)
    return u


@jit
def device_voltage(p: Any, r: Any, circuit: Any, source: float, x: float) -> Any:
    """Voltage across the device; nan where a current source finds none.

    `circuit` holds kind, series resistance [ohm], compliance [A, or V for a current source; inf: none], last voltage,
    whether there is any of this, the margin that the state keeps from its ends, and the resolution of a stage.
    """
    kind, resistance, limit, guess = circuit[0], circuit[1], circuit[2], circuit[3]
    if source == 0.0:
        return 0.0
    sign = 1.0 if source > 0.0 else -1.0
    if kind == VOLTAGE_DRIVE:
        u = source
        low, high = min(0.0, source), max(0.0, source)
        if resistance > 0.0:
            u = monotone_root(p, r, low, high, x, source, resistance, guess)
        if limit < np.inf and abs(current_at(p, r, u, x)) > limit:
            u = monotone_root(p, r, min(0.0, u), max(0.0, u), x, sign * limit, -1.0, guess)
    else:
        reach = max(2.0 * abs(guess), 1e-3)
        top = min(limit, V_LIMIT)
        while not abs(current_at(p, r, sign * min(reach, top), x)) >= abs(source):
            if reach >= top:
                return sign * top if limit <= V_LIMIT else np.nan
            reach *= 2.0
        reach = min(reach, top)
        u = monotone_root(p, r, min(0.0, sign * reach), max(0.0, sign * reach), x, source, -1.0, guess)
    circuit[3] = u
    return u


@jit
def rate_at(p: Any, r: Any, circuit: Any, source: float, x: float) -> Any:
    """dx/dt at a source value and a state; the voltage-only part must have been run where there is no circuit."""
    code, marks = p[0], p[1]
    if circuit[4] > 0.0:
        r[0] = device_voltage(p, r, circuit, source, x)
        r[1] = x
        execute(code, r, marks[0], marks[3])
    else:
        r[1] = x
        execute(code, r, marks[1], marks[3])
    return r[marks[5]]


@jit
def stage(p: Any, r: Any, circuit: Any, source: float, base: float, w: float, guess: float, slope: Any) -> Any:
    """z within the bounds with z = base + w rate(z), the first one on the way; w [s] is the weight of the stage.

    `slope[0]` is the last known derivative of the rate. Secant first; if that leaves its bracket or stalls, a search
    from the base in the direction of the motion, and bisection, which also finds a jump.
    """
    if circuit[4] == 0.0:
        r[0] = source
        execute(p[0], r, p[1][0], p[1][1])
    bottom, top, root = circuit[5], 1.0 - circuit[5], circuit[6]
    z = min(max(guess, bottom), top)
    rate = rate_at(p, r, circuit, source, z)
    f = z - base - w * rate
    if abs(f) <= root:
        return z
    low, high = -np.inf, np.inf
    old, f_old = np.nan, np.nan
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
        f = z - base - w * rate_at(p, r, circuit, source, z)
        derivative = (f - f_old) / (z - old)
        if not derivative > 0.05:
            break
        if abs(f) <= root * max(1.0, derivative) or abs(f / derivative) <= root:
            slope[0] = (1.0 - derivative) / w
            return z
    return search(p, r, circuit, source, base, w)


@jit
def search(p: Any, r: Any, circuit: Any, source: float, base: float, w: float) -> Any:
    """`stage` by expanding from the base and bisecting."""
    bottom, top = circuit[5], 1.0 - circuit[5]
    start = min(max(base, bottom), top)
    f = start - base - w * rate_at(p, r, circuit, source, start)
    if not abs(f) > ROOT:
        return start if f == f else np.nan
    way = -1.0 if f > 0.0 else 1.0
    inner, outer, step = start, start, 1e-9
    while True:
        outer = min(max(start + way * step, bottom), top)
        g = outer - base - w * rate_at(p, r, circuit, source, outer)
        if g != g:
            return np.nan
        if g * f <= 0.0:
            break
        if outer in (bottom, top):
            return outer
        inner = outer
        step *= 4.0
    for _ in range(60):
        middle = 0.5 * (inner + outer)
        if abs(outer - inner) <= ROOT:
            break
        g = middle - base - w * rate_at(p, r, circuit, source, middle)
        if g * f <= 0.0:
            outer = middle
        else:
            inner = middle
    return 0.5 * (inner + outer)


@jit
def step_error(k1: float, k2: float, k3: float, w: float, slope: float) -> Any:
    """Error by the embedded second order; a rate that falls with the state damps it."""
    error = abs((B1 - 1.0 + E2) * k1 + (B2 - E2) * k2 + GAMMA * k3)
    return error / (1.0 + w * abs(slope)) if slope < 0.0 else error


@jit
def solve_device(
    p: Any, r: Any, circuit: Any, t: Any, s: Any, x0: float, tolerance: float, x: Any, u: Any, report: Any
) -> Any:
    """State `x` and device voltage `u` at the samples of a drive `s` over `t`; a status code.

    `report` receives the steps taken, and the sample and state where it stopped.
    """
    execute(p[0], r, 0, p[1][0])
    y = min(max(x0, circuit[5]), 1.0 - circuit[5])
    x[0] = x0
    u[0] = device_voltage(p, r, circuit, s[0], x0) if circuit[4] > 0.0 else s[0]
    if u[0] != u[0]:
        report[2] = y
        return NO_VOLTAGE
    slope = np.zeros(1)
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
            z1 = stage(p, r, circuit, s0 + ds * (at + GAMMA * h), y, w, y + w * speed, slope)
            k1 = (z1 - y) / GAMMA
            base = y + (C2 - GAMMA) * k1
            z2 = stage(p, r, circuit, s0 + ds * (at + C2 * h), base, w, base + GAMMA * k1, slope)
            k2 = (z2 - base) / GAMMA
            base = y + B1 * k1 + B2 * k2
            z3 = stage(p, r, circuit, s0 + ds * (at + h), base, w, base + GAMMA * k2, slope)
            k3 = (z3 - base) / GAMMA
            if z3 != z3:
                report[0], report[1], report[2] = steps, n, y
                return NOT_A_NUMBER
            error = step_error(k1, k2, k3, w, slope[0])
            factor = 0.9 * (tolerance / error) ** (1.0 / 3.0) if error > 0.0 else 4.0
            count += 1
            if error > tolerance and h > MIN_STEP:
                h = max(h * min(max(factor, 0.1), 0.7), MIN_STEP)
                if count < MAX_STEPS:
                    continue
            if count >= MAX_STEPS:
                report[0], report[1], report[2] = steps, n, y
                return TOO_MANY_STEPS
            at = 1.0 if h == 1.0 - at else at + h
            y = z3
            speed = k3 / (h * dt)  # [1/s], the rate at the end, where the next stage begins its search
            steps += 1
            h = min(h * min(max(factor, 0.3), 4.0), 1.0)
        x[n + 1] = y
        u[n + 1] = device_voltage(p, r, circuit, s[n + 1], y) if circuit[4] > 0.0 else s[n + 1]
        if u[n + 1] != u[n + 1]:
            report[0], report[1], report[2] = steps, n, y
            return NO_VOLTAGE
        h = min(h * dt / (t[n + 2] - t[n + 1]), 1.0) if n + 2 < t.size else h
    report[0] = steps
    return OK


@jit
def solve_many(
    p: Any, registers: Any, circuits: Any, t: Any, s: Any, x0: Any, tolerance: float, x: Any, u: Any, report: Any
) -> Any:
    """`solve_device` for each row; (status, row) of the first failure, or (OK, number of rows)."""
    for k in range(x.shape[0]):
        row = s[k % s.shape[0]]
        status = solve_device(p, registers[k], circuits[k], t, row, x0[k], tolerance, x[k], u[k], report[k])
        if status != OK:
            return status, k
    return OK, x.shape[0]
