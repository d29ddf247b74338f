"""Every kind of cell and bias against the operating point of the emitted netlist in ngspice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from crossbar_spice import needs_ngspice, output_currents

import netlists
from crossbar import (
    Bias,
    Cells,
    Faulty,
    LutCells,
    ModelCells,
    Ohmic,
    Series,
    Sinh,
    Threshold,
    Transistor,
    Wires,
    solve,
)
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


def compositions(kind: str, n: int) -> Cells:
    rng = np.random.default_rng(2)
    fault = torch.full((n, n), torch.nan, dtype=torch.float64)
    fault[1, 2], fault[3, 0], fault[2, 2] = 0.0, 1.0, 1e-2  # open, shorted, stuck
    gates = torch.tensor(rng.uniform(0.4, 1.3, (n, n)))  # some below the threshold
    kinds = {
        "1T1R": lambda: Series(cells("sinh", n, n), Transistor(2e-4, v_gate=1.1, slope=0.05, r_off=1e9)),
        "1T1R, a gate each": lambda: Series(cells("ohmic", n, n), Transistor(5e-4, v_gate=gates, r_off=1e8)),
        "1S1R": lambda: Series(cells("ohmic", n, n), Threshold(1e-6, 0.08)),
        "1S1R, model cells": lambda: Series(cells("vteam", n, n), Threshold(1e-5, 0.1)),
        "faults": lambda: Faulty(cells("sinh", n, n), fault),
        "faults in 1T1R": lambda: Faulty(Series(cells("sinh", n, n), Transistor(2e-4, 1.1, r_off=1e9)), fault),
        "1T1R of faults": lambda: Series(Faulty(cells("ohmic", n, n), fault), Transistor(2e-4, 1.1, r_off=1e9)),
        "both in series": lambda: Series(
            Series(cells("ohmic", n, n), Threshold(1e-5, 0.1)), Transistor(2e-4, 1.1, r_off=1e9)
        ),
    }
    return kinds[kind]()


COMPOSITIONS = [
    "1T1R",
    "1T1R, a gate each",
    "1S1R",
    "1S1R, model cells",
    "faults",
    "faults in 1T1R",
    "1T1R of faults",
    "both in series",
]


@pytest.mark.parametrize("kind", COMPOSITIONS)
@pytest.mark.parametrize("n", [4, 16])
def test_cells_made_of_cells(kind: str, n: int) -> None:
    """Read with voltages of either sign, large enough to saturate transistors."""
    v = torch.tensor(np.random.default_rng(1).uniform(-0.8, 1.0, n))
    compare(compositions(kind, n), v, USUAL, NONLINEAR)


@pytest.mark.parametrize("kind", ["1T1R", "1S1R", "faults"])
def test_cells_made_of_cells_in_a_write(kind: str) -> None:
    compare(compositions(kind, 8), Bias.write(0.8, 5, 2, 8, 8, "v/2"), BOTH_ENDS, NONLINEAR)


@pytest.mark.parametrize(("array", "cut"), [("1T1R", "both"), ("faults", "bit line")])
def test_cut_lines(array: str, cut: str) -> None:
    r_wl, r_bl = torch.full((8, 7), 2.0, dtype=torch.float64), torch.full((7, 8), 3.0, dtype=torch.float64)
    r_bl[4, 6] = 1e9
    if cut == "both":
        r_wl[3, 1] = 1e9
    v = torch.tensor(np.random.default_rng(1).uniform(-0.2, 0.3, 8))
    compare(compositions(array, 8), v, Wires(r_wl, r_bl, 1.0, 4.0), NONLINEAR)


def test_access_transistor_is_the_level_1_mosfet_of_ngspice() -> None:
    """One cell, drain towards the word line; gate and bulk held above the source, as the engine's transistor has it."""
    for v in (0.1, 0.5, 2.0):  # cut by the memory cell, at the knee, saturated
        netlist = f"""1T1R
.options reltol=1e-9 abstol=1e-18 vntol=1e-12 gmin=1e-18
.model nmos1 nmos (level=1 kp=2e-4 vto=0.5 lambda=0.05)
vs s 0 {v}
rc s d 1e4
vg g 0 1.2
m1 d g o o nmos1 w=1u l=1u
vo0 o 0 0
.op
.end
"""
        cell = Series(Ohmic(torch.full((1, 1), 1e-4, dtype=torch.float64)), Transistor(2e-4, 1.2, slope=0.05))
        found = solve(cell, torch.tensor([v], dtype=torch.float64), rtol=TIGHT).i_out.numpy()
        assert found == pytest.approx(output_currents(netlist, 1), rel=NONLINEAR)
