"""Window functions: how the motion of the state slows down near its bounds.

A window has one profile for motion towards x = 1 (`up`) and one for motion towards x = 0 (`down`). Underneath every
window lies a hard bound that depends on the direction, so nothing leaves [0, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from .coordinates import Coordinate, Identity, Logistic
from .errors import unknown_name
from .ops import Ops, Value, ops_for
from .parameters import Parametrised, parameter


@dataclass(frozen=True, kw_only=True)
class Window(Parametrised):
    """A profile f(x) >= 0 that multiplies the rate of the state."""

    symmetric: ClassVar[bool] = False
    """Whether the profile is the same in both directions."""

    def up(self, x: Value) -> Value:
        """Profile for motion towards x = 1 (low resistance), same shape as `x`."""
        return self._up(x, ops_for(x, *self.values().values()))

    def down(self, x: Value) -> Value:
        """Profile for motion towards x = 0 (high resistance), same shape as `x`."""
        return self._down(x, ops_for(x, *self.values().values()))

    @abstractmethod
    def _up(self, x: Value, ops: Ops) -> Value: ...

    def _down(self, x: Value, ops: Ops) -> Value:
        return self._up(1.0 - x, ops)

    def _profile(self, x: Value, direction: int, ops: Ops) -> Value:
        return self._up(x, ops) if direction > 0 else self._down(x, ops)

    def _kink(self, direction: int) -> Value:
        """Where the profile has a corner, or None."""
        return None

    def _leaves(self) -> list[Value]:
        return list(self.values().values())

    def _coordinate(self, ops: Ops) -> Coordinate | None:
        """The integral of dx / f in closed form, where there is one and it is the same in both directions."""
        return None


@dataclass(frozen=True, kw_only=True)
class NoWindow(Window):
    """f = 1 up to the bound the state moves towards; the state stops there and leaves freely."""

    symmetric: ClassVar[bool] = True

    def _up(self, x: Value, ops: Ops) -> Value:
        return 1.0 + 0.0 * x

    def _coordinate(self, ops: Ops) -> Coordinate | None:
        return Identity()


@dataclass(frozen=True, kw_only=True)
class Strukov(Window):
    """f = x (1 - x).

    Zero at both ends, like `Joglekar`; four times slower than it with p = 1.

    Source: Strukov et al., Nature 453, 80 (2008), doi:10.1038/nature06932.
    """

    symmetric: ClassVar[bool] = True

    def _up(self, x: Value, ops: Ops) -> Value:
        return x * (1.0 - x)

    def _coordinate(self, ops: Ops) -> Coordinate | None:
        return Logistic(1.0, ops)


@dataclass(frozen=True, kw_only=True)
class Joglekar(Window):
    """f = 1 - (2x - 1)^(2p).

    Zero at both ends, so an exact simulation never reaches them, and a state close to an end takes as long to
    leave it as it took to come.

    Source: Joglekar and Wolf, Eur. J. Phys. 30, 661 (2009), doi:10.1088/0143-0807/30/4/001.
    """

    p: Value = parameter(
        "1", "order; larger is closer to a box", role="shape", default=1.0, low=0.5, high=100, fit=False
    )

    symmetric: ClassVar[bool] = True

    def _up(self, x: Value, ops: Ops) -> Value:
        return 1.0 - ops.power(ops.abs(2.0 * x - 1.0), 2.0 * self.p)

    def _coordinate(self, ops: Ops) -> Coordinate | None:
        return Logistic(4.0, ops) if isinstance(self.p, (int, float)) and self.p == 1 else None


@dataclass(frozen=True, kw_only=True)
class Biolek(Window):
    """f = 1 - x^(2p) towards x = 1, 1 - (1 - x)^(2p) towards x = 0.

    Full speed when leaving an end, zero when arriving: nothing sticks.

    Source: Biolek, Biolek and Biolkova, Radioengineering 18, 210 (2009).
    """

    p: Value = parameter(
        "1", "order; larger is closer to a box", role="shape", default=1.0, low=0.5, high=100, fit=False
    )

    def _up(self, x: Value, ops: Ops) -> Value:
        return 1.0 - ops.power(ops.relu(x), 2.0 * self.p)


@dataclass(frozen=True, kw_only=True)
class Prodromakis(Window):
    """f = j (1 - [(x - 1/2)^2 + 3/4]^p).

    Source: Prodromakis et al., IEEE Trans. Electron Devices 58, 3099 (2011), doi:10.1109/TED.2011.2158004.
    """

    p: Value = parameter("1", "order, any positive real", role="shape", default=1.0, low=1e-3, high=1e3, fit=False)
    j: Value = parameter("1", "height factor", role="shape", default=1.0, low=1e-3, high=1e3, fit=False)

    symmetric: ClassVar[bool] = True

    def _up(self, x: Value, ops: Ops) -> Value:
        return self.j * (1.0 - ops.power((x - 0.5) * (x - 0.5) + 0.75, self.p))


@dataclass(frozen=True, kw_only=True)
class Zha(Window):
    """f = j (1 - [x^2 / 4 + 3/4]^p) towards x = 1, the mirror image towards x = 0.

    Slows down when arriving, like `Biolek`, with the height factor of `Prodromakis`.

    Source: Zha, Huang and Liu, IEEE Trans. Neural Netw. Learn. Syst. 27, 2157 (2016); the formula was not checked
    against the paper.
    """

    p: Value = parameter("1", "order, any positive real", role="shape", default=1.0, low=1e-3, high=1e3, fit=False)
    j: Value = parameter("1", "height factor", role="shape", default=1.0, low=1e-3, high=1e3, fit=False)

    def _up(self, x: Value, ops: Ops) -> Value:
        return self.j * (1.0 - ops.power(0.25 * x * x + 0.75, self.p))


@dataclass(frozen=True, kw_only=True)
class Kvatinsky(Window):
    """f = exp(-exp((x - a_on) / c)) towards x = 1, exp(-exp((a_off - x) / c)) towards x = 0.

    Close to 1 on the way, falls off beyond `a_on` or `a_off`. It is never quite zero, so the hard bound is needed.
    In the source the state w grows towards OFF: with w = w_on + (w_off - w_on)(1 - x), its a_on and a_off are
    positions w, and w_c = c (w_off - w_on).

    Source: Kvatinsky et al., IEEE Trans. Circuits Syst. I 60, 211 (2013), eq. 18 and 19, doi:10.1109/TCSI.2012.2215714.
    """

    a_on: Value = parameter("1", "where SET slows down", role="shape", default=0.9, low=-1.0, high=2.0, fit=False)
    a_off: Value = parameter("1", "where RESET slows down", role="shape", default=0.1, low=-1.0, high=2.0, fit=False)
    c: Value = parameter("1", "width of the fall", role="shape", default=0.05, low=1e-3, high=1e3, fit=False)

    def _up(self, x: Value, ops: Ops) -> Value:
        return _double_exponential((x - self.a_on) / self.c, ops)

    def _down(self, x: Value, ops: Ops) -> Value:
        return _double_exponential((self.a_off - x) / self.c, ops)


def _double_exponential(u: Value, ops: Ops) -> Value:
    return ops.exp(-ops.exp(ops.minimum(u, 6.0)))  # exp(-exp(6)) = 1e-175: stopped, and still no underflow


WINDOWS: dict[str, type[Window]] = {
    "none": NoWindow,
    "strukov": Strukov,
    "joglekar": Joglekar,
    "biolek": Biolek,
    "prodromakis": Prodromakis,
    "zha": Zha,
    "kvatinsky": Kvatinsky,
}
"""Every window by its name on the command line and in files."""


def window(name: str, **parameters: float) -> Window:
    """The window called `name`, for instance ``window("joglekar", p=2)``.

    Raises:
        ParameterError: If there is no such window.
    """
    if name not in WINDOWS:
        raise unknown_name("window", name, list(WINDOWS))
    return WINDOWS[name](**parameters)


def window_name(instance: Window) -> str:
    """The registered name of a window."""
    return next(name for name, cls in WINDOWS.items() if type(instance) is cls)
