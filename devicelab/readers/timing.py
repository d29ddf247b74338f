"""The time of a trace: as measured, with coarse clocks refined, or uniform where the file has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import TraceError


def make_time(
    stamps: NDArray[np.float64] | None, samples: int, rate: float | None, duration: float | None, where: str
) -> tuple[NDArray[np.float64], str]:
    """Strictly increasing times and one line that says where they come from.

    Args:
        stamps: Measured times [s], shape [t], or None.
        samples: Number of samples.
        rate: Samples per second [1/s] for a uniform time.
        duration: Time from first to last sample [s] for a uniform time.
        where: File and line, for messages.

    Returns:
        Time [s], shape [t], and its origin in words.

    Raises:
        TraceError: If measured times go backwards or stand still.
    """
    if duration is not None:
        return np.linspace(0.0, duration, samples), f"uniform: {duration:g} s in all, given by the caller"
    if stamps is not None:
        return _refined(stamps, where)
    if rate is not None:
        return np.arange(samples) / rate, f"uniform: {rate:g} samples per second"
    return np.arange(samples, dtype=float), "synthetic: 1 s per sample, because the file has no time column"


def _refined(stamps: NDArray[np.float64], where: str) -> tuple[NDArray[np.float64], str]:
    """Spread samples that share a stamp evenly up to the next stamp, as a clock coarser than the sampling needs.

    The first sample of each group keeps its stamp. The last group, which has no next stamp, takes the mean step of the
    group before it.
    """
    steps = np.diff(stamps)
    if (steps < 0).any():
        at = int(np.argmax(steps < 0))
        raise TraceError(
            f"time goes backwards in {where}",
            got=f"{stamps[at]:.9g} s, then {stamps[at + 1]:.9g} s ({int((steps < 0).sum())} times)",
            allowed="times that increase",
            hint="several sweeps below each other: split='time', or split='NAME' of the column that parts them",
        )
    if (steps > 0).all():
        return stamps, "measured"
    first = np.flatnonzero(np.append(True, steps > 0))
    if first.size < 2:
        raise TraceError(
            f"time stands still in {where}",
            got=f"{stamps.size} samples at {stamps[0]:.9g} s",
            allowed="times that increase",
            hint="give the sampling rate: rate=<1/s>, or the whole duration=<s>",
        )
    counts = np.diff(np.append(first, stamps.size))
    ends = np.append(
        stamps[first[1:]], stamps[first[-1]] + (stamps[first[-1]] - stamps[first[-2]]) / counts[-2] * counts[-1]
    )
    within = np.arange(stamps.size) - np.repeat(first, counts)
    spread = stamps + within * np.repeat((ends - stamps[first]) / counts, counts)
    repeated = int(stamps.size - first.size)
    return spread, f"measured; {repeated} repeated stamps of a coarse clock spread evenly up to the next stamp"
