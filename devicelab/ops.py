"""The handful of functions that device equations may use, for numpy, torch and (in `netlists`) ngspice text.

A model is written once in terms of operators and an `Ops`; what the leaves are decides what comes out: arrays, tensors
with gradients, or an expression for a B-source. So a model never branches on a value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np

Value: TypeAlias = Any
"""A float, a numpy array, a torch tensor or a symbolic scalar: whatever the operators and the `Ops` accept."""


class Ops(Protocol):
    """Elementary functions on one kind of leaf."""

    def exp(self, u: Value) -> Value: ...
    def log(self, u: Value) -> Value: ...
    def sqrt(self, u: Value) -> Value: ...
    def sinh(self, u: Value) -> Value: ...
    def tanh(self, u: Value) -> Value: ...
    def abs(self, u: Value) -> Value: ...
    def minimum(self, a: Value, b: Value) -> Value: ...
    def maximum(self, a: Value, b: Value) -> Value: ...

    def sinhc(self, u: Value) -> Value:
        """sinh(u) / u, equal to 1 at u = 0."""
        ...

    def relu(self, u: Value) -> Value:
        """The positive part of u."""
        ...

    def power(self, base: Value, exponent: Value) -> Value:
        """base ** exponent for base >= 0."""
        ...

    def select(self, u: Value, above: Value, below: Value) -> Value:
        """`above` where u > 0, else `below`; both are evaluated, so both must be finite."""
        ...

    def arcsin(self, u: Value) -> Value:
        """Inverse sine of u in [0, 1]."""
        ...

    def let(self, u: Value) -> Value:
        """u itself; where equations become text, under a name of its own. Only for values of about 1e-3 to 1e4."""
        ...

    def fixed_point(self, function: Callable[[Value], Value], start: Value, low: Value, high: Value) -> Value:
        """The y in [low, high] with function(y) = y, where function(y) - y falls through zero.

        For equations that a model cannot solve for its current. With several solutions, the one next to `start` on the
        side that the sign of function(start) - start points to. Derivatives are those of the solution.

        Args:
            function: The right-hand side, written with operators and these functions.
            start: First guess.
            low: Lower end of the search.
            high: Upper end of the search.
        """
        ...


UNROLLED = 10
"""Steps of `fixed_point` where their number must be known beforehand."""

REACH = 3.0
"""Longest first step of `fixed_point`: unknowns are logarithms, or of order one."""


class Composed:
    """What follows from the elementary functions; a base of every `Ops`."""

    def arcsin(self: Any, u: Value) -> Value:
        """By halving the angle four times, tan(a / 2) = t / (1 + sqrt(1 + t^2)), and the series of its tangent."""
        t = u / (1.0 + self.sqrt(self.maximum(1.0 - u * u, 0.0)))
        for _ in range(3):
            t = t / (1.0 + self.sqrt(1.0 + t * t))
        s, series = t * t, 0.0
        for k in range(13, 0, -2):
            series = 1.0 / k - s * series
        return 16.0 * t * series

    def let(self: Any, u: Value) -> Value:
        """u itself."""
        return u

    def fixed_point(self: Any, function: Callable[[Value], Value], start: Value, low: Value, high: Value) -> Value:
        """A fixed number of secant steps within a bracket."""
        search = _Search(self, function, start, low, high)
        for _ in range(UNROLLED):
            search.step()
        return search.y


class _Search:
    """Secant steps for function(y) = y within a shrinking bracket; where one leaves it, a step of the iteration."""

    def __init__(self, ops: Any, function: Callable[[Value], Value], start: Value, low: Value, high: Value) -> None:
        self._ops = ops
        self._function = function
        self._old, self._f_old = start, function(start) - start
        self._low = ops.select(self._f_old, start, low)
        self._high = ops.select(self._f_old, high, start)
        near = ops.minimum(ops.maximum(start + self._f_old, start - REACH), start + REACH)
        self.y = ops.minimum(ops.maximum(near, low), high)
        self.f: Value = self._f_old

    def step(self) -> None:
        """One evaluation; `y` becomes better, `f` is what it was off by."""
        ops, y = self._ops, self.y
        f = self._function(y) - y
        self._low, self._high = ops.select(f, y, self._low), ops.select(f, self._high, y)
        rise = f - self._f_old
        rise = ops.select(ops.abs(rise) - 1e-300, rise, -1.0)
        secant = y - f * ((y - self._old) / rise)
        inside = ops.select(secant - self._low, ops.select(self._high - secant, 1.0, 0.0), 0.0)
        iterated = ops.minimum(ops.maximum(y + f, 0.5 * (self._low + y)), 0.5 * (self._high + y))
        new = ops.select(inside - 0.5, secant, iterated)
        done = ROUNDING * (1.0 + ops.abs(y)) - ops.abs(f)
        self._old, self._f_old, self.f = y, f, f
        self.y = ops.select(done, y, new)

    def run(self, settled: Callable[[Value], bool]) -> Value:
        """Steps until nothing changes any more."""
        for _ in range(LONGEST):
            before = self.y
            self.step()
            if settled(self.y == before):
                break
        return self.y


ROUNDING = 4e-16
"""`fixed_point` is content with an error of so many times 1 + |y|."""

LONGEST = 80
"""Most steps of `fixed_point` on arrays: halving a bracket to the last digit."""


class NumpyOps(Composed):
    """`Ops` on floats and numpy arrays."""

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    sqrt = staticmethod(np.sqrt)
    sinh = staticmethod(np.sinh)
    tanh = staticmethod(np.tanh)
    abs = staticmethod(np.abs)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)

    def sinhc(self, u: Value) -> Value:
        small = np.abs(u) < 1e-4
        safe = np.where(small, 1.0, u)
        return np.where(small, 1.0 + np.square(u) / 6.0, np.sinh(safe) / safe)

    def relu(self, u: Value) -> Value:
        return np.maximum(u, 0.0)

    def power(self, base: Value, exponent: Value) -> Value:
        return np.power(base, exponent)

    def select(self, u: Value, above: Value, below: Value) -> Value:
        return np.where(np.greater(u, 0.0), above, below)

    def arcsin(self, u: Value) -> Value:
        return np.arcsin(u)

    def fixed_point(self, function: Callable[[Value], Value], start: Value, low: Value, high: Value) -> Value:
        return _Search(self, function, start, low, high).run(lambda same: bool(np.all(same)))


class TorchOps(Composed):
    """`Ops` on torch tensors; torch is imported only when one is made."""

    def __init__(self) -> None:
        import torch

        self._torch = torch

    def _tensor(self, u: Value, like: Value = None) -> Value:
        if isinstance(u, self._torch.Tensor):
            return u
        if isinstance(like, self._torch.Tensor):
            return self._torch.as_tensor(u, dtype=like.dtype, device=like.device)
        return self._torch.as_tensor(u, dtype=self._torch.float64)

    def _pair(self, a: Value, b: Value) -> tuple[Value, Value]:
        return self._tensor(a, b), self._tensor(b, a)

    def exp(self, u: Value) -> Value:
        return self._torch.exp(self._tensor(u))

    def log(self, u: Value) -> Value:
        return self._torch.log(self._tensor(u))

    def sqrt(self, u: Value) -> Value:
        return self._torch.sqrt(self._tensor(u))

    def sinh(self, u: Value) -> Value:
        return self._torch.sinh(self._tensor(u))

    def tanh(self, u: Value) -> Value:
        return self._torch.tanh(self._tensor(u))

    def abs(self, u: Value) -> Value:
        return self._torch.abs(self._tensor(u))

    def minimum(self, a: Value, b: Value) -> Value:
        return self._torch.minimum(*self._pair(a, b))

    def maximum(self, a: Value, b: Value) -> Value:
        return self._torch.maximum(*self._pair(a, b))

    def sinhc(self, u: Value) -> Value:
        u = self._tensor(u)
        small = u.abs() < 1e-4
        safe = self._torch.where(small, self._torch.ones_like(u), u)
        return self._torch.where(small, 1.0 + u * u / 6.0, self._torch.sinh(safe) / safe)

    def relu(self, u: Value) -> Value:
        return self._torch.relu(self._tensor(u))

    def power(self, base: Value, exponent: Value) -> Value:
        base, exponent = self._pair(base, exponent)
        # 0 ** a has an infinite or undefined gradient: keep it out of the graph
        positive = base > 0
        safe = self._torch.where(positive, base, self._torch.ones_like(base))
        zero = self._torch.where(exponent == 0, 1.0, 0.0).to(base.dtype)
        return self._torch.where(positive, self._torch.pow(safe, exponent), zero)

    def select(self, u: Value, above: Value, below: Value) -> Value:
        above, below = self._pair(above, below)
        return self._torch.where(self._tensor(u) > 0, above, below)

    def arcsin(self, u: Value) -> Value:
        return self._torch.asin(self._tensor(u))

    def fixed_point(self, function: Callable[[Value], Value], start: Value, low: Value, high: Value) -> Value:
        torch = self._torch
        with torch.no_grad():
            y = _Search(self, function, start, low, high).run(lambda same: bool(same.all()))
        if not torch.is_grad_enabled():
            return y
        probe = y.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(probe).sum(), probe)
        newton = (function(y) - y) / (1.0 - slope)
        return y + (newton - newton.detach())  # the value is that of the search, the derivative that of a Newton step


NUMPY = NumpyOps()
_torch_ops: TorchOps | None = None


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def ops_for(*values: object) -> Ops:
    """The `Ops` for these values: torch if any of them is a tensor, else numpy."""
    global _torch_ops
    if not any(is_tensor(value) for value in values):
        return NUMPY
    if _torch_ops is None:
        _torch_ops = TorchOps()
    return _torch_ops
