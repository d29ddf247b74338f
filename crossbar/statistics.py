"""Intervals of an accuracy: over draws of devices, or, for one draw, over the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from devicelab.errors import ParameterError


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Args:
        mean: The mean.
        low: Lower end.
        high: Upper end.
        n: Number of draws, or of images.
        method: What the interval is, and over what.
    """

    mean: float
    low: float
    high: float
    n: int
    method: str

    def percent(self) -> str:
        """Such as ``91.2 % (90.1 to 92.3)``."""
        return f"{100 * self.mean:.2f} % ({100 * self.low:.2f} to {100 * self.high:.2f})"


def over_draws(accuracies: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean accuracy over draws, with Student's t interval, cut at 0 and 1.

    The draws share their test images, so this is the spread that the devices cause, not that of the images.

    Raises:
        ParameterError: For fewer than two draws, which have no spread.
    """
    values = np.asarray(accuracies, dtype=float)
    if values.size < 2:
        raise ParameterError("an interval over draws needs two or more", got=values.size, hint="use over_images")
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))
    reach = float(stats.t.ppf(0.5 + level / 2, values.size - 1)) * error
    method = f"{100 * level:g} %, t over draws"
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach), values.size, method)


def over_images(right: int, images: int, *, level: float = 0.95) -> Interval:
    """Accuracy of one draw with the binomial interval of Wilson over the images.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927), doi:10.1080/01621459.1927.10502953.
    """
    if not 0 <= right <= images or images == 0:
        raise ParameterError("unusable count of right answers", got=f"{right} of {images}")
    found = stats.binomtest(right, images).proportion_ci(level, method="wilson")
    method = f"{100 * level:g} %, Wilson over images"
    return Interval(right / images, float(found.low), float(found.high), images, method)


def accuracy_interval(right: Sequence[int], images: int, *, level: float = 0.95) -> Interval:
    """Of some draws by their numbers of right answers: over draws if there are several, else over images."""
    if len(right) == 1:
        return over_images(right[0], images, level=level)
    return over_draws([count / images for count in right], level=level)
