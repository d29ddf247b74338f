"""Traces that an instrument parted or ran together otherwise than by cycle: join branches, part cycles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..trace import Trace

DEAD_BAND = 0.05
"""Share of the largest voltage around zero that does not count as a sign, so that noise starts no cycles."""


def join_traces(traces: Sequence[Trace]) -> Trace:
    """One trace out of several that follow each other, such as forward and backward branches in separate files.

    Args:
        traces: In the order in which they were measured; each starts one median step after the one before ends.

    Returns:
        The joined trace with the metadata of the first; `meta["joined"]` lists the files.

    Raises:
        ShapeError: If there is nothing to join, or a trace is a batch of devices.
    """
    if not traces or any(np.ndim(trace.i) != 1 for trace in traces):
        raise ShapeError("cannot join these traces", got=f"{len(traces)} traces", allowed="one or more, of one device")
    times: list[NDArray[np.float64]] = []
    for trace in traces:
        start = times[-1][-1] + np.median(np.diff(trace.t)) if times else trace.t[0]
        times.append(trace.t - trace.t[0] + start)
    v, i = (np.concatenate([getattr(trace, name) for trace in traces]) for name in ("v", "i"))
    files = [trace.meta.get("file", "") for trace in traces]
    return Trace(np.concatenate(times), v, i, meta={**traces[0].meta, "joined": files})


def cycle_starts(v: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where cycles start in a voltage that is parted only by its sign: each return to the polarity of the first lobe.

    Args:
        v: Voltage [V], shape [t].

    Returns:
        Indices of the first sample of each cycle after the first one; empty for a single cycle.
    """
    band = DEAD_BAND * float(np.abs(v).max(initial=0.0))
    sure = np.flatnonzero(np.abs(v) > band)
    signs = np.sign(v[sure])
    back = np.flatnonzero((signs[1:] == signs[:1]) & (signs[:-1] == -signs[:1]))
    starts = []
    for k in back:
        last, first = sure[k], sure[k + 1]
        crossed = np.flatnonzero(np.sign(v[last : first + 1]) != np.sign(v[last]))
        starts.append(int(last + crossed[0]))
    return np.array(starts, dtype=np.int64)
