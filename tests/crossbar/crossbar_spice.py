"""ngspice as an oracle: the output currents of an operating point."""

from __future__ import annotations

import numpy as np
import pytest

import netlists

needs_ngspice = [pytest.mark.spice, pytest.mark.skipif(not netlists.available(), reason="ngspice not installed")]


def output_currents(netlist: str, n: int) -> np.ndarray:
    """Currents into the sense nodes [A], [n]; 0 where a bit line floats."""
    vectors = netlists.run(netlist)
    return np.array([float(vectors[f"i(vo{j})"][0]) if f"i(vo{j})" in vectors else 0.0 for j in range(n)])
