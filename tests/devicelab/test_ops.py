"""Equations solved inside a model, and the functions composed of others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import lambertw

from devicelab.ops import NUMPY, Composed, NumpyOps, ops_for

ROUNDING = 1e-14


class Unrolled(NumpyOps):
    """What a recorded model uses: no functions but the elementary ones, a fixed number of steps."""

    arcsin = Composed.arcsin  # type: ignore[assignment]
    fixed_point = Composed.fixed_point


def test_the_composed_inverse_sine_is_the_inverse_sine() -> None:
    u = np.concatenate([np.linspace(0, 1, 1001), [1e-12, 1 - 1e-12]])
    np.testing.assert_allclose(Unrolled().arcsin(u), np.arcsin(u), rtol=4e-15)


@pytest.mark.parametrize("ops", [NUMPY, Unrolled()], ids=["numpy", "unrolled"])
def test_a_fixed_point_is_found(ops: NumpyOps) -> None:
    """y = c exp(-y) is Lambert's W(c)."""
    c = np.geomspace(1e-6, 1e3, 50)
    y = ops.fixed_point(lambda y: c * np.exp(-y), 0.0 * c, 0.0, 50.0)
    np.testing.assert_allclose(y, lambertw(c).real, rtol=1e-12, atol=1e-15)


def test_the_bracket_finds_what_the_secant_runs_away_from() -> None:
    """A knee of width 1e-6 at 0.7, started far off."""

    def knee(y: float) -> float:
        return 0.7 + 40.0 * math.tanh((0.7 - y) / 1e-6)

    found = float(NUMPY.fixed_point(lambda y: 0.7 + 40.0 * np.tanh((0.7 - y) / 1e-6), 20.0, -60.0, 60.0))
    assert found == pytest.approx(brentq(lambda y: knee(y) - y, -60, 60, xtol=1e-14), abs=1e-12)


def test_the_derivative_of_a_fixed_point_is_that_of_the_implicit_function() -> None:
    """dW/dc = W / (c (1 + W))."""
    c = torch.linspace(0.1, 5.0, 7, dtype=torch.float64, requires_grad=True)
    ops = ops_for(c)
    y = ops.fixed_point(lambda y: c * torch.exp(-y), 0.0 * c.detach(), 0.0, 50.0)
    (slope,) = torch.autograd.grad(y.sum(), c)
    w = lambertw(c.detach().numpy()).real
    np.testing.assert_allclose(y.detach().numpy(), w, rtol=ROUNDING)
    np.testing.assert_allclose(slope.numpy(), w / (c.detach().numpy() * (1 + w)), rtol=1e-12)
    with torch.no_grad():
        assert not ops.fixed_point(lambda y: c * torch.exp(-y), 0.0 * c, 0.0, 50.0).requires_grad
