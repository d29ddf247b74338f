"""Do the sub-circuits do what the models say? Every model x window x drive, by ngspice and by `devicelab.simulate`.

Both run on the same time points, ngspice's own, so the difference is ngspice's integration and our translation, not
sampling. Drives are made to fit each device: every half cycle of the sine takes the device without window half of the
way; where the hard bound itself is tested it lasts twice as long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

import devicelab
from devicelab import Drive, NoWindow, Window, pulses, sine, triangle
from devicelab.errors import DevicelabError, MissingDependencyError
from devicelab.models import MODELS, Model
from devicelab.parameter_sets import parameter_set_info
from devicelab.windows import WINDOWS

from .bench import Settings
from .simulation import simulate

Array = NDArray[np.float64]

SMOOTH_LIMIT = 1e-4
"""Largest difference, as a fraction of full scale, where the rate is smooth in time and in the state."""

SHARP_LIMIT = 1e-3
"""The same for a hard bound and for pulse trains: both have corners, each of which restarts the integration."""

ORDERS = {"joglekar": {"p": 2.0}, "biolek": {"p": 2.0}, "prodromakis": {"p": 2.0}}
"""Parameters of the windows; the others have none or good defaults."""

BRIEF = 1e-6
"""Share of the drive within which a SET that feeds on itself runs away."""

KINDS = ("sine", "triangle", "pulses")

TRAVELS = (0.5, 0.2, 0.05)
"""How far a half cycle should move the state; the first that can be reached."""

PULSES = 20
"""Pairs of pulses in a train."""

BOUND_RELTOL = 1e-9
"""ngspice's relative tolerance where a hard bound is hit: regains what the corner costs at 1e-8."""

