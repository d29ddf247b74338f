"""What the crossbar does not need: a machine with a GPU has torch, and little of what fits and netlists use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ABSENT = ("lmfit", "asteval", "uncertainties", "PySpice", "python_calamine", "rich", "mlxtend", "pandas", "sklearn")
WITHOUT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT}))
sys.path.insert(0, {str(ROOT)!r})
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """From a folder that is not the checkout's, as on a machine where nothing is installed."""
    return subprocess.run([sys.executable, "-c", WITHOUT + code], cwd="/", capture_output=True, text=True)


def test_arrays_are_solved_and_networks_converted() -> None:
    done = run("""
import torch
from crossbar import Config, Sinh, Wires, convert, solve
from devicelab import Lut, parameter_set
print(solve(Sinh(torch.full((3, 4), 1e-4), 3.0), torch.ones(3), Wires(1.0, 1.0)).i_out.shape)
lut = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)
print(convert(torch.nn.Linear(5, 2), lut, Config(rows=8, columns=8))(torch.ones(1, 5)).shape)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["torch.Size([4])", "torch.Size([1, 2])"]


def test_the_benchmark_for_a_gpu_starts() -> None:
    bench = ROOT / "tests" / "bench" / "bench_cuda.py"
    done = run(f"sys.argv = ['bench', '--list']\nrunpy.run_path({str(bench)!r}, run_name='__main__')")
    assert done.returncode == 0, done.stderr
    assert "c64" in done.stdout


def test_fits_are_what_is_missing_then() -> None:
    assert "import of lmfit halted" in run("import fits.problem").stderr
