"""How far a parameter goes inside the likelihood region, where chi2 is no parabola.

The end of a profile likelihood interval is the extreme of a parameter over the region in which chi2 has risen by no
more than the threshold. It is found directly, without a walk along the profile: at every point chi2 is taken for the
square of a straight residual, whose region is an ellipsoid with its extreme in closed form, and that is where the next
point lies. All ends move in one batch.

Source: Venzon and Moolgavkar, Appl. Statist. 37, 87 (1988), doi:10.2307/2347496 (ends by Newton's method on the same
conditions); More, Lecture Notes in Mathematics 630, 105 (1978), doi:10.1007/BFb0067700 (steps of limited length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .problem import STEP, STEPPED, Problem
from .space import Coordinate

Array = NDArray[np.float64]

ROUNDS = 25
"""Steps at most; ends of bent valleys of VTEAM are found in 8 to 15."""

STEPPED_ROUNDS = 6
"""The same where simulations take steps, which cost a hundred times as much."""

FOUND = 0.02
"""Share of the threshold to which chi2 is met at an end, and of the half interval by which it still moves."""

NEARLY = 0.8
"""Share of the threshold that makes an end of a point where a walk stopped: it is 10 % of the interval short, about."""

LONGEST = 4.0
"""Length of the longest step, in straight half intervals; where chi2 comes out otherwise than foreseen, they shrink."""

BENDING, SHORTER = 0.3, 0.4
"""Share of the threshold by which chi2 may differ from what was foreseen for a step to count; the next one is this much
shorter where it does not."""


def region_ends(
    problem: Problem, theta: Array, axes: Sequence[int], rise: float, rounds: int = ROUNDS
) -> tuple[Array, NDArray[np.bool_]]:
    """Extremes of parameters where chi2 with its prior is at most `rise` above that of a vector.

    Args:
        problem: What was fitted.
        theta: The best vector, [p].
        axes: Which parameters, k of them, by index of their coordinates.
        rise: Of chi2, at the ends of the interval.
        rounds: Steps at most.

    Returns:
        Lower and upper ends in the coordinates of `Space.physical`, [k, 2], and whether each is one: otherwise it is
        the farthest point met inside the region, where steps of the residual stopped the walk.
    """
    ends = _Ends.at(problem, theta, axes, rise)
    for _ in range(rounds):
        left = np.flatnonzero(~ends.found)
        if not left.size:
            break
        ends.advance(left)
    near = ends.found | (ends.risen > NEARLY * rise)
    return ends.best.reshape(-1, 2), near.reshape(-1, 2)


@dataclass
class _Ends:
    """Walks to the ends, [b] of them: first to where a straight residual would have its own, then on from there."""

    problem: Problem
    k: NDArray[np.intp]
    sign: Array
    rise: float
    here: Array
    residual: Array
    jac: Array
    radius: Array
    start: Array
    best: Array
    risen: Array
    found: NDArray[np.bool_]

    @classmethod
    def at(cls, problem: Problem, theta: Array, axes: Sequence[int], rise: float) -> _Ends:
        """All at the best vector."""
        k = np.repeat(np.asarray(axes, dtype=np.intp), 2)
        count = k.size
        residual, jac = _linear(problem, theta[None, :])
        value = problem.space.physical(theta)[k]
        return cls(
            problem, k, np.tile([-1.0, 1.0], len(axes)), rise, np.repeat(theta[None, :], count, axis=0),
            np.repeat(residual, count, axis=0), np.repeat(jac, count, axis=0), np.full(count, LONGEST * rise**0.5),
            value, value.copy(), np.zeros(count), np.zeros(count, dtype=bool),
        )  # fmt: skip

    def value(self, points: Array, at: NDArray[np.intp]) -> Array:
        """The parameter of each end at points [b, p]."""
        values = self.problem.space.physical(points)
        return np.asarray(values[np.arange(at.size), self.k[at]])

    def advance(self, at: NDArray[np.intp]) -> None:
        """One step of the ends `at`."""
        limit = self.limit
        cost = np.square(self.residual[at]).sum(-1)
        step, predicted, length = self.step(at)
        space = self.problem.space
        ahead = np.clip(self.here[at] + step, space.floor, space.ceiling)
        value, now = self.value(ahead, at), self.value(self.here[at], at)
        still = np.abs(value - now) < FOUND * np.abs(now - self.start[at])
        done = still & (np.abs(cost - limit) < FOUND * self.rise) & (length < 0.99 * self.radius[at])
        self.found[at[done]] = True
        at, ahead, value, predicted, length, cost = (
            part[~done] for part in (at, ahead, value, predicted, length, cost)
        )
        if not at.size:
            return
        residual, jac = _linear(self.problem, ahead)
        reached = np.square(residual).sum(-1)
        error = np.abs(reached - predicted)
        good = (error < BENDING * self.rise) | (reached < np.minimum(cost, limit))
        shorter, same = SHORTER * length, self.radius[at]
        longer = np.minimum(np.maximum(2.0 * length, same), LONGEST * self.rise**0.5)
        self.radius[at] = np.where(good, np.where(error < FOUND * self.rise, longer, same), shorter)
        inside = reached <= limit + FOUND * self.rise
        farther = inside & (self.sign[at] * (value - self.best[at]) > 0)
        self.best[at] = np.where(farther, value, self.best[at])
        self.risen[at] = np.where(farther, reached - limit + self.rise, self.risen[at])
        taken = at[good]
        self.here[taken], self.residual[taken], self.jac[taken] = ahead[good], residual[good], jac[good]

    @cached_property
    def limit(self) -> float:
        """chi2 at the ends."""
        return float(np.square(self.residual[0]).sum()) + self.rise

    def slope(self, at: NDArray[np.intp]) -> Array:
        """Of the parameter, times the sign of its end, along the coordinates, [b, p]."""
        space, p = self.problem.space, self.here.shape[1]
        small = np.diag(1e-6 * space.width)
        cloud = np.stack([self.here[at][:, None, :] + small, self.here[at][:, None, :] - small])
        up, down = (
            space.physical(cloud.reshape(-1, p))
            .reshape(2, at.size, p, p)[:, np.arange(at.size), :, self.k[at]]
            .transpose(1, 0, 2)
        )
        return np.asarray(self.sign[at, None] * (up - down) / (2e-6 * space.width))

    def step(self, at: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """To the extreme of the ellipsoid [b, p], not longer than the radius; chi2 foreseen there; length of the step.

        Coordinates that a step would take over a hard limit stay where they are.
        """
        space, here, residual, jac = self.problem.space, self.here[at], self.residual[at], self.jac[at]
        slope = self.slope(at)
        now = np.square(residual).sum(-1)
        free = np.ones(here.shape, dtype=bool)
        for _ in range(3):
            part = jac * free[:, None, :]
            hessian = np.swapaxes(part, 1, 2) @ part + np.eye(here.shape[1]) * ~free[:, None, :]
            gradient = np.einsum("bnp,bn->bp", part, residual)
            down = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
            along = np.linalg.solve(hessian, (slope * free)[..., None])[..., 0]
            least = now + np.einsum("bp,bp->b", gradient, down)
            gain = np.maximum(np.einsum("bp,bp->b", slope * free, along), 1e-300)
            step = down + np.sqrt(np.maximum(self.limit - least, 0.0) / gain)[:, None] * along
            edge = 1e-9 * space.width
            beyond = (step > 0) & (here >= space.ceiling - edge) | (step < 0) & (here <= space.floor + edge)
            if not (beyond & free).any():
                break
            free &= ~beyond
        length = np.sqrt(np.einsum("bp,bpq,bq->b", step, hessian, step))
        room = np.where(step > 0, space.ceiling - here, here - space.floor)
        to_wall = np.where(np.abs(step) > 1e-12 * space.width, room / np.maximum(np.abs(step), 1e-300), np.inf).min(-1)
        share = np.minimum(np.minimum(1.0, to_wall), self.radius[at] / np.maximum(length, 1e-300))
        step = share[:, None] * step
        # the gradient of the coordinates that stay has no part in it
        predicted = now + 2.0 * np.einsum("bp,bp->b", gradient, step) + np.einsum("bp,bpq,bq->b", step, hessian, step)
        return step, predicted, share * length


def _linear(problem: Problem, points: Array) -> tuple[Array, Array]:
    """Residuals [b, n + p] and Jacobians [b, n + p, p] at points [b, p], by one-sided differences in one batch."""
    space, (count, p) = problem.space, points.shape
    width = (STEPPED if problem.stepped else STEP) * space.width
    back = points[:, None, :] + np.diag(width) > space.ceiling
    step = np.where(back.any(-1), -width, width)
    cloud = points[:, None, :] + step[:, :, None] * np.eye(p)
    every = problem.residual(np.concatenate([points, cloud.reshape(-1, p)]))
    residual = every[:count]
    jac = (every[count:].reshape(count, p, -1) - residual[:, None, :]) / step[:, :, None]
    return residual, np.swapaxes(jac, 1, 2)


def undo(axis: Coordinate, value: float) -> float:
    """A parameter in its own unit from its coordinate in `Space.physical`."""
    return float(axis.sign * 10.0 ** min(value, 300.0)) if axis.log else float(value)
