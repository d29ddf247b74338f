"""The compiled kernel against the same method in torch, and torch on a GPU against torch on the CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from crossbar import Bias, Cells, LutCells, Ohmic, Sinh, Wires, engine, fast, solve
from crossbar.bias import fit
from crossbar.newton import Point
from devicelab import Lut, parameter_set

RTOL = 1e-11
SAME = 1e-9  # two iterations stopped at RTOL, in arrays that amplify by less than a hundred
SINGLE = 1e-6  # float32 results
WIRES = Wires(1.0, 2.0, 3.0, 4.0)
RNG = np.random.default_rng(0)
G = torch.tensor(10 ** RNG.uniform(-6, -3, (3, 11, 9)))
X = torch.tensor(RNG.uniform(0, 1, (3, 11, 9)))
V = torch.tensor(RNG.uniform(-0.2, 0.4, (3, 10, 11)))
V_BL = torch.tensor(RNG.uniform(-0.1, 0.1, (10, 9)))


def table(x: Tensor) -> LutCells:
    return LutCells(Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3), x)


MAKERS: dict[str, Callable[[], Cells]] = {
    "ohmic": lambda: Ohmic(G),
    "sinh": lambda: Sinh(G, 7.0),
    "sinh, linear in part": lambda: Sinh(G, torch.where(X < 0.3, 0.0, 9.0 * X)),
    "table": lambda: table(X),
}
BIASES = {"batch": V, "one vector": V[0, 0], "biased": Bias(V, V_BL), "shared by the tiles": V[0]}
TOPOLOGIES = {
    "usual": WIRES,
    "turned round": Wires(1.0, 2.0, torch.inf, torch.inf, r_source_right=3.0, r_sense_top=4.0),
    "per line": Wires(torch.linspace(0, 9, 11), torch.linspace(0, 9, 9), torch.linspace(1, 3, 11), 2.0),
}


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cells, Tensor | Bias, Wires], Tensor]:
    def solve_in_torch(cells: Cells, v: Tensor | Bias, wires: Wires) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "suits", lambda circuit: False)
            return solve(cells, v, wires, rtol=RTOL, method="newton").i_out

    return solve_in_torch


@pytest.mark.skipif(fast.kernel() is None, reason="numba is not installed or has no cache folder")
class TestKernel:
    @pytest.mark.parametrize("wires", TOPOLOGIES.values(), ids=TOPOLOGIES.keys())
    @pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES.keys())
    @pytest.mark.parametrize("kind", MAKERS)
    def test_it_finds_what_torch_finds(
        self, kind: str, bias: Tensor | Bias, wires: Wires, in_torch: Callable[..., Tensor]
    ) -> None:
        solution = solve(MAKERS[kind](), bias, wires, rtol=RTOL, method="newton")
        expected = in_torch(MAKERS[kind](), bias, wires)
        scale = expected.abs().max().item()
        torch.testing.assert_close(solution.i_out, expected, rtol=0, atol=SAME * scale)

    def test_threads_and_cells_in_single_precision_change_nothing(self) -> None:
        expected = solve(Sinh(G, 7.0), V, WIRES, rtol=RTOL).i_out
        single = solve(Sinh(G.float(), 7.0), V, WIRES).i_out
        assert single.dtype == torch.float32
        scale = expected.abs().max().item()
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=2 * SINGLE * scale)
        threads = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            torch.testing.assert_close(solve(Sinh(G, 7.0), V, WIRES, rtol=RTOL).i_out, expected, rtol=0, atol=0)
        finally:
            torch.set_num_threads(threads)

    def test_one_hard_vector_among_easy_ones_is_solved_with_care(self) -> None:
        rng = np.random.default_rng(1)
        cells = Sinh(torch.tensor(10 ** rng.uniform(-6, -3, (8, 8))), 20.0)
        v = torch.tensor(rng.uniform(0, 0.05, (40, 8)))
        v[13] = torch.linspace(0, 8, 8)
        together = solve(cells, v, Wires(5.0, 5.0, 5.0, 5.0), rtol=1e-9)
        assert together.residual <= 1e-9
        for k in (0, 13, 14, 39):
            alone = solve(cells, v[k], Wires(5.0, 5.0, 5.0, 5.0), rtol=1e-9).i_out
            torch.testing.assert_close(together.i_out[k], alone, rtol=1e-7, atol=1e-7 * alone.abs().max().item())

    def test_it_hands_over_what_is_too_hard(self) -> None:
        """40 V across sinh(20 v): more doublings than the kernel makes."""
        cells = Sinh(torch.full((4, 4), 1e-6, dtype=torch.float64), 20.0)
        solution = solve(cells, torch.tensor([0.0, 10.0, 20.0, 40.0]), Wires(10.0, 10.0, 10.0, 10.0))
        assert solution.residual <= 1e-6


@pytest.mark.skipif(fast.kernel() is None, reason="numba is not installed or has no cache folder")
@pytest.mark.parametrize("signed", [False, True], ids=["one sign", "both signs"])
def test_a_polynomial_stands_for_a_smooth_table_within_the_tolerance(signed: bool) -> None:
    """An odd and a skew law: the solution satisfies the table itself, to the tolerance asked for."""
    v = np.linspace(-1, 1, 201)
    x = np.linspace(0, 1, 17)[:, None]
    current = 1e-5 * (1 + 9 * x) * np.sinh(3 * v) / 3 + 2e-5 * x**2 * (np.exp(2 * v) - 1)
    lut = Lut(v, x.ravel(), current, device={"model": "skew"})
    cells = LutCells(lut, X)
    assert cells.rank > 1
    drive = 0.3 * (
        torch.rand(3, 40, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5 * signed
    )
    ends = fast.extremes(drive, None)
    for rtol in (1e-2, 1e-3):
        assert cells.polynomial(*ends, fast.SMOOTH * rtol) is not None
        solution = solve(cells, drive, WIRES, rtol=rtol)
        exact = solve(cells, drive, WIRES, rtol=1e-11)
        assert 0 < solution.residual <= rtol
        array = engine._circuit(cells, fit(drive, cells.shape, cells.dtype, cells.device), WIRES)
        assert Point(array, solution.v_cell).residual <= rtol  # by the table
        scale = exact.i_out.abs().max().item()
        torch.testing.assert_close(solution.i_out, exact.i_out, rtol=0, atol=2 * rtol * scale)
    assert cells.polynomial(*ends, 1e-12) is None
    torch.testing.assert_close(solve(cells, drive, WIRES, rtol=1e-11).i_out, exact.i_out)


def test_a_polynomial_of_a_table_with_a_corner_is_refused() -> None:
    v = np.linspace(-1, 1, 21)
    corner = np.where(v > 0.3, 1e-5 * v + 1e-3 * (v - 0.3), 1e-5 * v)
    cells = LutCells(Lut(v, np.array([0.0, 1.0]), np.stack([corner, 2 * corner]), device={"model": "corner"}), X)
    assert cells.polynomial(-0.2, 0.2, 1e-4) is not None
    assert cells.polynomial(-0.6, 0.6, 1e-4) is None


@pytest.mark.skipif(fast.kernel() is None, reason="numba is not installed or has no cache folder")
@pytest.mark.slow
@pytest.mark.parametrize("file", ["simd.py", "kernel_cells.py", "kernel.py"])
def test_the_kernel_on_disk_is_that_of_the_sources(file: str, tmp_path: Path) -> None:
    """A changed law reaches the result although a compiled kernel lies beside it, whichever file it is in."""
    for name in ("kernel.py", "kernel_cells.py", "simd.py"):
        (tmp_path / "package").mkdir(exist_ok=True)
        shutil.copy(Path(fast.__file__).with_name(name), tmp_path / "package" / name)
    (tmp_path / "package" / "__init__.py").touch()
    changes = {
        "simd.py": ('_operator(operator.add, "fadd")', '_operator(operator.add, "fsub")'),
        "kernel_cells.py": ("g[k + row] * v", "2.0 * g[k + row] * v"),
        "kernel.py": ("worst, most = max(worst, residual), max(most, applications)", "worst, most = 7.0, 7"),
    }
    first, again = run_kernel(tmp_path), run_kernel(tmp_path)
    assert (again.hits, again.result) == (1, first.result)
    source = tmp_path / "package" / file
    before, after = changes[file]
    assert before in source.read_text()
    source.write_text(source.read_text().replace(before, after))
    changed = run_kernel(tmp_path)
    assert changed.hits == 0
    assert changed.result != first.result


@pytest.mark.skipif(fast.kernel() is None, reason="numba is not installed or has no cache folder")
@pytest.mark.parametrize("file", ["simd.py", "kernel_cells.py", "kernel.py"])
def test_the_key_of_the_kernel_on_disk_covers(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossbar import kernel, kernel_cells

    (key,) = (cell.cell_contents for cell in kernel.solve_groups.py_func.__closure__)
    assert key == kernel_cells.sources()
    for name in ("kernel.py", "kernel_cells.py", "simd.py"):
        shutil.copy(Path(fast.__file__).with_name(name), tmp_path / name)
    monkeypatch.setattr(kernel_cells, "__file__", str(tmp_path / "kernel_cells.py"))
    assert kernel_cells.sources() == key
    (tmp_path / file).write_text((tmp_path / file).read_text() + "\n")
    assert kernel_cells.sources() != key


class Run(NamedTuple):
    hits: int  # kernels found on disk
    result: str


def run_kernel(folder: Path) -> Run:
    """One 4 x 2 array through the kernel of `folder`, in a process of its own."""
    code = """
