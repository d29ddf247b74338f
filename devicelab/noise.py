"""Noise and wear of a device: reading, writing, telegraph noise, levels, stuck cells, endurance, retention, drift.

Samplers take a numpy or torch Generator, as in `devicelab.variability`. Spectra are one-sided, in SI units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .circuit import plain
from .errors import ParameterError
from .models.base import Model
from .ops import Value, is_tensor, ops_for
from .variability import Generator, Shape, _as, is_torch, normal, uniform

BOLTZMANN = 1.380649e-23
CHARGE = 1.602176634e-19
PRISTINE_RATIO = 10.0


def read_noise(
    i: Value, v: Value, rng: Generator, *, bandwidth: float, temperature: float = 300.0, relative: float = 0.0
) -> Value:
    """A read current with thermal, shot and relative noise, shape of `i`.

    Variance: (4 k T G + 2 q |i|) bandwidth + (relative i)^2, with G = i / v (Johnson 1928, Schottky 1918).

    Args:
        i: Current [A].
        v: Read voltage [V], broadcasts with `i`; where it is 0 there is no current to divide, and no thermal noise.
        rng: numpy or torch generator.
        bandwidth: Of the measurement [Hz].
        temperature: [K].
        relative: Standard deviation relative to the current, for everything else.
    """
    conductance = abs(i) / (abs(v) + (v == 0))
    variance = (4 * BOLTZMANN * temperature * conductance + 2 * CHARGE * abs(i)) * bandwidth + (relative * i) ** 2
    return i + variance**0.5 * _normal_like(variance, rng)


def flicker(size: tuple[int, int], dt: float, rng: Generator, *, f_low: float, f_high: float) -> Value:
    """Relative 1/f noise of unit variance, [rows, samples]: a sum of Ornstein-Uhlenbeck processes, three a decade.

    Args:
        size: Rows and samples.
        dt: Time between samples [s].
        rng: numpy or torch generator.
        f_low: Corner below which the spectrum is flat [Hz].
        f_high: Corner above which it falls as 1/f^2 [Hz].
    """
    from scipy.signal import lfilter

    if not 0 < f_low < f_high:
        raise ParameterError("corners must increase", got=(f_low, f_high), allowed="0 < f_low < f_high")
    corners = np.geomspace(f_low, f_high, max(2, round(3 * np.log10(f_high / f_low)) + 1))
    total = np.zeros(size)
    for corner in corners:
        rho = np.exp(-2 * np.pi * corner * dt)
        white = normal(size, rng)
        steps = white.cpu().numpy().copy() if is_torch(rng) else white
        steps[:, 1:] *= np.sqrt(1 - rho * rho)
        total += lfilter([1.0], [1.0, -rho], steps, axis=1)
    return _as(total / np.sqrt(corners.size), rng)


def telegraph(size: tuple[int, int], dt: float, rng: Generator, *, t_capture: float, t_emission: float) -> Value:
    """Random telegraph signal, 0 (empty) or 1 (captured), [rows, samples], stationary from the first sample.

    P(captured -> empty in dt) = t_c / (t_c + t_e) (1 - exp(-dt (1 / t_c + 1 / t_e))), and the mirror image: exact for
    any dt.

    Args:
        size: Rows and samples.
        dt: Time between samples [s].
        rng: numpy or torch generator.
        t_capture: Mean time to capture [s].
        t_emission: Mean time to emission [s].
    """
    if not (t_capture > 0 and t_emission > 0 and dt > 0):
        raise ParameterError("times must be positive", got=(t_capture, t_emission, dt))
    captured = t_emission / (t_capture + t_emission)
    change = -np.expm1(-dt * (1 / t_capture + 1 / t_emission))
    draws = uniform(size, rng)
    u = np.asarray(draws.cpu() if is_torch(rng) else draws)
    state = np.empty(size)
    state[:, 0] = u[:, 0] < captured
    for n in range(1, size[1]):
        # with probability `change` the state is drawn afresh from its stationary distribution
        fresh = u[:, n] < change
        state[:, n] = np.where(fresh, u[:, n] < change * captured, state[:, n - 1])
    return _as(state, rng)


def write_noise(x: Value, dx: Value, strength: float, rng: Generator) -> Value:
    """States after a change dx that came with noise: sd = strength sqrt(|dx|), reflected at 0 and 1.

    The variance grows with the way travelled, so it is the same whether a pulse is one step or a hundred, and zero
    where nothing moves.

    Args:
        x: States before.
        dx: Deterministic change.
        strength: Standard deviation after travelling the whole range.
        rng: numpy or torch generator.
    """
    return reflected(x + dx + strength * abs(dx) ** 0.5 * _normal_like(x + dx, rng))


def reflected(x: Value) -> Value:
    """States beyond 0 or 1 folded back between them."""
    return 1.0 - abs(1.0 - abs(x) % 2.0)


def _normal_like(value: Value, rng: Generator) -> Value:
    """Standard normal numbers of the shape of a value, of its kind and where it is."""
    drawn = normal(tuple(np.shape(value)), rng)
    if is_tensor(value):
        import torch

        return torch.as_tensor(drawn, dtype=value.dtype, device=value.device)
    return plain(drawn)


def levels(
    g: Value, count: int | NDArray[np.float64], g_min: float, g_max: float, even_in: Literal["G", "R"] = "G"
) -> Value:
    """Conductances moved to the nearest of a finite set.

    Args:
        g: Conductances [S].
        count: Number of levels, or the measured levels themselves [S].
        g_min: Lowest level [S].
        g_max: Highest level [S].
        even_in: Levels evenly spaced in conductance or in resistance.

    Raises:
        ParameterError: If there are fewer than two levels or their range is empty.
    """
    if isinstance(count, int):
        if count < 2 or not 0 < g_min < g_max:
            raise ParameterError(
                "impossible levels", got=(count, g_min, g_max), allowed="count >= 2, 0 < g_min < g_max"
            )
        even = np.linspace(g_min, g_max, count) if even_in == "G" else 1 / np.linspace(1 / g_min, 1 / g_max, count)
    else:
        even = np.sort(np.asarray(count, dtype=float))
    middle = 0.5 * (even[1:] + even[:-1])
    if isinstance(g, np.ndarray | float):
        return even[np.searchsorted(middle, g)]
    import torch

    grid, edges = (torch.as_tensor(a, dtype=g.dtype).to(g.device, non_blocking=g.is_cuda) for a in (even, middle))
    return grid[torch.searchsorted(edges, g.contiguous())]


def stuck(shape: Shape, rng: Generator, *, on: float = 0.0, off: float = 0.0, pristine: float = 0.0) -> Value:
    """Which devices are stuck: 0 works, 1 at r_on, 2 at r_off, 3 pristine (never formed). One draw, so no overlap.

    Args:
        shape: Shape of the array.
        rng: numpy or torch generator.
        on: Share stuck at r_on.
        off: Share stuck at r_off.
        pristine: Share never formed.

    Raises:
        ParameterError: If a share is negative or they exceed 1 together.
    """
    if min(on, off, pristine) < 0 or on + off + pristine > 1:
        raise ParameterError("impossible shares", got=(on, off, pristine), allowed=">= 0, at most 1 together")
    u = uniform(shape, rng)
    return 1 * (u < on) + 2 * ((u >= on) & (u < on + off)) + 3 * ((u >= on + off) & (u < on + off + pristine))


def apply_stuck(g: Value, kind: Value, g_on: float, g_off: float) -> Value:
    """Conductances with stuck devices put in; a pristine device conducts a tenth of g_off."""
    fixed = (kind == 1) * g_on + (kind == 2) * g_off + (kind == 3) * (g_off / PRISTINE_RATIO)
    return (kind == 0) * g + fixed


def drift(g: Value, t: Value, *, t0: float = 1.0, nu: Value = 0.1) -> Value:
    """Conductance after a time: g (t / t0)^-nu for t > t0, as phase-change cells do (Ielmini 2007)."""
    return g * ops_for(g, t, nu).maximum(t / t0, 1.0) ** (-nu)


@dataclass(frozen=True, kw_only=True)
class Wear:
    """Gradual or sudden change of a resistance with cycles or time: empirical metal-oxide model.

    Beyond x_th = p0 exp(p1 cell + p2 T_c), T_c = min(t_th / T, 1): sudden failure jumps to `stable`; gradual failure
    follows R = R0 (x / x_th)^(p3 (p1 cell + p2 T_c)), and ends at `stable`.

    Args:
        p0: Scale of the threshold (cycles, J or s).
        p1: Dependence on the cell size [1/nm].
        p2: Dependence on the temperature.
        p3: Exponent of gradual failure; 0 for sudden failure.
        stable: Resistance at the end [ohm].
        t_th: Temperature above which it gets worse [K].

    Source: Lammie, Rahimi Azghadi, Ielmini, Semicond. Sci. Technol. (2021).
    """

    p0: float
    p1: float
    p2: float
    p3: float
    stable: float
    t_th: float = 298.0

    def threshold(self, cell: Value = 10.0, temperature: Value = 298.0) -> Value:
        """Where the change begins, for a cell size [nm] and a temperature [K]."""
        return self.p0 * ops_for(cell, temperature).exp(self._exponent(cell, temperature))

    def _exponent(self, cell: Value, temperature: Value) -> Value:
        return self.p1 * cell + self.p2 * ops_for(temperature).minimum(self.t_th / temperature, 1.0)

    def resistance(self, r: Value, x: Value, *, cell: Value = 10.0, temperature: Value = 298.0) -> Value:
        """Resistance [ohm] after `x` cycles (or J, or s) of a device that began with `r` [ohm]."""
        ops = ops_for(r, x, cell, temperature)
        ratio = ops.maximum(x / self.threshold(cell, temperature), 1.0)
        if self.p3 == 0:
            return ops.select(ratio - 1.0, self.stable, r)
        worn = r * ratio ** (self.p3 * self._exponent(cell, temperature))
        return ops.select(self.stable - r, ops.minimum(worn, self.stable), ops.maximum(worn, self.stable))


def metastable_switches(model: Model, drive: Any, count: int, rng: Generator, *, x0: float = 0.0) -> Any:
    """Trace of an `MMS` device made of `count` switches that jump one by one.

    Between samples every switch is a two-state Markov chain with the voltage of the middle, solved exactly, so the
    number that jump is binomial whatever the step. The mean over many runs is the deterministic model.

    Args:
        model: An `MMS`; single numbers.
        drive: Voltage over time, [t].
        count: Number of switches.
        rng: numpy or torch generator.
        x0: Share of the switches that are on at the first sample.

    Returns:
        A `Trace`; x is the share that is on.
    """
    from .models.mms import MMS
    from .ops import NUMPY
    from .trace import Trace

    if not isinstance(model, MMS):
        raise ParameterError("not a model of metastable switches", got=model.name, allowed="mms")
    middle = model.polarity * 0.5 * (drive.v[:-1] + drive.v[1:])
    on, off = model._probabilities(middle, NUMPY)
    settled = on / (on + off)
    mixed = -np.expm1(-model.k * (on + off) * np.diff(drive.t))
    x = np.empty(drive.t.size)
    x[0] = n = round(x0 * count)
    for k in range(drive.t.size - 1):
        stay = _binomial(n, 1.0 - mixed[k] * (1.0 - settled[k]), rng)
        n = stay + _binomial(count - n, mixed[k] * settled[k], rng)
        x[k + 1] = n
    x /= count
    return Trace(
        drive.t, drive.v, np.asarray(model.current(drive.v, x)), x, {"source": "simulation", "model": model.name}
    )


def _binomial(count: int, p: float, rng: Generator) -> int:
    if not is_torch(rng):
        return int(rng.binomial(count, p))
    import torch

    number, chance = (torch.tensor(float(value), dtype=torch.float64, device=rng.device) for value in (count, p))
    return int(torch.binomial(number, chance, generator=rng))
