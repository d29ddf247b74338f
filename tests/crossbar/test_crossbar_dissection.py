"""Nested dissection of linear arrays, against exact nodal analysis and elimination column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from crossbar_oracle import exact

from crossbar import Wires, dissection, effective_conductance, linear

EXACT = 1e-12  # rounding of float64, relative to the largest conductance
SINGLE = 3e-6  # of float32


def found(g: torch.Tensor, wires: Wires, **how: Any) -> torch.Tensor:
    m, n = g.shape[-2:]
    return dissection.dissected(g, wires.word_segments(m, n, g)[:, :-1], wires.bit_segments(m, n, g)[:, 1:], **how)


def cells(*shape: int, low: float = -6, high: float = -3) -> np.ndarray:
    return 10 ** np.random.default_rng(sum(shape)).uniform(low, high, shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (17, 1), (3, 5), (8, 8), (9, 30), (33, 12)])
@pytest.mark.parametrize("zero", ["none", "some", "all"])
def test_it_is_the_nodal_solution_for_every_input(shape: tuple[int, int], zero: str) -> None:
    """Lines with a resistance for each segment, some or all of them 0; some cells open."""
    m, n = shape
    rng, g = np.random.default_rng(1), cells(m, n, high=-2)
    g[rng.random(shape) < 0.1] = 0.0
    share = {"none": 0.0, "some": 0.3, "all": 1.1}[zero]

    def ohms(*size: int) -> np.ndarray:
        return rng.uniform(0, 9, size) * (rng.random(size) > share)

    wires = {"r_wl": ohms(m, n - 1), "r_bl": ohms(m - 1, n), "r_source": ohms(m), "r_sense": ohms(n)}
    result = found(torch.tensor(g), Wires(**{name: torch.tensor(r) for name, r in wires.items()})).numpy()
    for i in range(m):
        _, i_out = exact(lambda u: g * u, lambda u: g, wires, np.eye(m)[i], shape)
        np.testing.assert_allclose(result[i], i_out, rtol=0, atol=1e-9 * g.max() + 1e-30)  # of the oracle's shorts


@pytest.mark.parametrize("shape", [(2, 64, 64), (3, 40, 100), (100, 40), (130, 65)])
@pytest.mark.parametrize("ohm", [1e-3, 1.0, 50.0])
def test_it_is_elimination_column_by_column(shape: tuple[int, ...], ohm: float) -> None:
    """Float32 holds its own rounding, where elimination by columns loses two or three digits more."""
    g = torch.tensor(cells(*shape))
    wires = Wires(ohm, 2.0, 0.5, 3.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "DISSECTED", {})
        expected = effective_conductance(g, wires)
    largest = expected.abs().max().item()
    torch.testing.assert_close(found(g, wires), expected, rtol=0, atol=EXACT * largest)
    torch.testing.assert_close(found(g.float(), wires).double(), expected, rtol=0, atol=SINGLE * largest)


@pytest.mark.parametrize("high", [-1, 3])
def test_hostile_cells_and_lines(high: int) -> None:
    """Cells from 1 nS to shorts and lines up to 1 kohm: more current never comes out than goes in."""
    g = torch.tensor(cells(20, 16, 24, low=-9, high=high))
    for ohm in (1e-6, 1.0, 1e3):
        result = found(g, Wires(ohm, ohm, ohm, ohm))
        assert bool((result >= -1e-13 * result.max()).all())  # a resistive network from drivers to grounds
        per_volt = result.sum((-2, -1))  # all drivers at 1 V: at most what ideal lines would carry
        assert bool((per_volt <= torch.minimum(g.sum((-2, -1)), torch.tensor(16 / ohm)) * (1 + 1e-9)).all())


def test_parts_give_what_the_whole_gives() -> None:
    g = torch.tensor(cells(7, 12, 10))
    wires = Wires(1.0, 2.0, 0.5, 3.0)
    assert torch.equal(found(g, wires, memory=1.0), torch.cat([found(part, wires) for part in g.split(1)]))
    torch.testing.assert_close(found(g, wires, memory=1.0), found(g, wires, memory=1e9), rtol=1e-13, atol=0)


def test_gradients_with_respect_to_cells_and_every_segment() -> None:
    rng = np.random.default_rng(4)
    g, before, after = (torch.tensor(rng.uniform(0, 1, s)) for s in ((2, 5, 9), (5, 9), (9, 5)))
    g[0, 0, :3] = 0.0
    leaves = tuple(a.requires_grad_() for a in (g, before, after))
    assert torch.autograd.gradcheck(dissection.dissected, leaves, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize(("dtype", "n"), [(torch.float32, 100), (torch.float64, 200)])
def test_large_arrays_are_dissected(dtype: torch.dtype, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any) -> None:
        raise AssertionError("elimination column by column")

    monkeypatch.setattr(linear, "_eliminate", none)
    g, wires = torch.tensor(cells(n, n), dtype=dtype), Wires(1.0, 1.0, 1.0, 1.0)
    assert torch.equal(effective_conductance(g, wires), found(g, wires))
    with pytest.raises(AssertionError, match="column by column"):
        effective_conductance(g[:50, :50], wires)


def test_nothing_waits_for_the_device() -> None:
    """Traced on the meta device, which has no values to read."""
    g = torch.empty(3, 20, 33, device="meta")
    lines = torch.empty(1, 33, device="meta"), torch.empty(1, 20, device="meta")
    assert dissection.dissected(g, *lines).shape == g.shape