import numpy as np
from package import kernel as k
flat = np.linspace(1, 2, 8)
none = (np.zeros(3), np.zeros(1), np.zeros(4), 0, 1)
word, bit = np.full(2 * k.WIDTH, 0.1), np.full(2 * k.ROWS, 0.1)
lines = (word.astype(np.float32), bit.astype(np.float32), word, bit)
i_out, hard = np.zeros((1, 1, 2, k.LANES)), np.zeros((1, 1), bool)
drive, ground, v = np.ones((1, 1, k.WIDTH)), np.zeros((1, 1, 2 * k.LANES)), np.zeros((0, 1, 1, 2, k.WIDTH))
out = k.solve_groups(k.OHMIC, (flat, flat, 0, *none), lines, drive, ground, 1e-9, 0, 1, i_out, v, hard)
print(sum(k.solve_groups.stats.cache_hits.values()), out, i_out[0, 0, :, 0], sep="|")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CACHE")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    hits, result = done.stdout.strip().split("|", 1)
    return Run(int(hits), result)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["ohmic", "sinh", "table"])
def test_a_gpu_finds_what_the_cpu_finds(kind: str) -> None:
    on_gpu: dict[str, Callable[[], Cells]] = {
        "ohmic": lambda: Ohmic(G.cuda()),
        "sinh": lambda: Sinh(G.cuda(), 7.0),
        "table": lambda: table(X.cuda()),
    }
    expected = solve(MAKERS[kind](), V, WIRES, rtol=RTOL).i_out
    found = solve(on_gpu[kind](), V.cuda(), WIRES, rtol=RTOL).i_out
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=SAME * expected.abs().max().item())
