"""States of many cells: one resistance a cell, and how far the cells move from one reading of them to the next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from ..errors import ParameterError
from .number import Number
from .series import Series
from .variability import spread

Array = NDArray[np.float64]
MIN_CELLS = 8


def states(series: Series) -> dict[str, Number]:
    """Median and width of the resistance over cells, and, where a file has both, how far each cell moved.

    Raises:
        ParameterError: If fewer than 8 cells have a positive resistance.
    """
    found: dict[str, Number] = {}
    for role, values in series.y.items():
        good = values[values > 0]
        if good.size < MIN_CELLS:
            raise ParameterError("too few cells", got=good.size, allowed=f"{MIN_CELLS} with a resistance above 0")
        lead = "" if role == "state" else f"{role}."
        found[f"{lead}r"] = spread(good, series.unit).median
        log = spread(np.log10(good))
        found[f"{lead}decades"] = Number(log.sd.value, "1", "standard deviation of log10 R over cells",
                                         log.sd.low, log.sd.high, log.sd.interval)  # fmt: skip
    return found


def moved(first: Any, second: Any, factor: float) -> dict[str, Number]:
    """How far the same cells moved between two readings.

    Args:
        first: Resistances [ohm], > 0, shape [n].
        second: The same cells later, shape [n].
        factor: A cell beyond this factor, up or down, counts as changed.

    Returns:
        `shift`, the median of log10 (second / first); `moved`, the median of its size; `changed`, the share of cells.
    """
    ratio = np.log10(np.asarray(second, dtype=float) / np.asarray(first, dtype=float))
    n, far = ratio.size, int(np.count_nonzero(np.abs(ratio) > np.log10(factor)))
    low = float(beta.ppf(0.025, far, n - far + 1)) if far else 0.0
    high = float(beta.ppf(0.975, far + 1, n - far)) if far < n else 1.0
    shift, size = spread(ratio).median, spread(np.abs(ratio)).median
    return {
        "shift": Number(shift.value, "1", f"median of log10 (after / before), {n} cells", shift.low, shift.high,
                        shift.interval),
        "moved": Number(size.value, "1", f"median of |log10 (after / before)|, {n} cells", size.low, size.high,
                        size.interval),
        "changed": Number(far / n, "1", f"share of cells moved by more than a factor {factor:g}", low, high,
                          "95 %, Clopper-Pearson"),
    }  # fmt: skip


def paired(one: Series, other: Series) -> tuple[Array, Array] | None:
    """Resistances of the cells that both have, None where they are not mostly the same cells."""
    _, a, b = np.intersect1d(one.x, other.x, return_indices=True)
    if a.size < max(MIN_CELLS, 0.5 * min(len(one), len(other))):
        return None
    first, second = (next(iter(item.y.values()))[rows] for item, rows in ((one, a), (other, b)))
    good = (first > 0) & (second > 0)
    return (first[good], second[good]) if np.count_nonzero(good) >= MIN_CELLS else None


def between(items: Sequence[Series], factor: float) -> Mapping[str, Number]:
    """`moved` from each reading of the same cells to the next: files named pre or before come first, then by name."""
    found: dict[str, Number] = {}
    alone = sorted((item for item in items if set(item.y) == {"state"}), key=_when)
    for one, other in pairwise(alone):
        both = paired(one, other)
        if both is not None:
            names = " / ".join(str(item.meta.get("file", item.name)).partition(".")[0] for item in (other, one))
            for key, number in moved(*both, factor).items():
                found[f"{names}: {key}"] = number
    return found


def _when(item: Series) -> int:
    name = str(item.meta.get("file", item.name))
    return -1 if re.search(r"(?i)(?<![a-z])pre|before|initial|fresh", name) else 0
