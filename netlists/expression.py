"""A symbolic scalar whose operators write ngspice B-source text, and the `Ops` that go with it.

A model called with these leaves returns the text of its own equations. The text is made for Newton's method: the value
and ngspice's symbolic derivative stay finite wherever the iterates go, and agree with numpy where numpy is finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn, TypeAlias, TypeGuard

from devicelab.errors import ParameterError
from devicelab.ops import Composed

Scalar: TypeAlias = "Expression | float"

SUM, PRODUCT, ATOM = 1, 2, 3
"""How tightly a text binds; operands that bind less tightly get parentheses."""

EXP_LIMIT = 200.0
"""Largest argument of exp and sinh: ngspice freezes exp near 1e99 and fails on an infinite sinh."""

TANH_LIMIT = 50.0
"""tanh is 1 to the last digit there, and the cosh in its derivative is still finite."""

TINY = 1e-30
"""Smallest argument of a square root, whose derivative at 0 is infinite."""

SMALL = 1e-6
"""Smallest argument of sinh(u) / u, which differs from 1 by 2e-13 there."""


class Expression:
    """A scalar known only by its ngspice text.

    Args:
        text: The text, for instance ``V(p,n)`` or ``{r_on}``.
        binding: How tightly it binds: `SUM`, `PRODUCT` or `ATOM`.
        inner: The u of which this is the positive part.
    """

    __slots__ = ("binding", "inner", "text")
    __array_ufunc__ = None  # so that numpy scalars leave the operation to us

    def __init__(self, text: str, binding: int = ATOM, inner: Expression | None = None) -> None:
        self.text = text
        self.binding = binding
        self.inner = inner

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"the value of '{self.text}' is not known: a model must not branch on values, use ops.select")

    def __add__(self, other: Scalar) -> Scalar:
        return _add(self, other)

    def __radd__(self, other: Scalar) -> Scalar:
        return _add(other, self)

    def __sub__(self, other: Scalar) -> Scalar:
        return _subtract(self, other)

    def __rsub__(self, other: Scalar) -> Scalar:
        return _subtract(other, self)

    def __mul__(self, other: Scalar) -> Scalar:
        return _multiply(self, other)

    def __rmul__(self, other: Scalar) -> Scalar:
        return _multiply(other, self)

    def __truediv__(self, other: Scalar) -> Scalar:
        return _divide(self, other)

    def __rtruediv__(self, other: Scalar) -> Scalar:
        return _divide(other, self)

    def __neg__(self) -> Expression:
        return Expression(f"-{wrapped(self, PRODUCT)}", SUM)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Scalar:
        return SPICE.abs(self)

    def __pow__(self, exponent: object) -> Scalar:
        if exponent == 2:  # ngspice's own power takes the absolute value of its base
            return self * self
        raise TypeError(f"'{self.text}' ** {exponent}: write ops.power(base, exponent), whose base is never negative")


def number(value: float) -> str:
    """A finite number with all its digits; ngspice suffixes such as M (milli) are never used."""
    value = float(value)
    if not math.isfinite(value):
        raise ParameterError("a number in a netlist is not finite", got=value, allowed="finite numbers")
    return repr(value)


def wrapped(value: Scalar, binding: int = ATOM) -> str:
    """The text of `value`, in parentheses if it binds less tightly than `binding`."""
    if not isinstance(value, Expression):
        text, own = number(value), ATOM if value >= 0 else SUM
    else:
        text, own = value.text, value.binding
    return text if own >= binding else f"({text})"


def plain(value: Scalar) -> str:
    """The text of `value` where no operator follows."""
    return wrapped(value, SUM)


def _is(value: Scalar, constant: float) -> bool:
    return not isinstance(value, Expression) and float(value) == constant


def _add(a: Scalar, b: Scalar) -> Scalar:
    if _is(a, 0.0) or _is(b, 0.0):
        return b if _is(a, 0.0) else a
    return Expression(f"{plain(a)} + {wrapped(b, PRODUCT)}", SUM)


def _subtract(a: Scalar, b: Scalar) -> Scalar:
    if _is(b, 0.0):
        return a
    if _is(a, 0.0):
        return -b
    return Expression(f"{plain(a)} - {wrapped(b, PRODUCT)}", SUM)


def _multiply(a: Scalar, b: Scalar) -> Scalar:
    if _is(a, 0.0) or _is(b, 0.0):
        return 0.0
    if _is(a, 1.0) or _is(b, 1.0):
        return b if _is(a, 1.0) else a
    return Expression(f"{wrapped(a, PRODUCT)} * {wrapped(b, ATOM)}", PRODUCT)


def _divide(a: Scalar, b: Scalar) -> Scalar:
    if _is(a, 0.0) or _is(b, 1.0):
        return a
    return Expression(f"{wrapped(a, PRODUCT)} / {wrapped(b, ATOM)}", PRODUCT)


def _call(name: str, *arguments: Scalar) -> Expression:
    return Expression(f"{name}({', '.join(plain(argument) for argument in arguments)})")


SHORT = 30
"""Texts up to this length are repeated rather than given a node of their own."""


class SpiceOps(Composed):
    """`devicelab.ops.Ops` on expressions; numbers among the arguments are welcome.

    Equations that a model leaves to be solved (`fixed_point`) become nodes, and so do named values (`let`); their
    elements gather in `elements` and belong beside the text. One instance serves one device.

    Args:
        prefix: Distinguishes the nodes of several devices in one circuit.
    """

    def __init__(self, prefix: str = "") -> None:
        self.elements: list[str] = []
        self._prefix = prefix
        self._named: dict[str, str] = {}
        self._solved: dict[str, str] = {}

    def exp(self, u: Scalar) -> Scalar:
        """e^u, for u up to 200."""
        return math.exp(u) if _known(u) else _call("exp", self.minimum(u, EXP_LIMIT))

    def log(self, u: Scalar) -> Scalar:
        """Natural logarithm; not below its value at 1e-300."""
        return math.log(u) if _known(u) else _call("ln", self.maximum(u, 1e-300))

    def sqrt(self, u: Scalar) -> Scalar:
        """Square root; at least 1e-15."""
        return math.sqrt(u) if _known(u) else _call("sqrt", self.maximum(u, TINY))

    def sinh(self, u: Scalar) -> Scalar:
        """Hyperbolic sine, for u between -200 and 200."""
        return math.sinh(u) if _known(u) else _call("sinh", self._between(u, EXP_LIMIT))

    def tanh(self, u: Scalar) -> Scalar:
        """Hyperbolic tangent."""
        return math.tanh(u) if _known(u) else _call("tanh", self._between(u, TANH_LIMIT))

    def abs(self, u: Scalar) -> Scalar:
        """Absolute value."""
        return math.fabs(u) if _known(u) else _call("abs", u)

    def minimum(self, a: Scalar, b: Scalar) -> Scalar:
        """The smaller one."""
        return min(a, b) if _known(a) and _known(b) else _call("min", a, b)

    def maximum(self, a: Scalar, b: Scalar) -> Scalar:
        """The larger one."""
        return max(a, b) if _known(a) and _known(b) else _call("max", a, b)

    def sinhc(self, u: Scalar) -> Scalar:
        """sinh(u) / u; an even function, so |u| >= 1e-6 serves for u and keeps 0/0 out of the derivative too."""
        if _known(u):
            return math.sinh(u) / u if abs(u) > SMALL else 1.0 + u * u / 6.0
        size = self.minimum(self.maximum(self.abs(u), SMALL), EXP_LIMIT)
        return _divide(_call("sinh", size), size)

    def relu(self, u: Scalar) -> Scalar:
        """The positive part."""
        return Expression(f"max({plain(u)}, 0)", inner=u) if isinstance(u, Expression) else max(u, 0.0)

    def power(self, base: Scalar, exponent: Scalar) -> Scalar:
        """base ^ exponent for base >= 0; 0 at base <= 0.

        ngspice evaluates only the chosen branch, so neither 0 ^ (exponent - 1) nor log(0) appears in the derivative.
        """
        if not isinstance(base, Expression):
            if base <= 0 or _known(exponent):
                return math.pow(base, exponent) if _known(exponent) else 0.0
            return _call("pow", base, exponent)
        if _is(exponent, 1.0):
            return base
        base = base if base.inner is None else base.inner
        return self.select(base, _call("pow", base, exponent), 0.0)

    def select(self, u: Scalar, above: Scalar, below: Scalar) -> Scalar:
        """`above` where u > 0, else `below`."""
        if _known(u):
            return above if u > 0 else below
        return Expression(f"({plain(u)} > 0 ? {wrapped(above, PRODUCT)} : {wrapped(below, PRODUCT)})")

    def arcsin(self, u: Scalar) -> Scalar:
        """Inverse sine, for u in [0, 1]; its derivative at 1 is infinite, so u ends a little below."""
        return math.asin(u) if _known(u) else _call("asin", self.minimum(u, 1.0 - 1e-12))

    def let(self, u: Scalar) -> Scalar:
        """A node whose voltage is u."""
        if not isinstance(u, Expression) or len(u.text) <= SHORT:
            return u
        if u.text not in self._named:
            self._named[u.text] = self._node("l", len(self._named))
            self._source(self._named[u.text], u)
        return Expression(f"V({self._named[u.text]})")

    def fixed_point(self, function: Callable[[Scalar], Scalar], start: Scalar, low: Scalar, high: Scalar) -> Expression:
        """A node whose voltage y is function(y); ngspice follows the solution from the one at time 0.

        The bracket is not used: to cut the function off there would let Newton's method jump to and fro.
        """
        for node, text in self._solved.items():
            if self._text_at(function, node) == text:
                return Expression(f"V({node})")
        node = self._node("y", len(self._solved))
        right = function(Expression(f"V({node})"))
        self._solved[node] = plain(right)
        self._source(node, right)
        return Expression(f"V({node})")

    def _text_at(self, function: Callable[[Scalar], Scalar], node: str) -> str:
        """The text of function(V(node)), without the nodes that it would need."""
        elements, named = list(self.elements), dict(self._named)
        text = plain(function(Expression(f"V({node})")))
        self.elements, self._named = elements, named
        return text

    def _node(self, kind: str, count: int) -> str:
        return f"{self._prefix}{kind}{count}"

    def _source(self, node: str, value: Scalar) -> None:
        self.elements.append(f"B{node} {node} 0 V={plain(value)}")

    def _between(self, u: Scalar, limit: float) -> Scalar:
        return self.minimum(self.maximum(u, -limit), limit)


def _known(value: Scalar) -> TypeGuard[float]:
    return not isinstance(value, Expression)


SPICE = SpiceOps()
"""For equations that need no nodes."""
