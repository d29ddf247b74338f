"""Compiled traces of separable models are those that array operations, tensors' way too, give."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from scipy.integrate import quad

from devicelab import (
    VTEAM,
    WINDOWS,
    Drive,
    NonlinearIonDrift,
    Trace,
    _exact_kernels,
    coordinates,
    exact,
    parameter_set,
    parameter_sets,
    simulate,
    simulation,
    sine,
)
from devicelab.implicit import StepError
from devicelab.models import SeparableModel
from devicelab.ops import NUMPY, Ops, Value
from devicelab.parameter_sets import parameter_set_info
from devicelab.parameters import parameter

ROUNDING = 1e-12
TABLE = 2e-7  # inverse of a tabulated coordinate
SHARED = 2e-6  # array operations go through the tables once more wherever another device of the batch changes direction
SETS = [name for name in parameter_sets() if isinstance(parameter_set(name), SeparableModel)]


def both_ways(model: SeparableModel, drive: Drive, x0: Value, monkeypatch: pytest.MonkeyPatch) -> tuple[Trace, Trace]:
    assert exact.trajectory(model, drive.t, drive.v, x0) is not None
    compiled = simulate(model, drive, x0=x0)
    with monkeypatch.context() as patch:
        patch.setattr(simulation.exact, "trajectory", lambda *_: None)
        return compiled, simulate(model, drive, x0=x0)


def assert_same(compiled: Trace, arrays: Trace, allowed: float) -> None:
    np.testing.assert_allclose(compiled.x, arrays.x, atol=allowed)
    assert np.abs(compiled.i - arrays.i).max() <= 10 * allowed * np.abs(arrays.i).max()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", SETS)
def test_a_compiled_trace_is_that_of_array_operations(name: str, window: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One device over several blocks of samples; then devices, windows, starts and drives that all differ."""
    info = parameter_set_info(name)["drive"]
    model = parameter_set(name).replace(window=WINDOWS[window]())
    drive = sine(info["amplitude"], info["frequency"], periods=2, points=150)
    assert drive.t.size > 2 * _exact_kernels.BLOCK
    assert_same(*both_ways(model, drive, 0.4, monkeypatch), TABLE)
    rates = {e.name: getattr(model, e.name) * np.array([0.5, 1.0, 2.0]) for e in model.parameters() if e.role == "rate"}
    shapes = {e.name: getattr(model.window, e.name) * np.array([1.0, 1.1, 1.2]) for e in model.window.parameters()}
    many = model.replace(**rates, window=model.window.replace(**shapes))
    shifted = Drive(drive.t, np.stack([drive.v, -drive.v, np.roll(drive.v, 7)]))
    assert_same(*both_ways(many, shifted, np.array([0.0, 0.4, 1.0]), monkeypatch), SHARED)


@pytest.mark.parametrize("m", [1.0, 2.5, 5.0])
def test_nonlinear_drift_on_a_ramp_is_integrated_exactly(m: float) -> None:
    """A ramp from 0 to V in T moves the state by a T V^m / (m + 1), with two samples as with two hundred."""
    model = NonlinearIonDrift(beta=1e-6, alpha=2.0, chi=1e-10, gamma=4.0, n=2.0, a=0.3, m=m)
    for points in (2, 201):
        t = np.linspace(0.0, 2.0, points)
        up = simulate(model, Drive(t, 0.6 * t), x0=0.1)
        assert up.x[-1] - 0.1 == pytest.approx(0.3 * 2.0 * 1.2**m / (m + 1), rel=1e-9)
        down = simulate(model, Drive(t, -0.6 * t), x0=0.9)
        assert 0.9 - down.x[-1] == pytest.approx(0.3 * 2.0 * 1.2**m / (m + 1), rel=1e-9)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 7.0, 16.0, 17.0, 0.5, 2.5])
def test_powers_of_the_kernels_are_those_of_numpy(exponent: float) -> None:
    for base in (0.0, 1e-30, 0.3, 1.0, 7.0):
        assert _exact_kernels.power(base, exponent) == pytest.approx(NUMPY.power(base, exponent), rel=ROUNDING)
    assert _exact_kernels.power(0.0, 0.0) == 1.0
    assert np.isnan(_exact_kernels.power(np.nan, exponent))


