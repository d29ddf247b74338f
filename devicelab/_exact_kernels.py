"""Compiled kernels: whole traces of separable models, one device after the other, in a few passes over the samples.

Equations come as instructions (`tape.TraceProgram`) and are run a block of samples at a time, so reading an instruction
costs nothing against carrying it out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._kernels import execute, jit

BLOCK = 128
"""Samples at once: the registers of a block stay in the cache."""

IDENTITY, LOGISTIC, QUADRATIC, TABLE = range(4)
"""Kinds of coordinates."""

V, X = 3, 4
"""Registers of a sample's voltage and state, as in `tape.TraceProgram`."""

MARGIN = 1e-9  # of `coordinates.MARGIN`; a test keeps them equal


@jit
def power(base: float, exponent: float) -> Any:
    """base ** exponent for base >= 0; small whole exponents, as published, by multiplication."""
    if base <= 0.0 and exponent != 0.0:
        return 0.0
    n = int(exponent) if 0.0 < exponent <= 16.0 else 0
    if n != exponent:
        return base**exponent
    result = base if n % 2 else 1.0
    while n > 1:
        n //= 2
        base *= base
        if n % 2:
            result *= base
    return result


@jit
def execute_block(code: Any, r: Any, start: int, stop: int, m: int) -> None:
    """Run instructions start..stop-1 on the first m columns of the registers [registers, BLOCK]."""
    for k in range(start, stop):
        op = code[k, 0]
        y, a, b = r[code[k, 1]], r[code[k, 2]], r[code[k, 3]]
        if op == 0:
            for j in range(m):
                y[j] = a[j] + b[j]
        elif op == 1:
            for j in range(m):
                y[j] = a[j] - b[j]
        elif op == 2:
            for j in range(m):
                y[j] = a[j] * b[j]
        elif op == 3:
            for j in range(m):
                y[j] = a[j] / b[j]
        elif op == 4:
            for j in range(m):
                y[j] = -a[j]
        elif op == 5:
            for j in range(m):
                y[j] = np.exp(a[j])
        elif op == 6:
            for j in range(m):
                y[j] = np.log(a[j])
        elif op == 7:
            for j in range(m):
                y[j] = np.sqrt(a[j])
        elif op == 8:
            for j in range(m):
                y[j] = np.sinh(a[j])
        elif op == 9:
            for j in range(m):
                y[j] = np.tanh(a[j])
        elif op == 10:
            for j in range(m):
                y[j] = abs(a[j])
        elif op == 11:
            for j in range(m):
                y[j] = b[j] if b[j] < a[j] else a[j]
        elif op == 12:
            for j in range(m):
                y[j] = b[j] if b[j] > a[j] else a[j]
        elif op == 13:
            for j in range(m):
                y[j] = 1.0 + a[j] * a[j] / 6.0 if abs(a[j]) < 1e-4 else np.sinh(a[j]) / a[j]
        elif op == 14:
            for j in range(m):
                y[j] = power(a[j], b[j])
        else:
            c = r[code[k, 4]]
            for j in range(m):
                y[j] = b[j] if a[j] > 0.0 else c[j]


@jit
def interval(q: float, nodes: Any, k: int) -> Any:
    """Index k with nodes[k] <= q < nodes[k + 1], or the nearest; the search begins at the last one found."""
    last = nodes.size - 2
    for _ in range(8):
        if q < nodes[k]:
            if k == 0:
                return 0
            k -= 1
        elif q >= nodes[k + 1]:
            if k == last:
                return last
            k += 1
        else:
            return k
    return min(max(np.searchsorted(nodes, q, side="right") - 1, 0), last)


@jit
def hermite(q: float, x0: float, x1: float, y0: float, y1: float, s0: float, s1: float) -> Any:
    """Cubic Hermite interpolation between two nodes."""
    h = x1 - x0
    u = (q - x0) / h if h != 0.0 else q - x0
    m0, m1 = h * s0, h * s1
    return y0 + u * (m0 + u * (3.0 * (y1 - y0) - 2.0 * m0 - m1 + u * (2.0 * (y0 - y1) + m0 + m1)))


