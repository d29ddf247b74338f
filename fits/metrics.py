"""How far fitted traces are from measured ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from devicelab import Trace
from devicelab.characterise import characterise

from .noise import Noise

Array = NDArray[np.float64]


def metrics(
    traces: Sequence[Trace], fitted: Sequence[Array], masks: Sequence[NDArray[np.bool_]], noise: Noise
) -> dict[str, float]:
    """How far fitted currents are from measured ones.

    Returns:
        nrmse: root mean square of the difference over that of the current; log_rmse: that of log10 of the ratio
        [decades], where both are above three times the noise floor; area_error: relative error of the loop area summed
        over traces; masked: share of the samples left out. Only samples in the masks count, except for `masked`.
    """
    measured = np.concatenate([trace.i[mask] for trace, mask in zip(traces, masks, strict=True)])
    model = np.concatenate([i[mask] for i, mask in zip(fitted, masks, strict=True)])
    loud = (np.abs(measured) > 3 * noise.floor) & (measured * model > 0)
    ratio = np.log10(model[loud] / measured[loud]) if loud.any() else np.array([np.nan])
    areas = [
        (loop_area(trace.v[mask], trace.i[mask]), loop_area(trace.v[mask], i[mask]))
        for trace, i, mask in zip(traces, fitted, masks, strict=True)
    ]
    true, mine = (sum(pair) for pair in zip(*areas, strict=True))
    return {
        "nrmse": float(np.sqrt(np.mean(np.square(model - measured)) / np.mean(np.square(measured)))),
        "log_rmse": float(np.sqrt(np.mean(np.square(ratio)))),
        "area_error": mine / true - 1.0 if true else float("nan"),
        "masked": 1.0 - measured.size / sum(len(trace) for trace in traces),
    }


def loop_area(v: Array, i: Array) -> float:
    """Sum of the areas of the two lobes of a loop [W]: the integral of i dv over each sign of the voltage."""
    step = np.diff(v)
    mean_i, mean_v = 0.5 * (i[1:] + i[:-1]), 0.5 * (v[1:] + v[:-1])
    return float(sum(abs((mean_i * step)[sign * mean_v > 0].sum()) for sign in (1, -1)))


def switching_errors(measured: Sequence[Trace], fitted: Sequence[Trace]) -> dict[str, float]:
    """Mean |difference| of V_set and V_reset [V], by the threshold method of `devicelab.characterise`.

    The threshold is half of the largest current of each branch, of each trace its own; nan where no pair of traces
    shows the switching.
    """
    out = {}
    for name in ("v_set", "v_reset"):
        pairs = [(characterise(a), characterise(b)) for a, b in zip(measured, fitted, strict=True)]
        errors = np.array([abs(a.value(f"{name}.threshold") - b.value(f"{name}.threshold")) for a, b in pairs])
        good = errors[np.isfinite(errors)]
        out[f"{name}_error"] = float(good.mean()) if good.size else float("nan")
    return out