def test_kernels_and_tables_agree_on_the_margin() -> None:
    assert _exact_kernels.MARGIN == coordinates.MARGIN


def test_columns_of_a_larger_array_are_a_drive_too() -> None:
    """Neither contiguous nor writeable."""
    table = np.stack([np.linspace(0.0, 1.0, 50), np.sin(np.linspace(0.0, 6.0, 50))], axis=1)
    table.flags.writeable = False
    model = parameter_set("vteam_pt_hf_ti")
    here = simulate(model, Drive(table[:, 0], table[:, 1]), x0=0.5)
    np.testing.assert_array_equal(here.x, simulate(model, Drive(*table.T.copy()), x0=0.5).x)


def test_a_current_beyond_all_numbers_is_refused() -> None:
    model = parameter_set("yakopcic_oblea").replace(b=100.0)
    with pytest.raises(StepError, match="the current is no finite number"):
        simulate(model, Drive([0.0, 1e-6], [0.0, 40.0]), x0=0.5)


@dataclass(frozen=True, kw_only=True)
class OwnCoordinate(SeparableModel):
    """psi = x^2 / 2 (f = 1 / x), by a coordinate that the kernels have never heard of."""

    name: ClassVar[str] = "own_coordinate"
    set_sign: ClassVar[int] = 1
    k: Value = parameter("1/s", "speed at 1 V", role="rate")

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return 1e-3 * v * x

    def _speed(self, v: Value, ops: Ops) -> Value:
        return self.k * v

    def _profile(self, x: Value, direction: int, ops: Ops) -> Value:
        return 1.0 / x

    def _coordinate(self, direction: int, ops: Ops, like: Value) -> coordinates.Coordinate:
        return HalfSquare()


@dataclass(frozen=True)
class HalfSquare:
    low: Value = 0.0
    high: Value = 0.5

    def forward(self, x: Value) -> Value:
        return 0.5 * x * x

    def inverse(self, psi: Value) -> Value:
        return np.sqrt(2.0 * psi)


def test_a_coordinate_of_ones_own_is_taken_by_array_operations() -> None:
    drive = Drive([0.0, 1.0, 2.0], [0.2, 0.2, 0.2])
    trace = simulate(OwnCoordinate(k=1.0), drive, x0=0.1)
    np.testing.assert_allclose(trace.x, np.sqrt(0.01 + 0.4 * drive.t), atol=ROUNDING)


@pytest.mark.parametrize("batched", [False, True])
def test_a_profile_with_a_corner_keeps_the_order_of_its_table(batched: bool) -> None:
    """Yakopcic at constant voltage: the time to x is the integral of dx / f, by adaptive quadrature on both sides."""
    model = parameter_set("yakopcic_oblea")
    corner = 1.0 - model.x_n
    x = np.linspace(0.75, 0.15, 25)
    parts = [sorted({a, b} | ({corner} if b < corner < a else set())) for a, b in pairwise(x)]
    panels = [
        sum(quad(lambda y: 1.0 / model._profile(y, -1, NUMPY), *ends, epsabs=1e-14)[0] for ends in pairwise(p))
        for p in parts
    ]
    v = -0.4
    t = np.concatenate([[0.0], np.cumsum(panels)]) / -model._speed(v, NUMPY)
    device = model.replace(x_n=np.array([0.3, model.x_n])) if batched else model
    found = np.atleast_2d(simulate(device, Drive(t, np.full(t.size, v)), x0=0.75).x)[-1]
    np.testing.assert_allclose(found, x, atol=5e-7)


def test_both_ends_are_starts() -> None:
    """Without a window the state leaves them; x0 itself is reported as given."""
    model = VTEAM(r_on=1e3, r_off=1e5, v_on=-0.7, v_off=0.6, k_on=0.4, k_off=0.3)
    for x0, v in ((0.0, -1.0), (1.0, 1.0), (0, -1.0), (1, 1.0)):
        trace = simulate(model, Drive([0.0, 1.0], [v, v]), x0=x0)
        assert trace.x[0] == x0
        assert 0 < trace.x[1] < 1
