"""The handful of functions that device equations may use, for numpy, torch and (in `netlists`) ngspice text.

A model is written once in terms of operators and an `Ops`; what the leaves are decides what comes out: arrays, tensors
with gradients, or an expression for a B-source. So a model never branches on a value.
"""

from __future__ import annotations

import sys
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


class NumpyOps:
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


class TorchOps:
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
