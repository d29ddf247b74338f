"""Natural coordinates of a separable model: psi(x), the integral of dx / profile, and its inverse.

In psi the state moves by exactly the integral of the speed. A profile that vanishes at an end puts that end at
infinity, so nothing is lost to rounding however long the device is driven against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .ops import Ops, Value, is_tensor, ops_for

MARGIN = 1e-9
"""A start closer than this to an end at infinity is moved inside; exactly on it the state could never leave."""

GAUSS_5: tuple[tuple[float, float], ...] = (
    (0.04691007703066800, 0.11846344252809454),
    (0.23076534494715845, 0.23931433524968324),
    (0.5, 0.28444444444444444),
    (0.76923465505284155, 0.23931433524968324),
    (0.95308992296933200, 0.11846344252809454),
)
"""Nodes and weights of the five-point Gauss-Legendre rule on [0, 1]."""


class Coordinate(Protocol):
    """A monotone map of the state; `low` and `high` are psi at x = 0 and x = 1, infinite where never reached."""

    @property
    def low(self) -> Value:
        """psi at x = 0."""
        ...

    @property
    def high(self) -> Value:
        """psi at x = 1."""
        ...

    def forward(self, x: Value) -> Value:
        """psi(x)."""
        ...

    def inverse(self, psi: Value) -> Value:
        """x(psi)."""
        ...


@dataclass(frozen=True)
class Identity:
    """psi = x: no window."""

    low: Value = 0.0
    high: Value = 1.0

    def forward(self, x: Value) -> Value:
        """psi(x)."""
        return x

    def inverse(self, psi: Value) -> Value:
        """x(psi)."""
        return psi


@dataclass(frozen=True)
class Logistic:
    """psi of f = height x (1 - x): the Joglekar window with p = 1."""

    height: float
    ops: Ops
    low: Value = -np.inf
    high: Value = np.inf

    def forward(self, x: Value) -> Value:
        """psi(x)."""
        x = self.ops.minimum(self.ops.maximum(x, MARGIN), 1.0 - MARGIN)
        return self.ops.log(x / (1.0 - x)) / self.height

    def inverse(self, psi: Value) -> Value:
        """x(psi)."""
        return 0.5 * (1.0 + self.ops.tanh((0.5 * self.height) * psi))


@dataclass(frozen=True)
class Quadratic:
    """psi = b x - (b - a) x^2 / 2: the flux that linear ion drift without a window takes, a = r_on, b = r_off."""

    a: Value
    b: Value
    ops: Ops
    low: Value = 0.0

    @property
    def high(self) -> Value:
        """psi at x = 1."""
        return 0.5 * (self.a + self.b)

    def forward(self, x: Value) -> Value:
        """psi(x)."""
        return self.b * x - 0.5 * (self.b - self.a) * x * x

    def inverse(self, psi: Value) -> Value:
        """x(psi)."""
        root = self.ops.sqrt(self.ops.relu(self.b * self.b - 2.0 * (self.b - self.a) * psi))
        return self.ops.minimum(2.0 * psi / (self.b + root), 1.0)  # rounding may exceed it


_NODES = 1024
_REACH = 34.0  # sigmoid(-34) = 2e-15: beyond it the state is at its end to double precision
_Array = NDArray[np.float64]


@lru_cache(maxsize=1)
def _grid() -> tuple[_Array, _Array, _Array]:
    """Nodes x [n], quadrature points [n-1, 5] and weights, uniform in logit(x)."""
    u = np.linspace(-_REACH, _REACH, _NODES)
    step = u[1] - u[0]
    c, w = np.array(GAUSS_5).T
    inner_u = u[:-1, None] + step * c
    inner = 1.0 / (1.0 + np.exp(-inner_u))
    return 1.0 / (1.0 + np.exp(-u)), inner, step * w * inner / (1.0 + np.exp(inner_u))


def _kinked(kink: Value, like: Value) -> tuple[Value, Value, Value]:
    """`_grid` with one more node at `kink`, each [..., n] for a kink of shape [..., 1]."""
    u = np.linspace(-_REACH, _REACH, _NODES)
    c, w = (_as(np.array(column), like) for column in zip(*GAUSS_5, strict=True))
    ops = ops_for(like)
    if like is not None and not is_tensor(kink):
        kink = _as(np.asarray(kink, dtype=float), like)
    kink = _clip(np.asarray(kink) if like is None else kink, 1e-12, 1.0 - 1e-12)
    u = _sorted(_as(u, like) + 0.0 * kink, ops.log(kink / (1.0 - kink)))
    step = u[..., 1:] - u[..., :-1]
    decay = ops.exp(-u[..., :-1, None] - step[..., None] * c)
    inner = 1.0 / (1.0 + decay)
    return 1.0 / (1.0 + ops.exp(-u)), inner, step[..., None] * w * inner * inner * decay


def _sorted(a: Value, more: Value) -> Value:
    """`a` [..., n] and one more value, scalar or [..., 1], in order."""
    if not is_tensor(a):
        return np.sort(np.concatenate([a, np.broadcast_to(more, (*a.shape[:-1], 1))], axis=-1), axis=-1)
    return _join(a, more.expand(*a.shape[:-1], 1)).sort(dim=-1).values


class Table:
    """psi of any profile: quadrature on nodes graded towards both ends, inverted by cubic Hermite interpolation.

    The slope dx/dpsi is the profile itself, so the inverse is of fourth order and good to about 1e-8 in x.

    Args:
        profile: Maps x of shape [n] to f(x) > 0 of shape [n] or [..., n] for batched parameters.
        like: Any value of the kind to compute with; a tensor gives tensors on its device.
        kink: Where the profile has a corner, scalar or [..., 1]; a node is put there, or the order would be lost.
    """

    def __init__(self, profile: Callable[[Value], Value], like: Value, kink: Value = None) -> None:
        nodes, inner, weights = (_as(array, like) for array in _grid()) if kink is None else _kinked(kink, like)
        self._x = nodes
        self._slope = profile(nodes)
        f = profile(inner.reshape(*inner.shape[:-2], -1))
        panels = (weights / f.reshape(*f.shape[:-1], *inner.shape[-2:])).sum(-1)
        self._psi = _sum_from_the_middle(panels)
        ends = profile(_as(np.array([0.0, 1.0]), like))
        small = 1e-12 * _largest(self._slope)
        self.low: Value = self._psi[..., :1] if _largest(ends[..., 0]) > small else -np.inf
        self.high: Value = self._psi[..., -1:] if _largest(ends[..., 1]) > small else np.inf

    @property
    def nodes(self) -> tuple[Value, Value, Value]:
        """Nodes x, psi and profile at them, each [n] or [..., n]."""
        return self._x, self._psi, self._slope

    def forward(self, x: Value) -> Value:
        """psi(x)."""
        first, last = _grid()[0][0], _grid()[0][-1]
        low = MARGIN if isinstance(self.low, float) else first
        high = 1.0 - MARGIN if isinstance(self.high, float) else last
        return _hermite(_clip(x, low, high), self._x, self._psi, 1.0 / self._slope)

    def inverse(self, psi: Value) -> Value:
        """x(psi)."""
        return _hermite(_clip(psi, self._psi[..., :1], self._psi[..., -1:]), self._psi, self._x, self._slope)


def _largest(a: Value) -> float:
    return float(a.detach().max() if is_tensor(a) else a.max())


def _sum_from_the_middle(panels: Value) -> Value:
    """Integral from the middle node to each node; far panels are huge, and must not enter near ones."""
    middle = _NODES // 2
    above, below = panels[..., middle:].cumsum(-1), _reversed(_reversed(panels[..., :middle]).cumsum(-1))
    return _join(_join(-below, 0.0 * above[..., :1]), above)


def _reversed(a: Value) -> Value:
    return a.flip(-1) if is_tensor(a) else a[..., ::-1]


def _as(array: _Array, like: Value) -> Value:
    if not is_tensor(like):
        return array
    import torch

    return torch.as_tensor(array, dtype=torch.float64, device=like.device)


def _join(a: Value, b: Value) -> Value:
    if not is_tensor(a):
        return np.concatenate([a, b], axis=-1)
    import torch

    return torch.cat([a, b], dim=-1)


def _clip(value: Value, low: Value, high: Value) -> Value:
    return value.clip(low, high) if hasattr(value, "clip") else np.clip(value, low, high)


def _hermite(q: Value, x: Value, y: Value, slope: Value) -> Value:
    """Cubic Hermite interpolation along the last axis: y(q) from nodes x, values y and slopes dy/dx."""
    k = _interval(q, x)
    x0, x1, y0, y1 = _take(x, k), _take(x, k + 1), _take(y, k), _take(y, k + 1)
    h = x1 - x0
    u = (q - x0) / (h + (h == 0))  # nodes closer than a rounding error coincide
    m0, m1 = h * _take(slope, k), h * _take(slope, k + 1)
    return y0 + u * (m0 + u * (3.0 * (y1 - y0) - 2.0 * m0 - m1 + u * (2.0 * (y0 - y1) + m0 + m1)))


def _interval(q: Value, x: Value) -> Value:
    """Index k with x[k] <= q <= x[k + 1] along the last axis."""
    last = x.shape[-1] - 2
    if is_tensor(x):
        import torch

        q = torch.as_tensor(q, dtype=x.dtype, device=x.device)
        shape = torch.broadcast_shapes(q.shape[:-1], x.shape[:-1]) if x.ndim > 1 else q.shape[:-1]
        nodes = x.expand(*shape, x.shape[-1]).contiguous() if x.ndim > 1 else x
        points = q.expand(*shape, q.shape[-1]).contiguous() if q.ndim else q
        return (torch.searchsorted(nodes, points.detach(), right=True) - 1).clip(0, last)
    if x.ndim == 1:
        return (np.searchsorted(x, q, side="right") - 1).clip(0, last)
    shape = np.broadcast_shapes(np.shape(q)[:-1], x.shape[:-1])
    nodes = np.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1])
    points = np.broadcast_to(q, (*shape, np.shape(q)[-1])).reshape(-1, np.shape(q)[-1])
    found = [np.searchsorted(a, b, side="right") - 1 for a, b in zip(nodes, points, strict=True)]
    return np.stack(found).reshape(*shape, -1).clip(0, last)


def _take(a: Value, k: Value) -> Value:
    if a.ndim == 1:
        return a[k]
    if is_tensor(a):
        import torch

        lead = torch.broadcast_shapes(a.shape[:-1], k.shape[:-1])
        return a.expand(*lead, a.shape[-1]).gather(-1, k.expand(*lead, k.shape[-1]))
    k = np.broadcast_to(k, (*np.broadcast_shapes(a.shape[:-1], k.shape[:-1]), k.shape[-1]))
    return np.take_along_axis(np.broadcast_to(a, (*k.shape[:-1], a.shape[-1])), k, axis=-1)
