"""ngspice as an oracle: the output currents of an operating point."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

needs_ngspice = [pytest.mark.spice, pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice not installed")]


def output_currents(netlist: str, n: int) -> np.ndarray:
    """Currents into the sense nodes [A], [n]; 0 where a bit line floats."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "out.raw"
        text = netlist.replace(".end\n", f".control\nset filetype=ascii\nop\nwrite {raw}\n.endc\n.end\n")
        (Path(folder) / "a.cir").write_text(text)
        run = subprocess.run(["ngspice", "-n", "-b", "a.cir"], cwd=folder, capture_output=True, text=True, timeout=600)
        assert raw.exists(), run.stdout[-2000:] + run.stderr[-2000:]
        head, values = raw.read_text().split("Values:")
        names = [line.split()[1] for line in head.split("\nVariables:\n")[1].strip().splitlines()]
        numbers = [float(line.split()[-1]) for line in values.strip().splitlines()]
    found = dict(zip(names, numbers, strict=True))
    return np.array([found.get(f"i(vo{j})", 0.0) for j in range(n)])
