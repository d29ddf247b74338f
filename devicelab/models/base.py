"""What a device model is: parameters, a current and a rate, written once for numpy, torch and ngspice."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np

from ..coordinates import GAUSS_5, Coordinate, Table
from ..errors import ParameterError
from ..ops import NUMPY, Ops, Value, ops_for
from ..parameters import Parametrised
from ..windows import NoWindow, Window


@dataclass(frozen=True, kw_only=True)
class Model(Parametrised):
    """A two-terminal device with one internal state x in [0, 1].

    In every model x = 1 is the low-resistance end and x = 0 the high-resistance end. `polarity=-1` swaps the terminals,
    so any model can describe a device that SETs at the other sign of the voltage.

    Subclasses are final, have only parameters as fields, and write `_current` and `_rate` with operators and `ops`.
    """

    name: ClassVar[str]
    set_sign: ClassVar[int]
    """Sign of the voltage that drives x towards 1 when `polarity` is +1."""

    polarity: int = field(default=1)
    window: Window = field(default_factory=NoWindow)

    def __post_init__(self) -> None:
        if np.ndim(self.polarity) or self.polarity not in (1, -1):
            raise ParameterError("polarity is a sign", got=self.polarity, allowed="+1 or -1")
        if not isinstance(self.window, Window):
            raise ParameterError(
                "window is not a window",
                got=repr(self.window),
                allowed="an instance such as Joglekar(p=2)",
                hint="devicelab.window(name, ...) makes one from its name",
            )
        super().__post_init__()

    def ops(self, *values: Value) -> Ops:
        """The `Ops` that fits these values and the parameters."""
        return ops_for(*values, *self._leaves())

    def _leaves(self) -> list[Value]:
        return [*self.values().values(), *self.window.values().values()]

    def current(self, v: Value, x: Value) -> Value:
        """Current [A] into the plus terminal.

        Args:
            v: Voltage across the device [V].
            x: State (1 = low resistance); broadcasts with `v` and the parameters.
        """
        return self.polarity * self._current(self.polarity * v, x, self.ops(v, x))

    def rate(self, v: Value, x: Value) -> Value:
        """dx/dt [1/s]; positive towards low resistance. Shapes as in `current`. The bound at 0 and 1 is not in it."""
        return self._rate(self.polarity * v, x, self.ops(v, x))

    @abstractmethod
    def _current(self, v: Value, x: Value, ops: Ops) -> Value: ...

    @abstractmethod
    def _rate(self, v: Value, x: Value, ops: Ops) -> Value: ...

    def _windowed(self, rate: Value, x: Value, ops: Ops) -> Value:
        """A model's own rate times the window's profile for its direction."""
        if isinstance(self.window, NoWindow):
            return rate
        return _directed(rate, x, self.window, ops)


@dataclass(frozen=True, kw_only=True)
class TwoStateModel(Model):
    """A device with a second internal state y in [0, 1] beside x: a width, a temperature, a charge that is trapped.

    Both ends of y are hard bounds; the window is that of x. y = 0 is where a device starts unless told otherwise
    (`devicelab.simulate(..., y0=0.3)`), and what is seen of it where no second state is given: its current and rate
    at y = 0 are those of a device with one state, which is what tables, arrays and static fits take.

    Subclasses write `_current(v, x, ops, y)`, `_rate(v, x, ops, y)` and `_second_rate(v, x, ops, y)`.
    """

    second: ClassVar[str]
    """What y is, for people: "filament width"."""

    def current(self, v: Value, x: Value, y: Value = 0.0) -> Value:
        """Current [A] into the plus terminal; shapes as in `Model.current`, y broadcasts like x."""
        return self.polarity * self._current(self.polarity * v, x, self.ops(v, x, y), y)

    def rate(self, v: Value, x: Value, y: Value = 0.0) -> Value:
        """dx/dt [1/s], as `Model.rate`."""
        return self._rate(self.polarity * v, x, self.ops(v, x, y), y)

    def second_rate(self, v: Value, x: Value, y: Value) -> Value:
        """dy/dt [1/s]. Shapes as in `current`. The bound at 0 and 1 is not in it."""
        return self._second_rate(self.polarity * v, x, self.ops(v, x, y), y)

    @abstractmethod
    def _current(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value: ...

    @abstractmethod
    def _rate(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value: ...

    @abstractmethod
    def _second_rate(self, v: Value, x: Value, ops: Ops, y: Value) -> Value: ...


@dataclass(frozen=True, kw_only=True)
class SeparableModel(Model):
    """A model whose rate under voltage drive is speed(v) times profile(x, direction).

    Then the integral of dx / profile moves by exactly the time integral of the speed, whatever the waveform, and a
    whole trace needs no time stepping: see `devicelab.simulate`.
    """

    @property
    def symmetric(self) -> bool:
        """Whether the profile is the same in both directions."""
        return self.window.symmetric

    @abstractmethod
    def _speed(self, v: Value, ops: Ops) -> Value:
        """Signed speed, the unit of psi per second; its sign is that of `set_sign` * v, or zero."""

    def _profile(self, x: Value, direction: int, ops: Ops) -> Value:
        """Factor >= 0 for motion towards x = 1 (`direction` +1) or x = 0 (-1); the window unless a model adds to it."""
        return self.window._profile(x, direction, ops)

    def _kink(self, direction: int) -> Value:
        """Where the profile has a corner, or None."""
        return None

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        """Integral of the speed over a linear ramp from v0 to v1 of one sign that takes dt [s]."""
        span = v1 - v0
        return dt * sum(w * self._speed(v0 + c * span, ops) for c, w in GAUSS_5)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        return _directed(self._speed(v, ops), x, self, ops)

    def _coordinate(self, direction: int, ops: Ops, like: Value) -> Coordinate:
        """The integral of dx / profile, as tensors if `like` is one; overridden where the window is not all of it."""
        return self.window._coordinate(ops) or profile_table(self.window, direction, ops, like)


def _directed(rate: Value, x: Value, owner: Window | SeparableModel, ops: Ops) -> Value:
    """A signed rate times the owner's profile for its direction."""
    if owner.symmetric:
        return rate * owner._profile(x, 1, ops)
    return ops.relu(rate) * owner._profile(x, 1, ops) - ops.relu(-rate) * owner._profile(x, -1, ops)