ATTEMPTS = ((1.0, 1.0), (0.1, 1.0), (0.001, 0.2))
"""Factors on `reltol` and on the longest step, tried in turn until a case is within its limit."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the conformance table.

    Args:
        model: Name of the device.
        window: Name of its window.
        drive: sine, triangle or pulses.
        x_error: Largest difference of the state, or of either of two.
        i_error: Largest difference of the current, as a fraction of the largest current.
        limit: What both should stay below.
        travel: Range of the state that the run went through.
        points: ngspice's time points.
        seconds: Time that ngspice took [s].
        reltol: ngspice's relative tolerance.
        step: Longest time step, relative to that of `simulate`.
        method: ngspice's method of integration.
        over: Share of the drive's duration during which state or current is off by more than the limit.
        way: Range of the state, or of the current over its largest, in each of these stretches at least.
        note: Why there are no numbers, or why they are over the limit.
    """

    model: str
    window: str
    drive: str
    x_error: float
    i_error: float
    limit: float
    reltol: float
    travel: float = 0.0
    points: int = 0
    seconds: float = 0.0
    step: float = 1.0
    method: str = Settings.method
    over: float = 0.0
    way: float = 0.0
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether state and current both agree at every time point."""
        return max(self.x_error, self.i_error) <= self.limit  # false for nan


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """What moves a device to and fro: peak voltages [V] of both signs, the period of a sine [s], and where to start."""

    high: float
    low: float
    period: float
    x0: float

    def drive(self, kind: str, stretch: float = 1.0) -> Drive:
        """The drive of this kind, `stretch` times as slow."""
        period = self.period * stretch
        if kind == "sine":
            return sine((self.high - self.low) / 2, 1 / period, periods=2.0, offset=(self.high + self.low) / 2)
        if kind == "triangle":
            return triangle(self.high, period, negative=self.low, cycles=2)
        return pulses([self.high, self.low], period / 40, count=PULSES)


def conformance(
    devices: Mapping[str, Model] | None = None,
    windows: Iterable[Window] | None = None,
    *,
    kinds: Iterable[str] = KINDS,
    reltol: float | None = None,
    progress: Callable[[Row], None] | None = None,
) -> list[Row]:
    """The conformance table: one row for each device, window and drive.

    Args:
        devices: Devices by name; by default `conformance_devices()`.
        windows: Windows to put into each of them; by default one of every registered kind.
        kinds: Drives: sine, triangle, pulses.
        reltol: ngspice's relative tolerance; by default that of `simulate`, 1e-9 where a hard bound is hit, and where a
            case would otherwise stay above its limit a tenth of it, then a thousandth with steps of a fifth.
        progress: Called with each row as it is done.

    Returns:
        The rows, in order. A case that cannot be run has a note instead of numbers.

    Raises:
        MissingDependencyError: If there is no ngspice.
    """
    chosen = list(windows) if windows is not None else [cls(**ORDERS.get(key, {})) for key, cls in WINDOWS.items()]
    rows = []
    for name, device in (devices if devices is not None else conformance_devices()).items():
        stimulus = fitting_stimulus(device)
        for window in chosen:
            for kind in kinds:
                rows.append(compare(name, device.replace(window=window), kind, stimulus, reltol=reltol))
                if progress:
                    progress(rows[-1])
    return rows


def conformance_devices() -> dict[str, Model]:
    """A device of every registered model, from the first of its parameter sets, and variants that add equations."""
    sets = [devicelab.parameter_set(name) for name in devicelab.parameter_sets()]
    devices = {name: next((made for made in sets if made.name == name), None) for name in MODELS}
    found = {name: device for name, device in devices.items() if device is not None}
    vteam = found.get("vteam")
    if isinstance(vteam, devicelab.VTEAM):
        found["vteam, exponential R, sinh"] = vteam.replace(resistance="exponential", b_on=0.5, b_off=2.5)
        found["vteam, polarity -1"] = vteam.replace(polarity=-1)
    return found


def compare(
    name: str, model: Model, kind: str, stimulus: Stimulus | None = None, *, reltol: float | None = None
) -> Row:
    """One row: ngspice against `devicelab.simulate` on ngspice's own time points; arguments as in `conformance`."""
    hard = isinstance(model.window, NoWindow)
    row = Row(
        model=name,
        window=next((key for key, cls in WINDOWS.items() if type(model.window) is cls), type(model.window).__name__),
        drive=kind,
        x_error=np.nan,
        i_error=np.nan,
        limit=SHARP_LIMIT if hard or kind == "pulses" else SMOOTH_LIMIT,
        reltol=reltol or (BOUND_RELTOL if hard else Settings.reltol),
    )
    stimulus = stimulus or fitting_stimulus(model)
    if stimulus is None:
        return replace(row, note="no voltage up to that of its parameter set moves the state both ways")
    drive = stimulus.drive(kind, 2.0 if hard else 1.0)
    tried: list[Row] = []
    for finer, shorter in ATTEMPTS if reltol is None else ATTEMPTS[:1]:
        tried.append(_measured(replace(row, reltol=row.reltol * finer, step=shorter), model, drive, stimulus.x0))
        if tried[-1].ok:
            break
    return _explained(tried)


def _explained(tried: list[Row]) -> Row:
    """The closest attempt, with the reason if it is over its limit only where the state runs away.

    That is: the state is off for at most 1e-6 of the drive, it or the current goes through ten times the limit
    meanwhile, and every tighter attempt was closer.
    """
    sizes = [float(np.nan_to_num(max(row.x_error, row.i_error), nan=np.inf)) for row in tried]
    best = tried[int(np.argmin(sizes))]
    closer = len(tried) > 1 and all(a > b for a, b in pairwise(sizes))
    failed = [row for row in tried if row.note]
    if best.points and failed:
        where = ", ".join(f"{row.reltol:.0e}" for row in failed)
        return replace(best, note=f"ngspice fails at {where} with longer steps")
    if best.ok or best.note or not (closer and best.over <= BRIEF and best.way > 10 * best.limit):
        return best
    course = ", ".join(f"{size:.0e} at {row.reltol:.0e}" for size, row in zip(sizes, tried, strict=True))
    return replace(best, note=f"for {best.over:.0e} of the drive, where SET runs away: {course}")


