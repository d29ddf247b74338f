"""Do the sub-circuits do what the models say? Every model x window x drive, by ngspice and by `devicelab.simulate`.

Both run on the same time points, ngspice's own, so the difference is ngspice's integration and our translation, not
sampling. Drives are made to fit each device: every half cycle would take a device without window half of the way, or
the whole way where the hard bound itself is tested.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import devicelab
from devicelab import Drive, NoWindow, Window, pulses, sine, triangle
from devicelab.errors import DevicelabError, MissingDependencyError, ParameterError
from devicelab.models import MODELS, Model
from devicelab.windows import WINDOWS

from .bench import Settings
from .simulation import simulate

SMOOTH_LIMIT = 1e-4
"""Largest difference, as a fraction of full scale, where the rate is smooth in time and in the state."""

SHARP_LIMIT = 1e-3
"""The same for a hard bound and for pulse trains: both have corners, each of which restarts the integration."""

ORDERS = {"joglekar": {"p": 2.0}, "biolek": {"p": 2.0}, "prodromakis": {"p": 2.0}}
"""Parameters of the windows; the others have none or good defaults."""

PULSES = 20
"""Pairs of pulses in a train."""

BOUND_RELTOL = 1e-10
"""ngspice's relative tolerance where a hard bound is hit: what the corner costs at 1e-8 is regained for little time."""

KNOWN = {
    ("linear_ion_drift", "none"): "runs away into x = 1, where dx/dt grows as 1/R: "
    "an error in time, and with it in R, grows r_off/r_on fold",
}
"""Why a case may stay above the limit, by model and window."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the conformance table.

    Args:
        model: Name of the device.
        window: Name of its window.
        drive: sine, triangle or pulses.
        x_error: Largest difference of the state.
        i_error: Largest difference of the current, as a fraction of the largest current.
        limit: What both should stay below.
        travel: Range of the state that the run went through.
        points: ngspice's time points.
        seconds: Time that ngspice took [s].
        reltol: ngspice's relative tolerance.
        note: Why the limit is not reached, or why there are no numbers.
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
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether state and current both agree."""
        return max(self.x_error, self.i_error) <= self.limit  # false for nan


def conformance(
    devices: Mapping[str, Model] | None = None,
    windows: Iterable[Window] | None = None,
    *,
    reltol: float | None = None,
    progress: Callable[[Row], None] | None = None,
) -> list[Row]:
    """The conformance table: one row for each device, window and drive.

    Args:
        devices: Devices by name; by default `conformance_devices()`.
        windows: Windows to put into each of them; by default one of every registered kind.
        reltol: ngspice's relative tolerance; by default that of `simulate`, and 1e-10 where a hard bound is hit.
        progress: Called with each row as it is done.

    Returns:
        The rows, in order. A case that cannot be run has a note instead of numbers.

    Raises:
        MissingDependencyError: If there is no ngspice.
    """
    chosen = list(windows) if windows is not None else [cls(**ORDERS.get(key, {})) for key, cls in WINDOWS.items()]
    rows = []
    for name, device in (devices if devices is not None else conformance_devices()).items():
        for window in chosen:
            model = device.replace(window=window)
            for kind in ("sine", "triangle", "pulses"):
                rows.append(compare(name, model, kind, reltol=reltol))
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


def compare(name: str, model: Model, kind: str, *, reltol: float | None = None) -> Row:
    """One row: ngspice against `devicelab.simulate` on ngspice's own time points; arguments as in `conformance`."""
    hard = isinstance(model.window, NoWindow)
    tolerance = reltol or (BOUND_RELTOL if hard else Settings.reltol)
    window = next((key for key, cls in WINDOWS.items() if type(model.window) is cls), type(model.window).__name__)
    row = Row(
        model=name,
        window=window,
        drive=kind,
        x_error=np.nan,
        i_error=np.nan,
        limit=SHARP_LIMIT if hard or kind == "pulses" else SMOOTH_LIMIT,
        reltol=tolerance,
    )
    try:
        drive = fitting_drive(model, kind, 1.0 if hard else 0.5)
        x0 = 0.3 if model.rate(drive.v.max(), 0.5) > 0 else 0.7
        start = time.perf_counter()
        spice = simulate(model, drive, x0=x0, reltol=tolerance)
        seconds = time.perf_counter() - start
        exact = devicelab.simulate(model, Drive(spice.t, spice.v), x0=x0)
    except MissingDependencyError:
        raise
    except DevicelabError as error:
        return replace(row, note=error.what)
    done = replace(
        row,
        x_error=float(np.abs(spice.x - exact.x).max()),
        i_error=float(np.abs(spice.i - exact.i).max() / np.abs(exact.i).max()),
        travel=float(np.ptp(spice.x)),
        points=len(spice),
        seconds=seconds,
    )
    return done if done.ok else replace(done, note=KNOWN.get((model.name, window), ""))


def fitting_drive(model: Model, kind: str, travel: float) -> Drive:
    """A drive of 1 V in the direction in which the device is slower, and what moves the state as far in the other.

    Args:
        model: The device.
        kind: sine, triangle or pulses.
        travel: How far a half cycle would move the state at the rate of x = 1/2 without a window.

    Raises:
        ParameterError: If 1 V does not move the state both ways.
    """
    free = model.replace(window=NoWindow())
    shape = np.ones(1) if kind == "pulses" else np.sin((np.arange(64) + 0.5) * np.pi / 64)
    speed = min(_speed(free, 1.0, shape), _speed(free, -1.0, shape))
    if not speed > 0:
        raise ParameterError("1 V does not move the state both ways", got=f"{speed:g} 1/s", allowed="more than 0")
    high = _voltage(lambda size: _speed(free, size, shape), speed)
    low = -_voltage(lambda size: _speed(free, -size, shape), speed)
    half = travel / speed
    if kind == "sine":
        return sine((high - low) / 2, 0.5 / half, periods=2.0, offset=(high + low) / 2)
    if kind == "triangle":
        return triangle(high, 2 * half, negative=low, cycles=2)
    return pulses([high, low], half / 5, count=PULSES)


def _speed(model: Model, amplitude: float, shape: NDArray[np.float64]) -> float:
    return float(np.mean(np.abs(model.rate(amplitude * shape, 0.5))))


def _voltage(speed: Callable[[float], float], wanted: float) -> float:
    """The voltage between 1 mV and 1 V at which `speed`, which grows, is `wanted`."""
    low, high = 1e-3, 1.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if speed(middle) < wanted else (low, middle)
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
        mark = row.note or ("" if row.ok else "over the limit")
        lines.append(f"| {row.model} | {row.window} | {row.drive} | {numbers} | {cost} | {mark} |")
    return "\n".join(lines) + "\n"
