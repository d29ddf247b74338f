"""A trace taken apart: excursions to one polarity, each with a rise and a way back; and cycles."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..trace import Trace

Array = NDArray[np.float64]
Kind = Literal["set", "reset", "none"]
NEAR_ZERO = 0.02
SMALL = 0.1
SAME = 0.05
CLEAR = 3.0
GRID = (0.1, 0.9)


@dataclass(frozen=True)
class Excursion:
    """One way out to a voltage and back.

    Args:
        sign: +1 or -1, the sign of the voltage.
        start: First sample.
        peak: Sample at the largest |voltage|.
        stop: One past the last sample.
        kind: "set" where the way back conducts better than the way out, "reset" where worse, "none" otherwise.
        decades: Mean of log10 of |I back| / |I out| at equal voltages.
    """

    sign: int
    start: int
    peak: int
    stop: int
    kind: Kind
    decades: float

    @property
    def rise(self) -> slice:
        """Samples on the way out, the peak included."""
        return slice(self.start, self.peak + 1)

    @property
    def back(self) -> slice:
        """Samples on the way back, the peak included."""
        return slice(self.peak, self.stop)


def excursions(trace: Trace) -> list[Excursion]:
    """The excursions of a trace, in order of time.

    Between two of them the voltage changes sign or comes within 2 % of zero; those below a tenth of the largest
    |voltage| of the trace are left out.
    """
    v = np.asarray(trace.v)
    top = float(np.abs(v).max())
    label = np.where(np.abs(v) <= NEAR_ZERO * top, 0, np.sign(v)).astype(int)
    edges = np.flatnonzero(np.diff(label)) + 1
    found = []
    for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(v)], strict=True):
        sign = int(label[start])
        size = sign * v[start:stop]
        if sign == 0 or size.max() < SMALL * top:
            continue
        peak = start + int(np.argmax(size))
        decades = _contrast(sign * v, np.abs(np.asarray(trace.i)), start, peak, stop)
        kind: Kind = "set" if decades > SAME else "reset" if decades < -SAME else "none"
        found.append(Excursion(sign, start, peak, stop, kind, decades))
    return found


def _contrast(v: Array, i: Array, start: int, peak: int, stop: int) -> float:
    """Mean log10 of the current on the way back over that on the way out, over 10 to 90 % of the peak voltage.

    0 where it is less than three times its standard error: two noisy branches are not a loop.
    """
    if peak - start < 3 or stop - peak < 4:
        return 0.0
    grid = np.linspace(*GRID, 33) * v[peak]
    out, back = (_on_grid(v[part], i[part], grid) for part in (slice(start, peak + 1), slice(peak, stop)))
    inside = (grid >= max(v[start], v[stop - 1])) & (out > 0) & (back > 0)
    if np.count_nonzero(inside) < 5:
        return 0.0
    ratio = np.log10(back[inside] / out[inside])
    mean, error = float(np.mean(ratio)), float(np.std(ratio, ddof=1) / np.sqrt(ratio.size))
    return mean if abs(mean) > CLEAR * error else 0.0


def _on_grid(v: Array, i: Array, grid: Array) -> Array:
    order = np.argsort(v, kind="stable")
    return np.asarray(np.interp(grid, v[order], i[order]))


def split_cycles(trace: Trace) -> list[Trace]:
    """A trace with several cycles as one trace a cycle; a cycle ends where the first polarity comes again.

    An excursion that begins or ends away from zero is half of one (a period of a sine cut at its crest): it begins no
    cycle of its own.
    """
    parts = excursions(trace)
    limit = SMALL * float(np.abs(trace.v).max())
    whole = [p for p in parts if abs(trace.v[p.start]) <= limit and abs(trace.v[p.stop - 1]) <= limit]
    if not whole:
        return [trace]
    same = [p for p in whole if p.sign == whole[0].sign]
    if len(same) < 2:
        return [trace]
    alone = len(same) == len(whole)
    starts = [p.start for before, p in pairwise(whole) if p.sign == whole[0].sign and (alone or before.sign != p.sign)]
    edges = pairwise([0, *starts, len(trace)])
    return [trace.window(a, b).with_meta(cycle_in_trace=k) for k, (a, b) in enumerate(edges)]
