"""Which sweep to take next: the one after which a parameter would be known best, by expected information."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab import Drive, Model, Trace, pulses, simulate, triangle
from devicelab.errors import ParameterError, unknown_name
from devicelab.simulation import trajectory

from .noise import Noise
from .profile import Profile, profile
from .result import FitResult

Array = NDArray[np.float64]

AMPLITUDES = (0.7, 0.85, 1.0, 1.2, 1.5)
RATES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
PULSE_WIDTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
PULSES = 10
DEVICES = 7
"""Plausible devices, spread over the profile, that a sweep is tried on: more than this has not changed an order."""

KNOWN = 0.1
"""A parameter counts as determined when its standard deviation is below this, in its natural logarithm: 10 %."""

STEP = 1e-4
"""Relative step of difference quotients: rate, exponent and threshold nearly replace each other, and a coarser quotient
would tell them apart by its own error."""

TOLERANCE = 1e-8
"""Of simulations that take steps, far below `STEP`."""

PRIOR: dict[str, float] = {"resistance": 2.0, "current": 2.0, "threshold": 1.0, "rate": 12.0, "exponent": 1.0}
"""Standard deviation of the logarithm before any trace: resistances to a decade, rates to five."""

ELSE_PRIOR = 3.0
"""Standard deviation of any other parameter, in its unit or its logarithm."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A measurement that could be taken.

    Args:
        name: In words.
        drive: Its voltage.
        fresh: Whether it starts in the state that the device is in after one such sweep (False), or fully in the state
            opposite to where the first half drives it (True): pulses after a RESET or SET.
    """

    name: str
    drive: Drive
    fresh: bool = False

    @property
    def ramp(self) -> float:
        """Largest rate of change of the voltage [V/s]."""
        return float(np.abs(np.diff(self.drive.v) / np.diff(self.drive.t)).max())


@dataclass(frozen=True)
class Option:
    """What a sweep would bring.

    Args:
        sweep: The sweep.
        before: Standard deviation of the logarithm of the parameter from the traces so far, geometric mean over the
            plausible devices.
        after: The same with the sweep.
        determined: Share of the plausible devices for which the parameter would be known to 10 %.
        information: Gain of log det of the Fisher information of all parameters, mean over the devices (D-optimality).
        overshoot: Overshoot of the threshold [V] by the design rule, median over the devices; nan without a threshold.
        samples: Samples that fall into the overshoot.
    """

    sweep: Sweep
    before: float
    after: float
    determined: float
    information: float
    overshoot: float
    samples: float


@dataclass(frozen=True)
class Advice:
    """Sweeps in order of what they would tell about one parameter, best first."""

    parameter: str
    options: list[Option]
    profile: Profile

    @property
    def best(self) -> Option:
        """The first."""
        return self.options[0]

    def report(self, count: int = 8) -> str:
        """A table to read."""
        first = self.best
        lines = [
            self.profile.line(),
            f"known now to a factor {_factor(first.before)}; the best sweep would give {_factor(first.after)}, and "
            f"10 % or better on {100 * first.determined:.0f} % of the devices that the traces allow",
            "",
            f"{'sweep':<44}{'factor after':>13}{'known on':>10}{'overshoot':>12}{'samples in it':>15}",
        ]
        for option in self.options[:count]:
            dv = f"{1e3 * option.overshoot:.3g} mV" if np.isfinite(option.overshoot) else "-"
            inside = f"{option.samples:.3g}" if np.isfinite(option.samples) else "-"
            lines.append(
                f"{option.sweep.name:<44}{_factor(option.after):>13}{100 * option.determined:>8.0f} %"
                f"{dv:>12}{inside:>15}"
            )
        return "\n".join(lines)


def _factor(sd: float) -> str:
    return f"{np.exp(min(2 * sd, 200.0)):.3g}"


def overshoot(model: Model, direction: str, ramp: float) -> float:
    """How far a ramp passes the threshold before the device has switched [V].

    dV = [(a + 1) r |v_th|^a / k]^(1 / (a + 1)) from integrating k (v / v_th - 1)^a along v = v_th + r t to a travel of
    1. Rate and exponent leave a mark in a trace only where dV spans several samples.

    Args:
        model: With v_on, k_on, a_on or v_off, k_off, a_off.
        direction: "on" or "off".
        ramp: Rate of change of the voltage [V/s].
    """
    values = model.values()
    if f"v_{direction}" not in values or f"k_{direction}" not in values:
        return float("nan")
    v, k = abs(float(values[f"v_{direction}"])), float(values[f"k_{direction}"])
    a = float(values.get(f"a_{direction}", 1.0))
    return float(((a + 1) * ramp * v**a / k) ** (1 / (a + 1)))


def candidates(
    result: FitResult, *, v_max: float | None = None, fastest: float | None = None, points: int | None = None
) -> list[Sweep]:
    """Triangular sweeps of several amplitudes and rates, and pulse trains of several heights and widths.

    Args:
        result: A fit; amplitudes and rates are multiples of those of its traces.
        v_max: Largest voltage allowed [V]; 1.5 times the largest applied by default.
        fastest: Shortest time between samples [s]; a millionth of the shortest so far by default.
        points: Samples a sweep; those of the longest trace by default.
    """
    traces = result.traces
    top, bottom = max(float(t.v.max()) for t in traces), min(float(t.v.min()) for t in traces)
    limit = 1.5 * max(top, -bottom) if v_max is None else v_max
    period = float(np.median([trace.duration for trace in traces]))
    count = max(len(trace) for trace in traces) if points is None else points
    step = 1e-6 * min(float(np.diff(trace.t).min()) for trace in traces) if fastest is None else fastest
    first = traces[0].v[int(np.argmax(np.abs(traces[0].v) > 0.2 * np.abs(traces[0].v).max()))]
    ends = (top, bottom) if first >= 0 else (bottom, top)
    out = []
    for share in AMPLITUDES:
        one, two = (share * end for end in ends)
        if max(abs(one), abs(two)) > limit * (1 + 1e-9) or one == 0:
            continue
        for rate in RATES:
            duration = period / rate
            if duration / count < step * (1 - 1e-9):
                continue
            drive = triangle(one, duration, negative=two, points=count)
            out.append(Sweep(f"triangle {one:+.3g} / {two:+.3g} V in {duration:.3g} s", drive))
    for height in (top, bottom):
        for share in AMPLITUDES:
            if abs(share * height) > limit or abs(height) < 0.1 * max(top, -bottom):
                continue
            for width in PULSE_WIDTHS:
                if width * period / 20 < step:
                    continue
                drive = pulses(share * height, width * period, count=PULSES, points=20)
                out.append(Sweep(f"{PULSES} pulses {share * height:+.3g} V, {width * period:.3g} s", drive, fresh=True))
    return out


def advise(
    result: FitResult,
    parameter: str,
    sweeps: Sequence[Sweep] | None = None,
    *,
    found: Mapping[str, Profile] | None = None,
    progress: Callable[[str], None] | None = None,
    **limits: Any,
) -> Advice:
    """Which further sweep would determine a parameter.

    Where a parameter is not determined its value is arbitrary, and a sweep that suits this value proves nothing. So
    every sweep is tried on devices spread over the parameter's profile: all that the traces so far allow. The Fisher
    information of the traces so far and of the sweep is summed, and the standard deviation of the parameter follows
    (c-optimality). Every sweep has its own unknown initial state.

    Args:
        result: A fit.
        parameter: A parameter that was fitted.
        sweeps: What could be measured; `candidates` by default.
        found: Profiles that were taken already.
        progress: Called with a line of text at every stage.
        **limits: For `candidates`: v_max, fastest, points.

    Returns:
        Sweeps with the best first: by the share of plausible devices on which the parameter would be known to 10 %,
        then by the standard deviation.

    Raises:
        ParameterError: If the parameter was not fitted, or there is no sweep to choose from.

    Source: Atkinson, Donev, Tobias, Optimum Experimental Designs (2007), chapters 10 and 17.
    """
    names = _names(result, parameter)
    options = candidates(result, **limits) if sweeps is None else list(sweeps)
    if not options:
        raise ParameterError("no sweep within the limits", got=limits, hint="a larger v_max or a shorter fastest")
    say = progress or (lambda line: None)
    path = (found or {}).get(parameter) or profile(result, parameter)[parameter]
    say(path.line())
    devices = _plausible(result, path)
    at = names.index(parameter)
    ohm = result.series_resistance
    known = [
        information(device, names, result.traces, result.x0, result.masks, result.noise, ohm) for device in devices
    ]
    before = [_spread(info, at) for info in known]
    out = []
    for sweep in options:
        gains = [_of_sweep(device, names, sweep, result.noise, ohm) for device in devices]
        joint = [a + b for a, b in zip(known, gains, strict=True)]
        after = np.array([_spread(info, at) for info in joint])
        det = [np.linalg.slogdet(b)[1] - np.linalg.slogdet(a)[1] for a, b in zip(known, joint, strict=True)]
        dv = float(np.median([overshoot(device, _direction(parameter), sweep.ramp) for device in devices]))
        steps = float(np.median(np.abs(np.diff(sweep.drive.v))[np.abs(np.diff(sweep.drive.v)) > 0]))
        out.append(
            Option(sweep, _geometric(before), _geometric(after), float(np.mean(after < KNOWN)), float(np.mean(det)),
                   dv, dv / steps)
        )  # fmt: skip
    say(f"{len(out)} sweeps on {len(devices)} plausible devices")
    return Advice(parameter, sorted(out, key=lambda option: (-option.determined, option.after)), path)


def predicted(result: FitResult, parameter: str, sweep: Sweep | None = None, model: Model | None = None) -> float:
    """Standard deviation of ln |parameter| that the traces so far and a sweep would leave, if `model` were the device.

    Args:
        result: A fit.
        parameter: A parameter that was fitted.
        sweep: A further sweep; without one, what the traces so far leave.
        model: The device; the fitted one by default.
    """
    names = _names(result, parameter)
    device = result.model if model is None else model
    ohm = result.series_resistance
    info = information(device, names, result.traces, result.x0, result.masks, result.noise, ohm)
    if sweep is not None:
        info = info + _of_sweep(device, names, sweep, result.noise, ohm)
    return _spread(info, names.index(parameter))


def _names(result: FitResult, parameter: str) -> list[str]:
    """Parameters of the device that were fitted, the one asked for among them."""
    if result.problem.bench.drive != "voltage":
        raise ParameterError("advice is for devices at a voltage source", got=f"{result.problem.bench.drive} drive")
    if "series_resistance" in [axis.name for axis in result.problem.space.axes]:
        raise ParameterError(
            "advice needs a known series resistance",
            got=f"a fitted one, {result.series_resistance:.4g} ohm",
            hint=f"fit again with series_resistance={result.series_resistance:.4g}",
        )
    names = [axis.name for axis in result.problem.space.axes if axis.is_parameter]
    if parameter not in names:
        raise unknown_name("fitted parameter", parameter, names)
    return names


def _direction(parameter: str) -> str:
    return parameter.rpartition("_")[2]


def _geometric(values: Any) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-12)))))


def _plausible(result: FitResult, path: Profile) -> list[Model]:
    """Devices spread evenly over the inside of a profile, the best one among them."""
    inside = [k for k, delta in enumerate(path.delta) if delta <= path.threshold]
    scale = np.log(np.abs(path.values[inside])) if path.log else path.values[inside]
    targets = np.linspace(scale.min(), scale.max(), DEVICES)
    chosen = sorted({inside[int(np.argmin(np.abs(scale - target)))] for target in targets})
    return [path.models[k] for k in chosen]


def _scales(model: Model, names: Sequence[str]) -> tuple[Array, NDArray[np.bool_]]:
    """Prior standard deviation, and whether the coordinate is ln |p|, for every parameter."""
    roles = {entry.name: entry.role for entry in model.parameters()}
    log = np.array([float(getattr(model, name)) != 0 and roles[name] != "curvature" for name in names])
    prior = np.array([PRIOR.get(roles[name], ELSE_PRIOR) for name in names])
    return prior, log


def _response(model: Model, t: Array, v: Array, x0: Any, ohm: float) -> tuple[Array, Array]:
    """State and current at a source with a resistor in series, shape [b, t]."""
    if ohm == 0:
        x, i = trajectory(model, t, v, x0)
        return np.asarray(x), np.asarray(i)
    out = simulate(model, Drive(t, v), x0=x0, series_resistance=ohm, tolerance=TOLERANCE)
    return np.asarray(out.x), np.asarray(out.i)


def _sensitivity(
    model: Model, names: Sequence[str], t: Array, v: Array, x0: float, noise: Noise, ohm: float = 0.0
) -> Array:
    """Change of the current in standard deviations by ln |p| (or p), and by the initial state in the last column."""
    _, log = _scales(model, names)
    count = len(names)
    values = {}
    for k, name in enumerate(names):
        base = float(getattr(model, name))
        column = np.full(2 * count + 2, base)
        for row, sign in ((k, 1.0), (count + k, -1.0)):
            column[row] = base * np.exp(sign * STEP) if log[k] else max(0.0, base + sign * STEP)
        values[name] = column
    start = np.full(2 * count + 2, x0)
    start[-2:] = min(x0 + 1e-3, 1.0), max(x0 - 1e-3, 0.0)
    _, i = _response(model.bind(**values), t, v, start, ohm)
    level = noise.transform(i)
    ends = np.array([values[name][k] - values[name][count + k] for k, name in enumerate(names)])
    width = np.append(np.where(log, 2 * STEP, ends), start[-2] - start[-1])
    rows = np.concatenate([level[:count] - level[count : 2 * count], (level[-2] - level[-1])[None, :]])
    return np.asarray((rows / width[:, None]).T)


def information(
    model: Model, names: Sequence[str], traces: Sequence[Trace], x0: Sequence[float], masks: Sequence[Any],
    noise: Noise, ohm: float = 0.0,
) -> Array:  # fmt: skip
    """Fisher information of the parameters, ln |p| or p where that is 0 or a curvature, with the prior, shape [p, p].

    Args:
        model: The device.
        names: Parameters.
        traces: Voltages of the source.
        x0: Initial state of each, integrated out.
        masks: Samples of each that count.
        noise: Of the current.
        ohm: Series resistance.
    """
    prior, _ = _scales(model, names)
    total = np.diag(prior**-2.0)
    for trace, start, mask in zip(traces, x0, masks, strict=True):
        total = total + _without_state(_sensitivity(model, names, trace.t, trace.v, start, noise, ohm)[mask])
    return total


def _without_state(rows: Array) -> Array:
    """Information of the parameters from one trace whose initial state is unknown (Schur complement)."""
    full = rows.T @ rows
    full[-1, -1] += 4.0  # a state in [0, 1] is known to about a half
    return np.asarray(full[:-1, :-1] - np.outer(full[:-1, -1], full[-1, :-1]) / full[-1, -1])


def _of_sweep(model: Model, names: Sequence[str], sweep: Sweep, noise: Noise, ohm: float) -> Array:
    t, v = sweep.drive.t, sweep.drive.v
    if sweep.fresh:
        towards = np.sign(v[int(np.abs(v).argmax())]) * model.polarity * model.set_sign
        start = 0.02 if towards > 0 else 0.98
    else:
        start = 0.5
        for _ in range(2):
            start = float(np.clip(_response(model, t, v, start, ohm)[0][-1], 0.0, 1.0))
    return _without_state(_sensitivity(model, names, t, v, start, noise, ohm))


def _spread(info: Array, at: int) -> float:
    return float(np.sqrt(np.linalg.inv(info)[at, at]))
