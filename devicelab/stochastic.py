"""Noise of the motion itself: traces of a device whose state is kicked while it moves.

dx = rate dt + (kick): between two samples the state moves as the deterministic model says, solved as exactly as ever,
and then takes a normal step whose variance grows with time or with the way travelled, so that it does not depend on how
finely the drive is sampled. At 0 and 1 it is reflected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .circuit import plain
from .drive import Drive
from .errors import ParameterError
from .models.base import Model, check_one_state
from .models.stanford import Stanford
from .noise import reflected
from .ops import Value
from .simulation import trajectory, with_time_axis
from .trace import Trace
from .variability import Generator, normal

Array = NDArray[np.float64]


class MotionNoise(Protocol):
    """Standard deviation of the kick between two samples."""

    def deviation(self, model: Model, v: Array, x: Array, dx: Array, dt: float) -> Array:
        """For devices at states x [b] and voltage v [V], that move by dx [b] in dt [s]; [b]."""
        ...


@dataclass(frozen=True, kw_only=True)
class WriteNoise:
    """sd = strength sqrt(|dx|): nothing where nothing moves, see `noise.write_noise`.

    Args:
        strength: Standard deviation after travelling the whole range.
    """

    strength: float

    def deviation(self, model: Model, v: Array, x: Array, dx: Array, dt: float) -> Array:
        """See `MotionNoise`."""
        return np.asarray(self.strength * np.sqrt(np.abs(dx)))


@dataclass(frozen=True, kw_only=True)
class StanfordNoise:
    """The random velocity of the gap of the `Stanford` model, delta_gap / (1 + exp((t_crit - T) / t_smooth)) N(0, 1).

    As published it is drawn once a time step, so its effect grows with the step: over a time t the gap spreads by
    delta_gap sqrt(step t). Here `reference_step` is that step, whatever the sampling: white noise of one-sided density
    2 delta_gap^2 reference_step, or of a bandwidth of 1 / (2 reference_step). With samples `reference_step` apart this
    is the published model. It acts at zero bias too, as published: a device left alone wanders.

    Args:
        delta_gap: Random velocity far above t_crit [m/s].
        reference_step: Time step for which it is meant [s].
        t_crit: Temperature of its onset [K].
        t_smooth: Width of the onset [K].

    Raises:
        ParameterError: If a value is negative, or the step or the width is zero.

    Source: Jiang, Yu, Wong et al., SISPAD (2014), doi:10.1109/SISPAD.2014.6931558, and its model RRAM v1.0.0.
    """

    delta_gap: float
    reference_step: float
    t_crit: float = 450.0
    t_smooth: float = 500.0

    def __post_init__(self) -> None:
        if not (self.delta_gap >= 0 and self.reference_step > 0 and self.t_smooth > 0):
            raise ParameterError(
                "impossible noise of the gap",
                got=f"delta_gap {self.delta_gap}, reference_step {self.reference_step}, t_smooth {self.t_smooth}",
                allowed="delta_gap >= 0 m/s, reference_step > 0 s, t_smooth > 0 K",
            )

    def deviation(self, model: Model, v: Array, x: Array, dx: Array, dt: float) -> Array:
        """See `MotionNoise`."""
        if not isinstance(model, Stanford):
            raise ParameterError("noise of a gap needs a gap", got=model.name, allowed="stanford")
        temperature = model.t_ini + model.r_th * np.abs(v * model.current(v, x))
        velocity = self.delta_gap / (1.0 + np.exp((self.t_crit - temperature) / self.t_smooth))
        return np.asarray(velocity * np.sqrt(self.reference_step * dt) / (model.g_max - model.g_min))


def simulate_noisy(
    model: Model, drive: Drive, noise: MotionNoise, rng: Generator, *, x0: Value = 0.0, count: int = 1
) -> Trace:
    """Runs of a device whose motion is noisy.

    Args:
        model: The device; parameters scalar or [count].
        drive: Voltage over time, [t].
        noise: `WriteNoise`, `StanfordNoise`, or anything with their method.
        rng: numpy or torch generator.
        x0: State at the first sample, scalar or [count].
        count: Number of runs, each with noise of its own.

    Returns:
        Trace of shape [count, t].

    Raises:
        ParameterError: If the noise is not for this model, `count` is not positive, or `x0` leaves [0, 1].
        StepError: As in `simulate`.
    """
    check_one_state(model, "simulations with noise of the motion")
    if count < 1 or drive.v.ndim != 1:
        raise ParameterError("runs of one drive", got=f"count {count}, drive {drive.v.shape}", allowed=">= 1, [t]")
    starts = plain(x0)
    if not ((starts >= 0) & (starts <= 1)).all():
        raise ParameterError("x0 is out of bounds", got=x0, allowed="0 (high resistance) to 1 (low resistance)")
    t, v = drive.t, drive.v
    kicks = plain(normal((t.size - 1, count), rng))
    x = np.empty((t.size, count))
    x[0] = starts
    for n in range(t.size - 1):
        moved = np.broadcast_to(trajectory(model, t[n : n + 2], v[n : n + 2], x[n])[0], (count, 2))[:, -1]
        middle = np.full(count, 0.5 * (v[n] + v[n + 1]))
        deviation = noise.deviation(model, middle, x[n], moved - x[n], float(t[n + 1] - t[n]))
        x[n + 1] = reflected(moved + deviation * kicks[n])
    states = np.ascontiguousarray(x.T)
    i = np.asarray(with_time_axis(model).current(v, states)) + 0.0 * states
    meta = {"source": "simulation", "model": model.name, "noise": type(noise).__name__}
    return Trace(t, np.broadcast_to(v, states.shape), i, states, meta)
