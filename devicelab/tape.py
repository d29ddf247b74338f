"""A model as a list of instructions: its equations recorded once, then run by one compiled interpreter.

A model called with these leaves records every operation. So any model, also one written tomorrow, runs at compiled
speed without being compiled itself. Instructions are sorted by what they depend on: parameters only (run once a
device), parameters and voltage (once a time), or the state as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .models.base import Model, SeparableModel, TwoStateModel
from .ops import Composed, Value

ADD, SUB, MUL, DIV, NEG, EXP, LOG, SQRT, SINH, TANH, ABS, MIN, MAX, SINHC, POW, SELECT = range(16)
VOLTAGE, STATE = 0, 1
"""Registers of the two inputs; parameters follow, then constants, then results."""
OTHER = 2
"""Register of the third input of a device with two states: the state that an equation is not about."""

Leaf: TypeAlias = "Traced | float"

_AnyModel = TypeVar("_AnyModel", bound=Model)


@dataclass(frozen=True)
class Program:
    """Instructions of one model.

    Args:
        code: Operation, target and three operands of each instruction, shape [n, 5].
        registers: Number of registers.
        names: Parameters, in the order of their registers, from register `inputs` on; the window's as ``window.NAME``.
        constants: Values of the registers after the parameters.
        marks: Ends of the four parts: parameters only, voltage, current(v, x), rate(v, x).
        current: Register of the current.
        rate: Register of the rate.
        inputs: Voltage and state, and the other state of a device with two.
    """

    code: NDArray[np.int64]
    registers: int
    names: tuple[str, ...]
    constants: tuple[float, ...]
    marks: tuple[int, int, int, int]
    current: int
    rate: int
    inputs: int = 2

    def fill(self, values: list[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
        """Registers [count, registers] of devices with these parameter values, each [count]."""
        return np.asarray(_filled(self.registers, self.inputs, values, self.constants, count))


def _filled(registers: int, first: int, values: list[Any], constants: tuple[float, ...], count: int) -> Any:
    out = np.zeros((count, registers))
    for k, value in enumerate(values):
        out[:, first + k] = value
    start = first + len(values)
    out[:, start : start + len(constants)] = constants
    return out


V0, V1, DT, V, X = range(5)
"""Registers of the five inputs of a `TraceProgram`: a ramp of the voltage, and a sample."""


@dataclass(frozen=True)
class TraceProgram:
    """Instructions of a separable model's travel(v0, v1, dt) and current(v, x).

    Args:
        code: As in `Program`.
        registers: Number of registers.
        constants: Values of the registers after the parameters, which follow the inputs.
        marks: Ends of the three parts (parameters only, travel, current), then the registers of travel and current.
        used: Registers that do not change over a trace and are read by the second and third part.
    """

    code: NDArray[np.int64]
    registers: int
    constants: tuple[float, ...]
    marks: NDArray[np.int64]
    used: NDArray[np.int64]

    def fill(self, values: list[Any], count: int) -> NDArray[np.float64]:
        """Registers [count, registers] of devices with these parameter values, scalar or [count]."""
        return np.asarray(_filled(self.registers, 5, values, self.constants, count))


def program(model: Model) -> Program:
    """The instructions of a model; those of models that differ in parameter values only are the same."""
    return _record(type(model), type(model.window), _options(model))


def pair_of_programs(model: TwoStateModel) -> tuple[Program, Program]:
    """Of a device with two states the instructions for x, whose other state is y, and for y, whose other state is x."""
    key = type(model), type(model.window), _options(model)
    return _record_state(*key, False), _record_state(*key, True)


def leaf_names(model: Model) -> tuple[str, ...]:
    """Names of the parameters of the model and of its window."""
    return (*model.values(), *(f"window.{name}" for name in model.window.values()))


def _options(model: Model) -> tuple[tuple[str, Any], ...]:
    """Fields that are neither parameters, window nor polarity: they choose between equations."""
    skip = {*model.values(), "window", "polarity"}
    return tuple((name, getattr(model, name)) for name in model.__dataclass_fields__ if name not in skip)


def trace_program(model: SeparableModel) -> TraceProgram:
    """The instructions for whole traces of a separable model."""
    return _record_trace(type(model), type(model.window), _options(model))


@lru_cache(maxsize=256)
def _record_trace(model: type[SeparableModel], window: type[Any], options: tuple[tuple[str, Any], ...]) -> TraceProgram:
    recorder = _Recorder(inputs=5)
    device, ops = _device_of_leaves(model, window, options, recorder), _TapeOps(recorder)
    v0, v1, dt, v = (Traced(k, 1, recorder) for k in (V0, V1, DT, V))
    travel = recorder.lift(device._travel(v0, v1, dt, ops))
    length = len(recorder.code)
    current = recorder.lift(device._current(v, Traced(X, 1, recorder), ops))
    part = [result.level + (result.level > 0 and k >= length) for k, result in enumerate(recorder.results)]
    code, registers, place = recorder.placed(part)
    marks = [sum(p <= level for p in part) for level in range(3)]
    written = {int(row[1]) for row in code[marks[0] :]} | set(range(5))
    used = sorted({int(k) for row in code[marks[0] :] for k in row[2:]} - written)
    return TraceProgram(
        code,
        registers,
        recorder.constants,
        np.array([*marks, place(travel), place(current)]),
        np.array(used, dtype=np.int64),
    )


def _device_of_leaves(
    model: type[_AnyModel], window: type[Any], options: tuple[tuple[str, Any], ...], recorder: _Recorder
) -> _AnyModel:
    """A device whose parameters are leaves that record."""
    own = {entry.name: recorder.parameter(entry.name) for entry in model.parameters()}
    inner = {entry.name: recorder.parameter(f"window.{entry.name}") for entry in window.parameters()}
    blank = object.__new__(window)
    for name, leaf in inner.items():
        object.__setattr__(blank, name, leaf)
    device = object.__new__(model)
    for name, value in {**own, **dict(options), "window": blank, "polarity": 1}.items():
        object.__setattr__(device, name, value)
    return device


@lru_cache(maxsize=256)
def _record(model: type[Model], window: type[Any], options: tuple[tuple[str, Any], ...]) -> Program:
    recorder = _Recorder()
    device, ops = _device_of_leaves(model, window, options, recorder), _TapeOps(recorder)
    v, x = Traced(VOLTAGE, 1, recorder), Traced(STATE, 2, recorder)
    i = recorder.lift(device._current(v, x, ops))
    length = len(recorder.code)
    rate = recorder.lift(device._rate(v, x, ops))
    return recorder.program(i, rate, length)


@lru_cache(maxsize=256)
def _record_state(
    model: type[TwoStateModel], window: type[Any], options: tuple[tuple[str, Any], ...], second: bool
) -> Program:
    """Current, and the rate of x or that of the second state; the state in question is the input `STATE`."""
    recorder = _Recorder(inputs=3)
    device, ops = _device_of_leaves(model, window, options, recorder), _TapeOps(recorder)
    v, own, other = Traced(VOLTAGE, 1, recorder), Traced(STATE, 2, recorder), Traced(OTHER, 2, recorder)
    x, y = (other, own) if second else (own, other)
    i = recorder.lift(device._current(v, x, ops, y))
    length = len(recorder.code)
    rate = recorder.lift(device._second_rate(v, x, ops, y) if second else device._rate(v, x, ops, y))
    return recorder.program(i, rate, length)


class Traced:
    """A scalar that records what is done to it."""

    __slots__ = ("level", "recorder", "register")
    __array_ufunc__ = None

    def __init__(self, register: int, level: int, recorder: _Recorder) -> None:
        self.register = register
        self.level = level
        self.recorder = recorder

    def __bool__(self) -> NoReturn:
        raise TypeError("a model must not branch on values: use ops.select, ops.relu, ops.minimum or ops.maximum")

    def __add__(self, other: Leaf) -> Traced:
        return self.recorder.emit(ADD, self, other)

    def __radd__(self, other: Leaf) -> Traced:
        return self.recorder.emit(ADD, other, self)

    def __sub__(self, other: Leaf) -> Traced:
        return self.recorder.emit(SUB, self, other)

    def __rsub__(self, other: Leaf) -> Traced:
        return self.recorder.emit(SUB, other, self)

    def __mul__(self, other: Leaf) -> Traced:
        return self.recorder.emit(MUL, self, other)

    def __rmul__(self, other: Leaf) -> Traced:
        return self.recorder.emit(MUL, other, self)

    def __truediv__(self, other: Leaf) -> Traced:
        return self.recorder.emit(DIV, self, other)

    def __rtruediv__(self, other: Leaf) -> Traced:
        return self.recorder.emit(DIV, other, self)

    def __neg__(self) -> Traced:
        return self.recorder.emit(NEG, self)

    def __pow__(self, exponent: object) -> Traced:
        if exponent == 2:
            return self * self
        raise TypeError("write ops.power(base, exponent), whose base is never negative")


class _Recorder:
    """Collects instructions; equal ones are recorded once."""

    def __init__(self, inputs: int = 2) -> None:
        self.code: list[tuple[int, Leaf, Leaf, Leaf]] = []
        self.names: list[str] = []
        self.results: list[Traced] = []
        self._inputs = inputs
        self._constants: dict[float, Traced] = {}
        self._known: dict[tuple[int, ...], Traced] = {}

    @property
    def constants(self) -> tuple[float, ...]:
        """Numbers that were lifted, in the order of their registers."""
        return tuple(self._constants)

    def parameter(self, name: str) -> Traced:
        self.names.append(name)
        return Traced(self._inputs - 1 + len(self.names), 0, self)

    def lift(self, value: Leaf) -> Traced:
        """A leaf as a register; numbers get provisional negative ones."""
        if isinstance(value, Traced):
            return value
        number = float(value)
        if number not in self._constants:
            self._constants[number] = Traced(-1 - len(self._constants), 0, self)
        return self._constants[number]

    def emit(self, operation: int, *operands: Leaf) -> Traced:
        """The result of an operation, recorded unless it was before."""
        lifted = [self.lift(operand) for operand in operands]
        key = (operation, *(leaf.register for leaf in lifted))
        if key not in self._known:
            level = max(leaf.level for leaf in lifted)
            result = Traced(1_000_000 + len(self.code), level, self)
            self._known[key] = result
            self.results.append(result)
            padded = (*lifted, lifted[0], lifted[0])[:3]
            self.code.append((operation, padded[0], padded[1], padded[2]))
        return self._known[key]

    def program(self, current: Traced, rate: Traced, length: int) -> Program:
        """Everything recorded, the first `length` instructions for the current, sorted by level."""
        part = [min(result.level, 2) + (result.level == 2 and k >= length) for k, result in enumerate(self.results)]
        code, registers, place = self.placed(part)
        marks = tuple(sum(p <= level for p in part) for level in range(4))
        names = tuple(self.names)
        return Program(code, registers, names, self.constants, marks, place(current), place(rate), self._inputs)  # type: ignore[arg-type]

    def placed(self, part: list[int]) -> tuple[NDArray[np.int64], int, Callable[[Leaf], int]]:
        """The instructions sorted by part, the number of registers, and where a leaf is kept."""
        base = self._inputs + len(self.names)
        first = base + len(self._constants)

        def place(leaf: Leaf) -> int:
            assert isinstance(leaf, Traced)  # noqa: S101
            if leaf.register < 0:
                return base - 1 - leaf.register
            return leaf.register - 1_000_000 + first if leaf.register >= 1_000_000 else leaf.register

        order = sorted(range(len(part)), key=lambda k: (part[k], k))
        rows = [[self.code[k][0], place(self.results[k]), *map(place, self.code[k][1:])] for k in order]
        return np.array(rows, dtype=np.int64).reshape(-1, 5), first + len(self.code), place


class _TapeOps(Composed):
    """`devicelab.ops.Ops` that records."""

    def __init__(self, recorder: _Recorder) -> None:
        self._emit = recorder.emit

    def exp(self, u: Value) -> Value:
        return self._emit(EXP, u)

    def log(self, u: Value) -> Value:
        return self._emit(LOG, u)

    def sqrt(self, u: Value) -> Value:
        return self._emit(SQRT, u)

    def sinh(self, u: Value) -> Value:
        return self._emit(SINH, u)

    def tanh(self, u: Value) -> Value:
        return self._emit(TANH, u)

    def abs(self, u: Value) -> Value:
        return self._emit(ABS, u)

    def minimum(self, a: Value, b: Value) -> Value:
        return self._emit(MIN, a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        return self._emit(MAX, a, b)

    def sinhc(self, u: Value) -> Value:
        """sinh(u) / u."""
        return self._emit(SINHC, u)

    def relu(self, u: Value) -> Value:
        """The positive part."""
        return self._emit(MAX, u, 0.0)

    def power(self, base: Value, exponent: Value) -> Value:
        """base ** exponent for base >= 0."""
        return self._emit(POW, base, exponent)

    def select(self, u: Value, above: Value, below: Value) -> Value:
        """`above` where u > 0, else `below`."""
        return self._emit(SELECT, u, above, below)
