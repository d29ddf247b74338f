"""Simulation of any model behind any circuit: an adaptive implicit solver, compiled, one device after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .circuit import Circuit, plain
from .errors import ConvergenceError
from .models.base import Model
from .ops import Value
from .tape import program

TOLERANCE = 1e-7
"""Error of the state a step, by default; that of a whole loop is of the same size."""

MARGIN = 1e-6
"""Distance from its ends that a state keeps under a window that vanishes there, or it could never leave."""

Array = NDArray[np.float64]


class StepError(ConvergenceError):
    """The solver stopped; what it had until then is here.

    Attributes:
        t: Times [s] up to the last good sample.
        x: States at these times.
        device: Row of the batch.
    """

    t: Array
    x: Array
    device: int


def trajectory(
    model: Model, t: Array, s: Array, x0: Value, circuit: Circuit, tolerance: float = TOLERANCE
) -> tuple[Array, Array]:
    """State and device voltage at the samples of a drive.

    Args:
        model: The device; parameters scalar or [b].
        t: Times [s], [t].
        s: What the source prescribes [V or A], [t] or [b, t].
        x0: State at the first sample, scalar or [b].
        circuit: What surrounds the device.
        tolerance: Error of the state that a step may make.

    Returns:
        x and v across the device [V], both [t] or [b, t].

    Raises:
        StepError: If a rate is not a number, steps become too many, or a current source finds no voltage.
    """
    from . import _kernels as kernels

    leaves = [*model.values().values(), *model.window.values().values()]
    per_device = [plain(value) for value in [*leaves, x0, circuit.series_resistance, circuit.limit]]
    shape = np.broadcast_shapes(*(value.shape for value in per_device), s.shape[:-1])
    flat = [np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(-1) for value in per_device]
    count = flat[0].size
    tape = program(model)
    marks = np.array([*tape.marks, tape.current, tape.rate])
    drives = np.ascontiguousarray(model.polarity * s.reshape(-1, t.size))
    kind = float(circuit.kind == "current")
    busy = float(not circuit.trivial)
    circuits = np.zeros((count, 7))
    circuits[:, 0], circuits[:, 1], circuits[:, 2] = kind, flat[-2], flat[-1]
    circuits[:, 4], circuits[:, 5], circuits[:, 6] = busy, margin(model), max(kernels.ROOT, 1e-4 * tolerance)
    x, u = np.empty((count, t.size)), np.empty((count, t.size))
    report = np.zeros((count, 3))
    registers = tape.fill(flat[:-3], count)
    status, row = kernels.solve_many(
        (tape.code, marks), registers, circuits, t, drives, flat[-3], float(tolerance), x, u, report
    )
    if status != kernels.OK:
        raise _failure(model, int(status), int(row), t, x, report[int(row)])
    return x.reshape(*shape, t.size), model.polarity * u.reshape(*shape, t.size)


def margin(model: Model) -> float:
    """Distance that the state keeps from its ends: none, unless the window keeps it there."""
    ends = np.array([plain(model.window.up(0.0)).min(), plain(model.window.down(1.0)).min()])
    return 0.0 if ends.min() > 1e-12 else MARGIN


def _failure(model: Model, status: int, row: int, t: Array, x: Array, report: Any) -> StepError:
    at, state = int(report[1]), float(report[2])
    reason, hint = {
        1: (
            "the rate is not a number",
            "a parameter or the drive is far outside the model's range; look at model.rate there",
        ),
        2: ("too many steps between two samples", "a larger tolerance, or a drive with finer samples there"),
        3: (
            "the current source finds no voltage that carries its current",
            "give it a compliance [V], or less current",
        ),
    }[status]
    where = f"device {row}, t = {t[at]:.6g} s (sample {at} of {t.size}), x = {state:.6g}"
    what = f"simulation of {model.name} stopped: {reason}"
    return step_error(what, where, hint, t[: at + 1], x[row, : at + 1].copy(), row)


def step_error(what: str, where: str, hint: str, t: Array, x: Array, device: int) -> StepError:
    """A `StepError` that carries times and states."""
    error = StepError(what, got=where, hint=f"{hint}; the states until then are in the error's .t and .x")
    error.t, error.x, error.device = t, x, device
    return error
