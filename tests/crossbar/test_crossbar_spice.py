"""Every kind of cell and bias against the operating point of the emitted netlist in ngspice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from crossbar_spice import needs_ngspice, output_currents

import netlists
from crossbar import Bias, Cells, LutCells, ModelCells, Ohmic, Sinh, Wires, solve
from devicelab import Lut, parameter_set

TIGHT = 1e-10  # rtol asked of the engine
LINEAR = 1e-9  # nothing but rounding on either side
NONLINEAR = 1e-6  # ngspice's own reltol of 1e-9, through arrays that amplify it by less than a thousand
USUAL = Wires(1.0, 2.0, 0.5, 3.0)
BOTH_ENDS = Wires(1.0, 2.0, 0.5, 3.0, r_source_right=0.7, r_sense_top=1.5)
SEGMENTS = Wires(torch.linspace(0, 9, 8), torch.linspace(1, 5, 8), r_source=torch.linspace(0, 1, 8), r_sense=2.0)

pytestmark = needs_ngspice


def cells(kind: str, m: int, n: int) -> Cells:
    rng = np.random.default_rng(0)
    g, x = torch.tensor(10 ** rng.uniform(-6, -3, (m, n))), torch.tensor(rng.uniform(0, 1, (m, n)))
    device: Any = parameter_set("vteam_pt_hf_ti")
    kinds = {
        "ohmic": lambda: Ohmic(g),
        "sinh": lambda: Sinh(g, 6.0),
        "vteam": lambda: ModelCells(device, x),
        "table": lambda: LutCells(Lut.from_model(device, 1.0, tolerance=1e-2), x),
    }
    return kinds[kind]()


def compare(array: Cells, bias: Any, wires: Wires | None, tolerance: float) -> None:
    expected = output_currents(netlists.crossbar(array, bias, wires), array.shape[-1])
    found = solve(array, bias, wires, rtol=TIGHT).i_out.numpy()
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["ohmic", "sinh", "vteam", "table"])
@pytest.mark.parametrize(
    "n", [4, 16, pytest.param(32, marks=pytest.mark.slow), pytest.param(64, marks=pytest.mark.slow)]
)
def test_every_kind_of_cell(kind: str, n: int) -> None:
    v = torch.tensor(np.random.default_rng(1).uniform(-0.2, 0.3, n))
    compare(cells(kind, n, n), v, USUAL, LINEAR if kind == "ohmic" else NONLINEAR)


@pytest.mark.parametrize("scheme", ["v/2", "v/3", "grounded", "floating"])
@pytest.mark.parametrize("wires", [USUAL, BOTH_ENDS, SEGMENTS], ids=["usual", "both ends", "per line"])
@pytest.mark.parametrize("kind", ["ohmic", "sinh"])
def test_every_write_scheme(kind: str, scheme: str, wires: Wires) -> None:
    bias = Bias.write(0.8, 5, 2, 8, 8, scheme)
    compare(cells(kind, 8, 8), bias, wires, NONLINEAR)


@pytest.mark.parametrize("wires", [None, Wires(r_wl=5.0), Wires(r_bl=5.0)], ids=["ideal", "word", "bit"])
def test_lines_without_resistance(wires: Wires | None) -> None:
    v = torch.tensor(np.random.default_rng(1).uniform(-0.2, 0.3, 8))
    compare(cells("sinh", 8, 8), v, wires, NONLINEAR)
