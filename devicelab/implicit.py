"""Simulation of any model behind any circuit: an adaptive implicit solver, compiled, one device after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .circuit import Circuit, plain
from .errors import ConvergenceError
from .models.base import Model, TwoStateModel
from .ops import Value
from .tape import Program, pair_of_programs, program

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
        y: Second states at these times, of a device that has them.
        device: Row of the batch.
    """

    t: Array
    x: Array
    y: Array | None = None
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

    flat, shape = _flat(model, s, x0, circuit)
    count = flat[0].size
    tape = program(model)
    drives = np.ascontiguousarray(model.polarity * s.reshape(-1, t.size))
    x, u = np.empty((count, t.size)), np.empty((count, t.size))
    report = np.zeros((count, 3))
    circuits = _circuits(circuit, flat[-2], flat[-1], margin(model), max(kernels.ROOT, 1e-4 * tolerance))
    status, row = kernels.solve_many(
        _coded(tape), tape.fill(flat[:-3], count), circuits, t, drives, flat[-3], float(tolerance), x, u, report
    )
    if status != kernels.OK:
        raise _failure(model, int(status), int(row), t, x, report[int(row)])
    return x.reshape(*shape, t.size), model.polarity * u.reshape(*shape, t.size)


def pair_trajectory(
    model: TwoStateModel, t: Array, s: Array, x0: Value, y0: Value, circuit: Circuit, tolerance: float = TOLERANCE
) -> tuple[Array, Array, Array]:
    """Both states and the device voltage at the samples of a drive.

    Args:
        model: The device; parameters scalar or [b].
        t: Times [s], [t].
        s: What the source prescribes [V or A], [t] or [b, t].
        x0: State at the first sample, scalar or [b].
        y0: Second state at the first sample, scalar or [b].
        circuit: What surrounds the device.
        tolerance: Error of either state that a step may make.

    Returns:
        x, y and v across the device [V], all [t] or [b, t].

    Raises:
        StepError: As in `trajectory`.
    """
    from . import _pair_kernels as pairs
    from ._kernels import OK, ROOT

    flat, shape = _flat(model, s, x0, circuit, y0)
    count = flat[0].size
    own, other = pair_of_programs(model)
    drives = np.ascontiguousarray(model.polarity * s.reshape(-1, t.size))
    x, y, u = (np.empty((count, t.size)) for _ in range(3))
    report = np.zeros((count, 3))
    values, starts = flat[:-4], np.stack([flat[-4], flat[-1]], axis=1)
    sides = [
        (
            _coded(tape),
            tape.fill(values, count),
            _circuits(circuit, flat[-3], flat[-2], edge, max(ROOT, root * tolerance)),
        )
        for tape, edge, root in ((own, margin(model), 1e-4), (other, 0.0, 1e-6))
    ]
    status, row = pairs.solve_pairs(*sides[0], *sides[1], t, drives, starts, float(tolerance), x, y, u, report)
    if status != OK:
        error = _failure(model, int(status), int(row), t, x, report[int(row)])
        error.y = y[int(row), : error.t.size].copy()
        raise error
    return tuple(value.reshape(*shape, t.size) for value in (x, y, model.polarity * u))  # type: ignore[return-value]


def _flat(model: Model, s: Array, x0: Value, circuit: Circuit, *more: Value) -> tuple[list[Array], tuple[int, ...]]:
    """Parameters, start, series resistance, limit and more of every device, each [count]; the shape of the batch."""
    leaves = [*model.values().values(), *model.window.values().values()]
    per_device = [plain(value) for value in [*leaves, x0, circuit.series_resistance, circuit.limit, *more]]
    shape = np.broadcast_shapes(*(value.shape for value in per_device), s.shape[:-1])
    return [np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(-1) for value in per_device], shape


def _coded(tape: Program) -> tuple[Any, Any]:
    """Instructions and marks, as the kernels take them."""
    return tape.code, np.array([*tape.marks, tape.current, tape.rate])


def _circuits(circuit: Circuit, resistance: Array, limit: Array, edge: float, root: float) -> Array:
    """The circuit of every device as the kernels take it, [count, 7]."""
    out = np.zeros((resistance.size, 7))
    out[:, 0], out[:, 1], out[:, 2] = float(circuit.kind == "current"), resistance, limit
    out[:, 4], out[:, 5], out[:, 6] = float(not circuit.trivial), edge, root
    return out


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
