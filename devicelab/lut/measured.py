"""Tables straight from measured branches: no model, only a stated rule of smoothing.

The rule, "binned isotonic" (`RULE`), for each group of branches and each polarity of the voltage:

1. Samples with 0 < |v| <= v_max are pooled and averaged in `nodes` bins of equal width; empty bins are left out.
2. (0 V, 0 A) is added; the bin means are made monotone by isotonic regression weighted with the counts.
3. ``pchip``: a monotone cubic through those means. ``bspline``: a cubic least-squares B-spline with nodes // 4 interior
   knots through the pooled samples first, its values at the bin means then made monotone in the same way.
4. 1e-6 of the mean conductance is added to every slope, so that a plateau still rises.

Groups are sorted by their conductance G at the read voltage; the state is (G - G_min) / (G_max - G_min).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator, make_lsq_spline

from ..errors import LutError
from ..trace import Trace
from .content import Curves, Levels
from .table import Lut

Array = NDArray[np.float64]
RULE = "binned isotonic"
FLOOR = 1e-6
LEAST = 4
"""Fewest samples of a branch on each polarity."""


def branches_of(trace: Trace, v_limit: float) -> tuple[list[Trace], list[int]]:
    """The quiet parts of a bipolar loop: runs of monotone voltage through 0 V, cut to |v| <= v_limit.

    Args:
        trace: One or many cycles.
        v_limit: A voltage [V] below which the device does not switch.

    Returns:
        The branches and, for each, its group: 0 rising, 1 falling voltage.

    Raises:
        LutError: If no run passes through 0 V.
    """
    v = np.asarray(trace.v)
    if v.ndim != 1:
        raise LutError("branches are cut from one device", got=v.shape, allowed="voltages [t]")
    inside = np.abs(v) <= v_limit
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    out: list[Trace] = []
    groups: list[int] = []
    for start, stop in edges.reshape(-1, 2):
        part = v[start:stop]
        if stop - start >= 2 * LEAST and part.min() < -0.5 * v_limit and part.max() > 0.5 * v_limit:
            out.append(trace.window(int(start), int(stop)))
            groups.append(int(part[-1] < part[0]))
    if not out:
        raise LutError(
            "no branch passes through 0 V", got=f"v_limit {v_limit:g} V", hint="a larger v_limit, or a bipolar loop"
        )
    return out, groups


def from_branches(
    branches: Sequence[Trace],
    v_read: float,
    *,
    groups: Sequence[int] | None = None,
    nodes: int = 16,
    smoothing: Literal["pchip", "bspline"] = "pchip",
    provenance: Mapping[str, Any] | None = None,
) -> Lut:
    """The table of measured branches, each measured at a state that did not move.

    Args:
        branches: Sweeps over both polarities; at least two states among them.
        v_read: Read voltage [V] that orders the states.
        groups: Number of the state of each branch; repeated branches of a state give its C2C spread. Each branch is a
            state of its own unless given.
        nodes: Bins of each polarity.
        smoothing: The rule, see the module.
        provenance: Where they came from.

    Returns:
        A table whose `error` is the largest step from a bin mean to the curve, relative to the state's largest current;
        `provenance["residual_rms"]` is the same of all samples in the mean.

    Raises:
        LutError: If there are too few samples or states, or two states read alike.
    """
    labels = np.arange(len(branches)) if groups is None else np.asarray(groups)
    found = np.unique(labels)
    if labels.shape != (len(branches),) or found.size < 2 or nodes < 2:
        raise LutError("a table needs two states", got=f"{found.size} groups, {nodes} nodes", allowed="2 or more")
    v_max = min(min(float(-np.min(b.v)), float(np.max(b.v))) for b in branches)
    if not 0 < abs(v_read) <= v_max:
        raise LutError("the read voltage is outside the branches", got=v_read, allowed=f"0 to {v_max:.4g} V")
    means = {
        int(k): _means([b for b, own in zip(branches, labels, strict=True) if own == k], v_max, nodes) for k in found
    }
    end = min(min(-v[0], v[-1]) for v, _, _ in means.values())
    voltage = np.linspace(-end, end, 2 * nodes + 1)
    voltage[nodes] = 0.0
    curves = {k: _curve(*found_means, branches, labels == k, smoothing) for k, found_means in means.items()}
    order = sorted(curves, key=lambda k: float(curves[k](v_read)) / v_read)
    table = np.stack([curves[k](voltage) for k in order])
    table[:, nodes] = 0.0
    g = np.array([float(curves[k](v_read)) / v_read for k in order])
    if not (np.diff(g) > 1e-9 * g[-1]).all():
        raise LutError("two states read alike", got=g.tolist()[:8], hint="put their branches into one group")
    state = (g - g[0]) / (g[-1] - g[0])
    state[-1] = 1.0
    steps = [np.abs(curves[k](means[k][0]) - means[k][1]).max() for k in order]
    error = float((np.array(steps) / np.abs(table).max(axis=1)).max())
    residual = _residual(branches, labels, order, curves, end)
    kept = {"source": "measured branches", "smoothing": f"{RULE}, {smoothing}", "residual_rms": residual}
    sources = {str(b.meta["sha256"]) for b in branches if "sha256" in b.meta}
    if sources:
        kept["source_sha256"] = " ".join(sorted(sources))
    sampled = Curves(
        voltage,
        np.stack([_resampled(b, voltage) for b in branches]),
        device=np.zeros(len(branches), dtype=np.int64),
        cycle=np.array([np.sum(labels[:k] == labels[k]) for k in range(len(branches))], dtype=np.int64),
        level=np.array([order.index(int(k)) for k in labels], dtype=np.int64),
    )
    final = Lut(voltage, state, table, {"model": "measured"}, {**kept, **(provenance or {})}, error, v_read=v_read)
    levels = Levels(v_read, final.mapping()[0], c2c=_c2c(sampled, order, v_read))
    from .make import changed

    return changed(final, levels=levels, curves=sampled)


def _means(branches: list[Trace], v_max: float, nodes: int) -> tuple[Array, Array, Array]:
    """Mean voltage, mean current and count of each bin, negative to positive, with (0, 0) between."""
    v, i = (np.concatenate([getattr(b, name) for b in branches]) for name in ("v", "i"))
    out: list[tuple[float, float, float]] = [(0.0, 0.0, float(v.size))]
    for sign in (-1, 1):
        own = (sign * v > 0) & (sign * v <= v_max)
        if own.sum() < LEAST:
            raise LutError("too few samples on one polarity", got=int(own.sum()), allowed=f"at least {LEAST}")
        place = np.minimum((np.abs(v[own]) / v_max * nodes).astype(int), nodes - 1)
        for k in np.unique(place):
            here = place == k
            out.append((float(v[own][here].mean()), float(i[own][here].mean()), float(here.sum())))
    columns = np.array(sorted(out)).T
    return columns[0], columns[1], columns[2]


def _curve(
    v: Array,
    i: Array,
    weight: Array,
    branches: Sequence[Trace],
    own: NDArray[np.bool_],
    smoothing: str,
) -> PchipInterpolator:
    if smoothing not in ("pchip", "bspline"):
        raise LutError("unknown smoothing", got=repr(smoothing), allowed="pchip, bspline")
    if smoothing == "bspline":
        i = _spline([b for b, mine in zip(branches, own, strict=True) if mine], v)
    zero = int(np.flatnonzero(v == 0)[0])
    rising = np.concatenate(
        [
            np.minimum(_isotonic(i[:zero], weight[:zero]), 0.0),
            [0.0],
            np.maximum(_isotonic(i[zero + 1 :], weight[zero + 1 :]), 0.0),
        ]
    )
    rising = rising + FLOOR * np.abs(rising).max() / np.abs(v).max() * v
    return PchipInterpolator(v, rising)


def _spline(branches: list[Trace], at: Array) -> Array:
    v, i = (np.concatenate([getattr(b, name) for b in branches]) for name in ("v", "i"))
    order = np.argsort(v, kind="stable")
    v, i = v[order], i[order]
    inner = at[(at > v[0]) & (at < v[-1])][2:-2:4]
    knots = np.concatenate([[v[0]] * 4, inner, [v[-1]] * 4])
    smooth = make_lsq_spline(v, i, knots)(at)
    return np.asarray(smooth - np.interp(0.0, at, smooth))


def _isotonic(values: Array, weight: Array) -> Array:
    """Weighted least-squares non-decreasing values: pool adjacent violators."""
    blocks: list[list[float]] = []
    for value, w in zip(values.tolist(), weight.tolist(), strict=True):
        blocks.append([value, w, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            b, a = blocks.pop(), blocks[-1]
            a[0] = (a[0] * a[1] + b[0] * b[1]) / (a[1] + b[1])
            a[1], a[2] = a[1] + b[1], a[2] + b[2]
    return np.repeat([b[0] for b in blocks], [int(b[2]) for b in blocks])


def _resampled(branch: Trace, voltage: Array) -> Array:
    order = np.argsort(branch.v, kind="stable")
    return np.asarray(np.interp(voltage, np.asarray(branch.v)[order], np.asarray(branch.i)[order]))


def _c2c(curves: Curves, order: list[int], v_read: float) -> Array | None:
    """Relative standard deviation of the conductance at the read voltage over the branches of each state, [s]."""
    g = np.array([np.interp(v_read, curves.voltage, row) for row in curves.current]) / v_read
    own = [g[curves.level == k] for k in range(len(order))]
    if min(part.size for part in own) < 2:
        return None
    return np.array([part.std(ddof=1) / part.mean() for part in own])


def _residual(
    branches: Sequence[Trace],
    labels: NDArray[Any],
    order: list[int],
    curves: Mapping[int, PchipInterpolator],
    end: float,
) -> float:
    square, count = 0.0, 0
    for branch, label in zip(branches, labels, strict=True):
        curve = curves[int(label)]
        own = np.abs(branch.v) <= end
        off = (branch.i[own] - curve(branch.v[own])) / np.abs(curve([-end, end])).max()
        square, count = square + float((off**2).sum()), count + int(own.sum())
    return float(np.sqrt(square / max(count, 1)))
