"""Descents from beside the best one: whether it is the bottom of its valley, and lower ones near it.

Where a switching edge falls between two samples chi2 has many shallow minima along one bent valley, and a descent ends
in the first that it meets. A step along the valley, farther than the covariance reaches, gets out of it.

Source: basin hopping, Wales and Doye, J. Phys. Chem. A 101, 5111 (1997), doi:10.1021/jp970984n; steps along the
directions that the data leave open: Transtrum, Machta and Sethna, Phys. Rev. E 83, 036701 (2011),
doi:10.1103/PhysRevE.83.036701.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problem import Problem

Array = NDArray[np.float64]

REACH = 3.0
"""Standard deviations that a step goes along a direction which the data determine."""

SHORTEST, FARTHEST = 0.02, 0.3
"""Lengths of steps along the others, in widths of the box, drawn with equal chance in each octave."""

TRIED = 32
"""Steps tried for each descent made: those whose chi2 is least."""

LOWER = 1.0
"""Fall of chi2, per chi2 per degree of freedom, that counts as one: half as much as one parameter more is worth."""

QUIET, QUIET_STEPPED = 2, 4
"""Rounds without one after which the search rests; where simulations take steps chi2 is rougher, and after two rounds a
Stanford fit rested 24 above the truth."""

MOST_ROUNDS = 12

BRIEF = 60
"""Evaluations of a descent: from beside a minimum enough for those that matter."""


@dataclass(frozen=True)
class Shaken:
    """Where it ended.

    Args:
        best: The best descent, as `Problem.descend` returns it.
        others: All other descents.
        rested: Whether the last rounds met nothing lower.
    """

    best: Any
    others: list[Any]
    rested: bool


def shake(problem: Problem, best: Any, count: int, seed: int, say: Callable[[str], None]) -> Shaken:
    """Go on from a descent to lower ones beside it until there are none.

    Args:
        problem: What is fitted.
        best: The descent to begin with.
        count: Descents a round.
        seed: Of the steps.
        say: Called with a line for each round that met a lower one.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5A]))
    others: list[Any] = []
    quiet = 0
    for _ in range(MOST_ROUNDS):
        theta = problem.vector(best.params)
        scale = max(best.chisqr / max(1, problem.size - theta.size), 1e-12)
        outcomes = [problem.descend(start, most=BRIEF) for start in _beside(problem, theta, scale, count, rng)]
        lowest = min(outcomes, key=lambda outcome: float(outcome.chisqr))
        fell = best.chisqr - lowest.chisqr
        others += [outcome for outcome in outcomes if outcome is not lowest]
        others.append(best if fell > 0 else lowest)
        best = lowest if fell > 0 else best
        if fell > LOWER * scale:
            quiet = 0
            say(f"a lower minimum beside it: chi2 per sample {best.chisqr / problem.size:.4g}")
            continue
        quiet += 1
        if quiet == (QUIET_STEPPED if problem.stepped else QUIET):
            return Shaken(best, others, True)
    return Shaken(best, others, False)


def _beside(problem: Problem, theta: Array, scale: float, count: int, rng: np.random.Generator) -> list[Array]:
    """Points beside a vector, along the valley for the larger part."""
    space = problem.space
    jac = problem.jacobian(theta) * space.width / scale**0.5
    _, stiff, directions = np.linalg.svd(jac, full_matrices=False)
    tries = TRIED * count
    length = SHORTEST * (FARTHEST / SHORTEST) ** rng.random((tries, 1))
    spread = np.minimum(REACH / np.maximum(stiff, 1e-12), length)
    moved = theta + space.width * ((spread * rng.normal(size=(tries, theta.size))) @ directions)
    moved = np.clip(moved, space.floor, space.ceiling)
    cost = np.square(problem.residual(moved)).sum(-1)
    # the least of each part, so that short steps, which always cost less, are not all of them
    parts = np.array_split(np.argsort(length[:, 0]), count)
    return [moved[part[int(cost[part].argmin())]] for part in parts]
