"""Whole traces of separable models on plain numbers: the equations recorded once, run by compiled kernels.

What `devicelab.simulation` does with array operations is done here device after device; tensors stay there.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coordinates import Coordinate, Identity, Logistic, Quadratic, Table
from .models.base import SeparableModel
from .ops import NUMPY, Value, is_tensor
from .tape import TraceProgram, trace_program

Array = NDArray[np.float64]

_NOTHING = np.zeros((1, 2))


def trajectory(model: SeparableModel, t: Array, v: Array, x0: Value) -> tuple[Array, Array] | None:
    """State and current at the samples of a voltage drive, [t] or [b, t].

    Args:
        model: The device; parameters scalar or [b].
        t: Times [s], [t].
        v: Voltages [V], [t] or [b, t].
        x0: State at the first sample, scalar or [b].

    Returns:
        x and i [A], or None where this is not for the kernels: tensors, other shapes, a coordinate of a user's own.
    """
    leaves = model._leaves()
    if v.ndim == 1 and _are_numbers((*leaves, x0)):
        shape: tuple[int, ...] = ()
        plan = _kept_plan(model)
    else:
        if any(is_tensor(value) for value in (*leaves, x0)):
            return None
        shapes = {np.shape(value) for value in (*leaves, x0)}
        if max(map(len, shapes)) > 1 or v.ndim > 2:
            return None
        shape = np.broadcast_shapes(*shapes, v.shape[:-1])
        plan = _kept_plan(model) if _are_numbers(tuple(leaves)) else _plan(model)
    if plan is None:
        return None
    tape, up, down, flags = plan
    count = shape[0] if shape else 1
    x, i = np.empty((count, t.size)), np.empty((count, t.size))
    times, rows, starts = _plain(t), _plain(v.reshape(-1, t.size)), np.array(x0, dtype=float).reshape(-1)
    _kernels().traces(
        tape.code, tape.marks, tape.used, tape.fill(leaves, count), times, rows, starts, up, down, flags, x, i
    )
    return (x, i) if shape else (x[0], i[0])


def chain(
    model: SeparableModel, bounds: NDArray[np.int64], t: Array, v: Array, x0: float
) -> tuple[Array, Array] | None:
    """State and current [t] of one device whose parameters change on the way.

    Args:
        model: The device; parameters scalar or [k]: entry n holds from sample bounds[n] to bounds[n + 1].
        bounds: Indices of samples, [k + 1], rising from 0 to t - 1.
        t: Times [s], [t].
        v: Voltages [V], [t].
        x0: State at the first sample.

    Returns:
        x and i [A], or None for a coordinate of a user's own. At a bound, i is that of the entry that begins there.
    """
    x, i = np.empty(t.size), np.empty(t.size)
    x[0] = x0
    for first in range(0, bounds.size - 1, CHAIN):
        last = min(first + CHAIN, bounds.size - 1)
        at = slice(first, last)
        part = model.bind(
            window=model.window.bind(**{name: _at(value, at) for name, value in model.window.values().items()}),
            **{name: _at(value, at) for name, value in model.values().items()},
        )
        plan = _plan(part)
        if plan is None:
            return None
        tape, up, down, flags = plan
        registers = tape.fill(part._leaves(), last - first)
        here = slice(bounds[first], bounds[last] + 1)
        _kernels().chain(
            tape.code, tape.marks, tape.used, registers, bounds[first : last + 1] - bounds[first],
            _plain(t[here]), _plain(v[here]), float(x[bounds[first]]), up, down, flags, x[here], i[here],
        )  # fmt: skip
    return x, i


CHAIN = 1024
"""Entries of a chain at once: where windows change too, each has a table of its own."""


def _at(value: Value, at: slice) -> Value:
    return value[at] if np.ndim(value) else value


@cache
def _kernels() -> Any:
    """The kernels; importing numba takes a third of a second."""
    from . import _exact_kernels

    return _exact_kernels


def single(model: SeparableModel, x0: Value) -> bool:
    """Whether this is one device with plain numbers."""
    return _are_numbers((*model._leaves(), x0))


def _are_numbers(values: tuple[Value, ...]) -> bool:
    return all(isinstance(value, float | int) for value in values)


Plan = tuple[TraceProgram, Any, Any, tuple[int, int, int]]


@lru_cache(maxsize=64)
def _kept_plan(model: SeparableModel) -> Plan | None:
    return _plan(model)


def _plan(model: SeparableModel) -> Plan | None:
    """What the kernels need to know of a model besides its numbers."""
    from .simulation import with_time_axis

    wide = with_time_axis(model)
    up = pack(wide._coordinate(1, NUMPY, None))
    down = up if model.symmetric else pack(wide._coordinate(-1, NUMPY, None))
    if up is None or down is None:
        return None
    return trace_program(model), up, down, (model.set_sign, model.polarity, int(model.symmetric))


def pack(coordinate: Coordinate) -> Any:
    """A coordinate as (kind, [low, high, two numbers] [b, 4], psi, nodes and slopes [b, n]), or None."""
    low, high = coordinate.low, coordinate.high
    if type(coordinate) is Identity:
        return 0, _rows(low, high, 0.0, 0.0), _NOTHING, _NOTHING, _NOTHING
    if type(coordinate) is Logistic:
        return 1, _rows(low, high, coordinate.height, 0.0), _NOTHING, _NOTHING, _NOTHING
    if type(coordinate) is Quadratic:
        return 2, _rows(low, high, coordinate.a, coordinate.b), _NOTHING, _NOTHING, _NOTHING
    if type(coordinate) is Table:
        nodes, psi, slopes = (_plain(np.atleast_2d(array)) for array in coordinate.nodes)
        return 3, _rows(low, high, 0.0, 0.0), psi, nodes, slopes
    return None


def _rows(*numbers: Value) -> Array:
    """Numbers that are scalar or [b, 1] as the columns of one array [b or 1, n]."""
    columns = [np.asarray(number, dtype=float).reshape(-1) for number in numbers]
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def _plain(array: Array) -> Array:
    """Contiguous and writeable: the kernels are compiled for nothing else."""
    return array if array.flags.c_contiguous and array.flags.writeable else np.array(array, order="C")