@jit
def clip(value: float, low: float, high: float) -> Any:
    """`value` within bounds; a value that is no number stays that."""
    if value < low:
        return low
    return high if value > high else value


@jit
def of_row(rows: Any, k: int) -> Any:
    """Row k of what is either one row a device or one row for all."""
    return rows[k if rows.shape[0] > 1 else 0]


@jit
def coordinate_of(c: Any, row: int) -> Any:
    """The coordinate of one device: kind, [low, high, two numbers], psi, nodes, slopes."""
    kind, numbers, psi, nodes, slopes = c
    return kind, of_row(numbers, row), of_row(psi, row), of_row(nodes, row), of_row(slopes, row)


@jit
def forward(c: Any, x: float) -> Any:
    """psi(x) of a coordinate, see `exact.pack`."""
    kind, numbers, psi, nodes, slopes = c
    a, b = numbers[2], numbers[3]
    if kind == IDENTITY:
        return x
    if kind == LOGISTIC:
        x = clip(x, MARGIN, 1.0 - MARGIN)
        return np.log(x / (1.0 - x)) / a
    if kind == QUADRATIC:
        return b * x - 0.5 * (b - a) * x * x
    bottom = MARGIN if np.isinf(numbers[0]) else nodes[0]
    top = 1.0 - MARGIN if np.isinf(numbers[1]) else nodes[nodes.size - 1]
    x = clip(x, bottom, top)
    k = interval(x, nodes, nodes.size // 2)
    return hermite(x, nodes[k], nodes[k + 1], psi[k], psi[k + 1], 1.0 / slopes[k], 1.0 / slopes[k + 1])


@jit
def invert(c: Any, q: Any, x: Any, begin: int, end: int) -> None:
    """x(psi) of the values q[begin:end]."""
    kind, numbers, psi, nodes, slopes = c
    a, b = numbers[2], numbers[3]
    if kind == IDENTITY:
        for j in range(begin, end):
            x[j] = q[j]
    elif kind == LOGISTIC:
        for j in range(begin, end):
            x[j] = 0.5 * (1.0 + np.tanh(0.5 * a * q[j]))
    elif kind == QUADRATIC:
        for j in range(begin, end):
            rest = b * b - 2.0 * (b - a) * q[j]
            y = 2.0 * q[j] / (b + np.sqrt(rest if rest > 0.0 else 0.0))
            x[j] = 1.0 if y > 1.0 else y
    else:
        k = interval(q[begin], psi, psi.size // 2)
        last = psi.size - 1
        for j in range(begin, end):
            y = clip(q[j], psi[0], psi[last])
            if not (psi[k] <= y < psi[k + 1]):
                k = interval(y, psi, k)
            x[j] = hermite(y, psi[k], psi[k + 1], nodes[k], nodes[k + 1], slopes[k], slopes[k + 1])


@jit
def walk(
    code: Any, marks: Any, r: Any, t: Any, v: Any, x0: float, up: Any, down: Any, flags: Any, work: Any, x: Any
) -> None:
    """States `x` at the samples: a running sum of the travel in the coordinate of its direction, no steps.

    `flags` are the sign of SET, the polarity, and 1 if both directions share a coordinate; `work` is [3, BLOCK].
    """
    set_sign, polarity, shared = flags
    v0, v1, dt, travel = r[0], r[1], r[2], r[marks[3]]
    q, y, ends = work[0], work[1], work[2]  # psi, states, and the sample at which a segment ends, -1: none
    here = up
    low, high = here[1][0], here[1][1]
    x[0] = now = start = x0
    psi = first = forward(here, x0)
    direction = 0
    n = 0
    while n < t.size - 1:
        m = 0
        while n < t.size - 1 and m < BLOCK - 1:
            a, b, step = polarity * v[n], polarity * v[n + 1], t[n + 1] - t[n]
            n += 1
            if a < 0.0 < b or b < 0.0 < a:
                share = a / (a - b)
                v0[m], v1[m], dt[m], ends[m] = a, 0.0, share * step, -1.0
                m += 1
                a, step = 0.0, step - share * step
            v0[m], v1[m], dt[m], ends[m] = a, b, step, n
            m += 1
        execute_block(code, r, marks[0], marks[1], m)
        j = 0
        while j < m:
            begin = j
            towards = np.sign(v0[j] + v1[j]) * set_sign
            if shared == 0 and towards != direction and towards != 0.0:
                direction = towards
                here = up if towards > 0.0 else down
                low, high = here[1][0], here[1][1]
                start = now
                psi = first = forward(here, now)
            while j < m:
                towards = np.sign(v0[j] + v1[j]) * set_sign
                if shared == 0 and towards != direction and towards != 0.0:
                    break
                if travel[j] != 0.0:
                    psi = clip(psi + travel[j], low, high)
                q[j] = psi
                j += 1
            invert(here, q, y, begin, j)
            for k in range(begin, j):
                if q[k] == first:
                    y[k] = start
            now = y[j - 1]
        for k in range(m):
            if ends[k] >= 0.0:
                x[int(ends[k])] = y[k]


@jit
def one(
    code: Any, marks: Any, used: Any, own: Any, t: Any, v: Any, x0: float, up: Any, down: Any, flags: Any,
    r: Any, work: Any, x: Any, i: Any,
) -> None:  # fmt: skip
    """`traces` of one device, its parameters in `own`; `r` [registers, BLOCK] and `work` are scratch."""
    polarity = flags[1]
    execute(code, own, 0, marks[0])
    width = min(BLOCK, 2 * t.size)  # a segment may be split once
    for k in used:
        r[k, :width] = own[k]
    walk(code, marks, r, t, v, x0, up, down, flags, work, x)
    for n in range(0, t.size, BLOCK):
        m = min(BLOCK, t.size - n)
        for j in range(m):
            r[V, j] = polarity * v[n + j]
            r[X, j] = x[n + j]
        execute_block(code, r, marks[1], marks[2], m)
        current = r[marks[4]]
        for j in range(m):
            i[n + j] = polarity * current[j]


@jit
def traces(
    code: Any, marks: Any, used: Any, registers: Any, t: Any, v: Any, x0: Any, up: Any, down: Any, flags: Any,
    x: Any, i: Any,
) -> None:  # fmt: skip
    """States `x` and currents `i`, [b, t], of devices with their parameters in `registers` [b, registers].

    `marks` are the ends of the three parts (parameters only, travel, current) and the registers of travel and current.
    """
    r, work = np.empty((registers.shape[1], BLOCK)), np.empty((3, BLOCK))
    for row in range(x.shape[0]):
        here, there = coordinate_of(up, row), coordinate_of(down, row)
        start = x0[row if x0.size > 1 else 0]
        one(
            code, marks, used, registers[row], t, of_row(v, row), start, here, there, flags, r, work, x[row], i[row]
        )  # fmt: skip


@jit
def chain(
    code: Any, marks: Any, used: Any, registers: Any, bounds: Any, t: Any, v: Any, x0: float, up: Any, down: Any,
    flags: Any, x: Any, i: Any,
) -> None:  # fmt: skip
    """`traces` of one device whose parameters change: row k of `registers` holds from bounds[k] to bounds[k + 1].

    The state goes on from row to row; `x` and `i` are [t].
    """
    r, work = np.empty((registers.shape[1], BLOCK)), np.empty((3, BLOCK))
    for k in range(registers.shape[0]):
        a, b = bounds[k], bounds[k + 1] + 1
        here, there = coordinate_of(up, k), coordinate_of(down, k)
        start = x0 if k == 0 else x[a]
        one(
            code, marks, used, registers[k], t[a:b], v[a:b], start, here, there, flags, r, work, x[a:b], i[a:b]
        )  # fmt: skip