def _measured(row: Row, model: Model, drive: Drive, x0: float) -> Row:
    try:
        start = time.perf_counter()
        longest = Settings().step(drive) * row.step
        spice = simulate(model, drive, x0=x0, reltol=row.reltol, max_step=longest)
        seconds = time.perf_counter() - start
        exact = devicelab.simulate(model, Drive(spice.t, spice.v), x0=x0)
    except MissingDependencyError:
        raise
    except DevicelabError as error:
        return replace(row, note=error.what)
    x_off = np.abs(spice.x - exact.x)
    if exact.y is not None:
        x_off = np.maximum(x_off, np.abs(spice.y - exact.y))
    i_off = np.abs(spice.i - exact.i) / np.abs(exact.i).max()
    over, way = _excursions(
        spice.t, np.stack([exact.x, exact.i / np.abs(exact.i).max()]), np.maximum(x_off, i_off) > row.limit
    )
    return replace(
        row,
        x_error=float(x_off.max()),
        i_error=float(i_off.max()),
        reltol=spice.meta["reltol"],
        method=spice.meta["method"],
        over=over,
        way=way,
        travel=float(np.ptp(spice.x)),
        points=len(spice),
        seconds=seconds,
    )


def _excursions(t: Array, x: Array, off: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the time spent in stretches of samples that are off, and the least range of the states in any of them.

    Of several courses [..., t], state and current, that of the one that moves most.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], off, [False]]).astype(int)))
    stretches = [slice(max(first - 1, 0), last + 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    if not stretches:
        return 0.0, 0.0
    way = min(np.ptp(x[..., at], axis=-1).max() for at in stretches)
    return float(sum(np.ptp(t[at]) for at in stretches) / np.ptp(t)), float(way)


def fitting_stimulus(model: Model) -> Stimulus | None:
    """What moves the device, without its window, half of the way in one half cycle and back in the other.

    The direction in which the device is slower gets the amplitude of the model's first parameter set, the other one as
    much less as it takes. Less of the way, where the device comes to rest before; None if it does not move.
    """
    free = model.replace(window=NoWindow())
    return next((found for travel in TRAVELS if (found := _stimulus(free, travel))), None)


def _stimulus(free: Model, travel: float) -> Stimulus | None:
    amplitude, period = _usual_drive(free)
    up = 1.0 if free.set_sign * free.polarity > 0 else -1.0

    def moved(voltage: float, duration: float) -> float:
        half = sine(voltage, 0.5 / duration, periods=0.5, points=200)
        start = 0.3 if voltage * up > 0 else 0.7
        try:
            return float(abs(devicelab.simulate(free, half, x0=start).x[-1] - start))
        except DevicelabError:  # too fast to be followed: certainly moved
            return 1.0

    halves = [_crossing(partial(moved, sign * amplitude), travel, 1e-9 * period, 1e6 * period) for sign in (1, -1)]
    if None in halves:
        return None
    half = max(duration for duration in halves if duration is not None)

    def peak(sign: float, size: float) -> float:
        return moved(sign * size, half)

    high, low = (_crossing(partial(peak, sign), travel, 1e-3 * amplitude, amplitude) or amplitude for sign in (1, -1))
    return Stimulus(high=high, low=-low, period=2 * half, x0=0.3 if up > 0 else 0.7)


def _usual_drive(model: Model) -> tuple[float, float]:
    """Amplitude [V] and period [s] with which the first parameter set of this model shows its loop."""
    for name in devicelab.parameter_sets():
        info = parameter_set_info(name)
        if info["model"] == model.name and "drive" in info:
            return float(info["drive"]["amplitude"]), 1.0 / float(info["drive"]["frequency"])
    return 1.0, 1.0


def _crossing(function: Callable[[float], float], level: float, low: float, high: float) -> float | None:
    """Where a growing function passes `level`, between `low` and `high`, to 1 %; None if it does not get there."""
    if function(high) < level:
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if function(middle) < level else (low, middle)
    return high


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| model | window | drive | state | current | limit | travel | reltol | points | time | |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        numbers = f"{row.x_error:.1e} | {row.i_error:.1e} | {row.limit:.0e} | {row.travel:.2f}"
        cost = f"{row.reltol:.0e} | {row.points} | {row.seconds:.2f} s"
        marks = [] if row.step == 1.0 else [f"steps of {row.step:g}"]
        marks += [] if row.method == Settings.method else [row.method]
        over = "over the limit " if np.isfinite(row.x_error) and not row.ok else ""
        mark = ", ".join([*marks, *filter(None, [(over + row.note).strip()])])
        lines.append(f"| {row.model} | {row.window} | {row.drive} | {numbers} | {cost} | {mark} |")
    return "\n".join(lines) + "\n"