def profile_table(owner: Window | SeparableModel, direction: int, ops: Ops, like: Value) -> Coordinate:
    """The coordinate of any profile as a table; kept for the next simulation where the parameters are plain numbers."""
    if like is None and all(type(value) in (int, float) for value in owner._leaves()):
        return _kept_table(owner, direction)
    return Table(lambda x: owner._profile(x, direction, ops), like, owner._kink(direction))


@lru_cache(maxsize=64)
def _kept_table(owner: Window | SeparableModel, direction: int) -> Table:
    return Table(lambda x: owner._profile(x, direction, NUMPY), None, owner._kink(direction))


def check_order(
    owner: str, low_name: str, low: Value, high_name: str, high: Value, unit: str, hint: str | None = None
) -> None:
    """Raise `ParameterError` unless low < high everywhere."""
    below = low - high < 0
    if not bool(below if isinstance(below, bool) else below.all()):
        raise ParameterError(
            f"{owner}: {low_name} must be below {high_name}",
            got=f"{low_name} = {low} {unit}, {high_name} = {high} {unit}",
            allowed=f"{low_name} < {high_name}",
            hint=hint,
        )


def check_one_state(model: Model, what: str) -> None:
    """Raise `ParameterError` for a model with two states, of which `what` would lose the second one."""
    if isinstance(model, TwoStateModel):
        raise ParameterError(
            f"{what} hand on one state",
            got=f"{model.name}, whose second state is its {model.second}",
            allowed="a model with one state",
            hint="simulate(...) runs the whole drive in one go",
        )


def check_resistances(owner: str, r_on: Value, r_off: Value) -> None:
    """Raise `ParameterError` unless r_on < r_off everywhere."""
    check_order(owner, "r_on", r_on, "r_off", r_off, "ohm", "swap them; polarity=-1 reverses the sign of SET")
