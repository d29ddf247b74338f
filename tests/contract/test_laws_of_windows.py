"""What every window obeys, and the values that its source states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devicelab import WINDOWS, Biolek, Joglekar, Kvatinsky, NoWindow, Prodromakis, Strukov, Window, Zha

ROUNDING = 1e-12
X = np.linspace(0.0, 1.0, 201)
every_window = pytest.mark.parametrize("window", [cls() for cls in WINDOWS.values()], ids=list(WINDOWS))


@every_window
def test_a_window_never_reverses_the_motion(window: Window) -> None:
    assert (np.asarray(window.up(X)) >= -ROUNDING).all()
    assert (np.asarray(window.down(X)) >= -ROUNDING).all()


@every_window
def test_a_symmetric_window_is_the_same_both_ways(window: Window) -> None:
    if window.symmetric:
        np.testing.assert_allclose(window.up(X), window.down(X), atol=ROUNDING)
    else:
        assert not np.allclose(window.up(X), window.down(X))


@every_window
def test_both_directions_mirror_each_other(window: Window) -> None:
    np.testing.assert_allclose(window.down(X), window.up(1.0 - X), atol=ROUNDING)


@every_window
def test_numpy_and_torch_agree(window: Window) -> None:
    np.testing.assert_allclose(window.up(torch.as_tensor(X)).numpy(), window.up(X), atol=ROUNDING)
    np.testing.assert_allclose(window.down(torch.as_tensor(X)).numpy(), window.down(X), atol=ROUNDING)


# (window, x, f towards 1, f towards 0): worked out by hand from the formula of the source
STATED = [
    (NoWindow(), 0.0, 1.0, 1.0),
    (NoWindow(), 1.0, 1.0, 1.0),
    (Joglekar(p=1), 0.25, 0.75, 0.75),
    (Joglekar(p=1), 0.5, 1.0, 1.0),
    (Joglekar(p=1), 0.0, 0.0, 0.0),
    (Joglekar(p=2), 0.25, 0.9375, 0.9375),
    (Joglekar(p=1), 1.0, 0.0, 0.0),
    (Biolek(p=1), 0.0, 1.0, 0.0),
    (Biolek(p=1), 1.0, 0.0, 1.0),
    (Biolek(p=2), 0.5, 0.9375, 0.9375),
    (Biolek(p=1), 0.25, 0.9375, 0.4375),
    (Prodromakis(p=1), 0.5, 0.25, 0.25),
    (Prodromakis(p=2), 0.5, 0.4375, 0.4375),
    (Prodromakis(p=10), 0.5, 0.943686485, 0.943686485),
    (Prodromakis(p=1), 0.0, 0.0, 0.0),
    (Prodromakis(p=3), 1.0, 0.0, 0.0),
    (Strukov(), 0.5, 0.25, 0.25),
    (Strukov(), 0.0, 0.0, 0.0),
    (Zha(p=1), 0.0, 0.25, 0.0),
    (Zha(p=1, j=4.0), 0.0, 1.0, 0.0),
    (Zha(p=2), 1.0, 0.0, 0.4375),
    (Kvatinsky(a_on=0.9, a_off=0.1, c=0.05), 0.9, 0.36787944117, 0.99999988746),  # 1/e; exp(-exp(-16))
    (Kvatinsky(a_on=0.9, a_off=0.2, c=0.1), 0.2, 0.999088534, 0.36787944117),
]


@pytest.mark.parametrize(("window", "x", "up", "down"), STATED)
def test_a_window_has_the_values_of_its_formula(window: Window, x: float, up: float, down: float) -> None:
    assert float(window.up(x)) == pytest.approx(up, abs=1e-9)
    assert float(window.down(x)) == pytest.approx(down, abs=1e-9)
