"""Records of pulses and reads in turn: which samples are reads, and what pulse went before each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace import Trace

Array = NDArray[np.float64]
SHORT = 3
NEAR_ZERO = 0.02
SAME = 0.01
COMMON = 0.7
MIN_READS = 10


def is_programme(trace: Trace) -> bool:
    """Whether the voltage is that of pulses and reads: it leaves zero at least twice, for three samples or fewer."""
    return alternates(trace.v)


def alternates(voltage: Any) -> bool:
    """`is_programme` of a voltage, shape [n]."""
    v = np.abs(np.asarray(voltage, dtype=float))
    away = np.concatenate(([False], v > NEAR_ZERO * v.max(initial=0.0), [False])).astype(int)
    edges = np.flatnonzero(np.diff(away)).reshape(-1, 2)
    return bool(len(edges) > 1 and np.median(edges[:, 1] - edges[:, 0]) <= SHORT)


def ramps(voltage: Any) -> tuple[float, list[tuple[float, NDArray[np.int_]]]]:
    """The read voltage [V], and runs of reads after pulses of one voltage [V]: each with the samples of its reads.

    A level is a stretch of equal voltage away from zero. Of the levels that are about as frequent as the most frequent
    one the smallest is the read; a run ends where the pulses change, in voltage or in
    samples (a long hold is not one more pulse). Runs of fewer than ten reads are left out.

    Args:
        voltage: Of each sample [V], shape [n].
    """
    v = np.asarray(voltage, dtype=float)
    step = SAME * float(np.abs(v).max(initial=1e-300))
    near = np.where(np.abs(v) > 2 * step, np.round(v / step), 0).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(near)) + 1).tolist(), v.size]
    levels = [(int(near[a]), b - a, b - 1) for a, b in pairwise(edges) if near[a] != 0]
    if not levels:
        return 0.0, []
    kinds, counts = np.unique([level for level, *_ in levels], return_counts=True)
    read = int(min(kinds[counts > COMMON * counts.max()], key=abs))
    found: list[tuple[tuple[int, int], int, list[int]]] = []
    pulse: tuple[tuple[int, int], int] | None = None
    for level, length, last in levels:
        if level != read:
            pulse = ((level, length), last)
        elif pulse is not None:
            if not found or found[-1][0] != pulse[0]:
                found.append((*pulse, []))
            found[-1][2].append(last)
    runs = [(float(v[at]), np.array(samples)) for _, at, samples in found if len(samples) >= MIN_READS]
    return float(np.median(v[near == read])), runs
