"""The Triton kernels against the same method in torch: compiled where there is a GPU, else interpreted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from random_arrays import KINDS, off, random_arrays, table
from torch import Tensor

from crossbar import Bias, Cells, LutCells, Ohmic, Sinh, Wires, engine, gpu, solve
from crossbar.bias import fit
from crossbar.newton import Circuit, Point, solve_newton
from devicelab import Lut, parameter_set

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported, which is below

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(gpu.kernels() is None, reason="triton is not installed")]

DEVICE = torch.device("cuda" if ON_GPU else "cpu")
RTOL = 1e-10
RNG = np.random.default_rng(0)
M, N = 18, 7
G = torch.tensor(10 ** RNG.uniform(-6, -3, (2, M, N)), device=DEVICE)
X = torch.tensor(RNG.uniform(0, 1, (2, M, N)), device=DEVICE)
V = torch.tensor(RNG.uniform(-0.2, 0.4, (2, 2, M)), device=DEVICE)
V_BL = torch.tensor(RNG.uniform(-0.1, 0.1, (2, N)), device=DEVICE)
LUT = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)

MAKERS: dict[str, Callable[[], Cells]] = {
    "ohmic": lambda: Ohmic(G),
    "sinh": lambda: Sinh(G, torch.where(X < 0.3, 0.0, 9.0 * X)),
    "smooth table": lambda: LutCells(LUT, X),
    "cornered table": lambda: LutCells(table(True), X),
}
LAW = {"ohmic": gpu.OHMIC, "sinh": gpu.SINH, "smooth table": gpu.POLYNOMIAL, "cornered table": gpu.TABLE}
CIRCUITS: dict[str, tuple[Tensor | Bias, Wires]] = {
    "usual": (V, Wires(1.0, 2.0, 3.0, 4.0)),
    "turned round, biased": (
        Bias(V, V_BL),
        Wires(1.0, 2.0, torch.inf, torch.inf, r_source_right=3.0, r_sense_top=4.0),
    ),
    "per line, one vector for all tiles": (
        V[0, :1],
        Wires(torch.linspace(0, 9, M), torch.linspace(0, 9, N), torch.linspace(1, 3, M), 2.0),
    ),
}


@pytest.fixture(params=["resident", "blocked"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(gpu, "LARGEST_RESIDENT", 64 if request.param == "resident" else 0)
    return str(request.param)


def circuit(cells: Cells, bias: Tensor | Bias, wires: Wires) -> tuple[Circuit, Tensor, Tensor | None]:
    drive = fit(bias, cells.shape, cells.dtype, cells.device)
    return engine._circuit(cells, drive, wires), drive.v_wl, drive.v_bl


@pytest.mark.parametrize("case", CIRCUITS)
@pytest.mark.parametrize("kind", MAKERS)
class TestKernels:
    def test_they_find_what_torch_finds(self, kind: str, case: str, kernel: str) -> None:
        cells = MAKERS[kind]()
        array, v_wl, v_bl = circuit(cells, *CIRCUITS[case])
        found = gpu.solve_gpu(array, v_wl, v_bl, RTOL, voltages=True)
        assert found is not None
        assert not found.hard.any()
        assert found.residual <= RTOL
        expected = solve_newton(array, RTOL).v
        torch.testing.assert_close(found.v, expected, rtol=0, atol=1e-9)
        i = cells.current(expected).sum(-2)
        torch.testing.assert_close(found.i_out, i.expand(found.i_out.shape), rtol=0, atol=1e-8 * i.abs().max().item())
        assert found.v_range == pytest.approx((min(expected.min().item(), 0), expected.max().item()), abs=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
def test_single_precision_meets_its_tolerance(kind: str, kernel: str) -> None:
    cells = MAKERS[kind]()
    single: dict[str, Callable[[], Cells]] = {
        "ohmic": lambda: Ohmic(G.float()),
        "sinh": lambda: Sinh(G.float(), torch.where(X < 0.3, 0.0, 9.0 * X).float()),
        "smooth table": lambda: LutCells(LUT, X.float()),
        "cornered table": lambda: LutCells(table(True), X.float()),
    }
    array, v_wl, v_bl = circuit(single[kind](), *CIRCUITS["usual"])
    assert gpu.packed(array, *gpu.extremes(v_wl, v_bl), 1e-5).arguments[-2][0] == LAW[kind]
    found = gpu.solve_gpu(array, v_wl, v_bl, 1e-5, voltages=False)
    assert found is not None
    assert found.v is None
    assert found.residual <= 1e-5
    expected = cells.current(solve_newton(circuit(cells, *CIRCUITS["usual"])[0], RTOL).v).sum(-2)
    torch.testing.assert_close(found.i_out, expected, rtol=0, atol=5e-5 * expected.abs().max().item())


def carried(cells: Cells, v: Tensor, rtol: float) -> Tensor:
    """Currents of one row of cells at voltages of their own, between perfect lines."""
    array, v_wl, v_bl = circuit(cells, Bias(v.new_zeros(1), -v), Wires())
    found = gpu.solve_gpu(array, v_wl, v_bl, rtol, voltages=False)
    assert found is not None
    assert not found.hard.any()
    assert found.iterations == 1  # the voltages are known
    return found.i_out[0]


class TestLaws:
    """Cells on perfect lines, each at a voltage of its own, carry what their law says."""

    V = torch.linspace(-0.9, 0.9, 61, dtype=torch.float64, device=DEVICE)

    @pytest.mark.parametrize("most", [1e-3, 0.49, 3.9, 63.0])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_sinh_to_rounding(self, most: float, sign: int, kernel: str) -> None:
        """Up to sinh(most); the series goes to 0.5."""
        v = sign * torch.linspace(0.01, 0.9, 61, dtype=torch.float64, device=DEVICE)
        g = 10 ** torch.linspace(-6, -3, 61, dtype=torch.float64, device=DEVICE)[None]
        b = most / 0.9 * torch.linspace(0.1, 1, 61, dtype=torch.float64, device=DEVICE)[None]
        expected = (g / b * torch.sinh(b * v))[0]
        rounding = 10 * max(1, most)  # of b v, in the exponent
        double, single = carried(Sinh(g, b), v, 1e-9), carried(Sinh(g.float(), b.float()), v, 1e-5)
        torch.testing.assert_close(double, expected, rtol=1e-15 * rounding, atol=0)
        torch.testing.assert_close(single, expected, rtol=1e-7 * rounding, atol=0)

    @pytest.mark.parametrize("kind", ["smooth table", "cornered table"])
    def test_tables_and_the_polynomials_that_stand_for_them(self, kind: str, kernel: str) -> None:
        """Also beyond their ends, where they go on in a straight line."""
        x = torch.linspace(0, 1, 61, dtype=torch.float64, device=DEVICE).flip(0)[None]
        lut = LUT if kind == "smooth table" else table(True)
        cells, v = LutCells(lut, x), self.V * (1 if kind == "smooth table" else 1.3)
        expected = cells.current(v[None, None])[0, 0]
        largest = expected.abs().max().item()
        for one, rtol, exact in ((cells, 1e-9, 1e-9), (cells, 1e-5, 1e-5), (LutCells(lut, x.float()), 1e-5, 1e-5)):
            array, v_wl, v_bl = circuit(one, Bias(v.new_zeros(1), -v), Wires())
            pack = gpu.packed(array, *gpu.extremes(v_wl, v_bl), rtol)
            assert pack is not None
            assert pack.arguments[-2][0] == LAW[kind]
            exact = 1e-13 if kind == "cornered table" and one is cells else exact
            torch.testing.assert_close(carried(one, v, rtol), expected, rtol=0, atol=exact * largest)

    def test_polynomials_of_several_terms_each_with_amplitudes_of_its_own(self, kernel: str) -> None:
        """Cells that go from a sine to a straight line with their state, on two tiles."""
        v = np.linspace(-1.0, 1.0, 201)
        value, slope = np.stack([3 * np.sin(v), v]), np.stack([3 * np.cos(v), np.ones_like(v)])
        lut = SimpleNamespace(voltage=v, state=[0, 1], table=1e-4 * value, slope=1e-4 * slope)
        cells = LutCells(lut, X)
        array, v_wl, v_bl = circuit(cells, *CIRCUITS["usual"])
        pack = gpu.packed(array, *gpu.extremes(v_wl, v_bl), 1e-6)
        assert pack is not None
        assert pack.arguments[-2][0] == gpu.POLYNOMIAL
        assert pack.arguments[-2][2] == 2  # terms
        found = gpu.solve_gpu(array, v_wl, v_bl, 1e-6, voltages=True)
        assert found is not None
        at = found.v.unsqueeze(0)
        law = 1e-4 * (3 * (1 - X).unsqueeze(-3) * torch.sin(at) + X.unsqueeze(-3) * at)[0]
        i = law.sum(-2)
        torch.testing.assert_close(found.i_out, i, rtol=0, atol=2e-6 * i.abs().max().item())
        assert Point(array, found.v).residual <= 1e-6

    @pytest.mark.parametrize("rtol", [1e-2, 1e-4])
    def test_the_residual_told_has_room_for_the_polynomial(self, rtol: float, kernel: str) -> None:
        """It bounds what is left of Kirchhoff's laws with the table itself, however well the polynomial is solved."""
        array, v_wl, v_bl = circuit(LutCells(LUT, X), *CIRCUITS["usual"])
        found = gpu.solve_gpu(array, v_wl, v_bl, rtol, voltages=True)
        assert found is not None
        assert Point(array, found.v).residual <= found.residual <= rtol

    def test_polynomials_over_a_range_that_ends_at_0_v(self, kernel: str) -> None:
        """One cell, vectors of one sign."""
        cells = LutCells(LUT, torch.tensor([[0.7]], dtype=torch.float64, device=DEVICE))
        v = self.V[:30, None]
        found = gpu.solve_gpu(*circuit(cells, v, Wires()), 1e-5, voltages=False)
        expected = cells.current(v[..., None])[:, 0]
        assert found is not None
        torch.testing.assert_close(found.i_out, expected, rtol=0, atol=1e-5 * expected.abs().max().item())

    def test_nodes_that_crowd_at_the_end_of_a_table(self, kernel: str) -> None:
        """Several in one of the equal bins by which pieces are found, the last piece too."""
        v = np.array([-1.0, -0.5, 0.0, 0.5, 0.99, 0.993, 0.996, 1.0])
        row, slope = v + 40 * np.clip(v - 0.99, 0, None) ** 2, 1 + 80 * np.clip(v - 0.99, 0, None) * (v < 1)
        crowded = SimpleNamespace(voltage=v, state=[0, 1], table=np.outer([1, 2], row), slope=np.outer([1, 2], slope))
        cells = LutCells(crowded, torch.linspace(0, 1, 61, dtype=torch.float64, device=DEVICE)[None])
        at = torch.linspace(0.98, 1.0, 61, dtype=torch.float64, device=DEVICE)
        torch.testing.assert_close(carried(cells, at, 1e-9), cells.current(at[None, None])[0, 0], rtol=1e-13, atol=0)


class TestSmallCurrents:
    WIRES = Wires(1.0, 2.0, 3.0, 4.0)

    @pytest.mark.parametrize("rtol", [1e-5, 1e-9])
    def test_linear_cells_answer_tiny_voltages_in_proportion(self, rtol: float, kernel: str) -> None:
        """Squares of currents and voltages would vanish in float32."""
        usual, tiny = (
            gpu.solve_gpu(*circuit(Ohmic(1e-3 * G), a * V, self.WIRES), rtol, voltages=False) for a in (1.0, 1e-17)
        )
        assert usual is not None
        assert tiny is not None
        assert not tiny.hard.any()
        assert tiny.iterations <= usual.iterations + 1
        i = usual.i_out
        torch.testing.assert_close(1e17 * tiny.i_out, i, rtol=0, atol=10 * rtol * i.abs().max().item())

    def test_lines_at_one_potential_carry_nothing(self, kernel: str) -> None:
        """All voltages cancel; rounding is not taken for a current that has to be solved for."""
        level = torch.tensor(0.3, dtype=torch.float64, device=DEVICE)
        for cells in (Sinh(G, 5.0), Sinh(G.float(), 5.0)):
            array, v_wl, v_bl = circuit(cells, Bias(level.expand(1, M), level.expand(1, N)), self.WIRES)
            found = gpu.solve_gpu(array, v_wl, v_bl, 1e-5, voltages=False)
            assert found is not None
            assert found.iterations == 1
            assert found.i_out.abs().max().item() < 1e-12

    def test_weak_cells_may_shoot_up(self, kernel: str) -> None:
        """The conductance of cells that carry next to nothing says nothing of how steep the array is."""
        weak = torch.rand(M, N, generator=torch.Generator().manual_seed(1)).to(DEVICE) < 0.2
        g, b = torch.where(weak, 1e-12, 1e-4).double(), torch.where(weak, 60.0, 1.0).double()
        drop = Wires(30.0, 30.0, 30.0, 30.0)  # so that voltages change from step to step
        array, v_wl, v_bl = circuit(Sinh(g, b), V[0], drop)
        found = gpu.solve_gpu(array, v_wl, v_bl, 1e-9, voltages=False)
        assert found is not None
        assert not found.hard.any()


def test_one_array_for_several_sets_of_voltages(kernel: str) -> None:
    """One tile of cells, one set of voltages a tile; and the other way round."""
    v = torch.cat([V, -V, 0.5 * V])[:, :1]  # [6, 1, M]
    one, two = (
        gpu.solve_gpu(*circuit(Sinh(g, 5.0), v_in, Wires(1.0, 1.0, 1.0, 1.0)), 1e-9, voltages=True)
        for g, v_in in ((G[:1], v), (G[:1].expand(6, M, N), v))
    )
    assert one is not None
    assert two is not None
    assert one.v is not None
    assert torch.equal(one.i_out, two.i_out)
    assert one.i_out.shape == (6, 1, N)


@pytest.mark.parametrize(
    ("cells", "rtol", "type_of_sums"),
    [(torch.float32, 1e-5, torch.float32), (torch.float32, 9e-6, torch.float64), (torch.float64, 1e-5, torch.float64)],
)
def test_sums_are_single_precision_where_that_is_enough(
    cells: torch.dtype, rtol: float, type_of_sums: torch.dtype
) -> None:
    pack = gpu.packed(circuit(Sinh(G.to(cells), 5.0), *CIRCUITS["usual"])[0], -1.0, 1.0, rtol)
    assert pack is not None
    assert pack.real == type_of_sums


@pytest.mark.parametrize("r", [1.0, 20.0])
def test_strong_coupling_takes_as_many_steps_as_the_kernel_on_the_cpu(r: float, kernel: str) -> None:
    """Sinh cells of which lines of 20 ohm take most of the voltage: more steps, none too hard."""
    rng = np.random.default_rng(2)
    g = torch.tensor(10 ** rng.uniform(-6, -3, (48, 64)))
    v = torch.tensor(rng.uniform(-0.1, 0.3, (1, 48)))
    on_cpu = solve(Sinh(g, 10.0), v, Wires(r, r, r, r), rtol=1e-5)
    array, v_wl, v_bl = circuit(Sinh(g.to(DEVICE), 10.0), v.to(DEVICE), Wires(r, r, r, r))
    found = gpu.solve_gpu(array, v_wl, v_bl, 1e-5, voltages=False)
    assert found is not None
    assert found.iterations <= 1.3 * on_cpu.iterations
    torch.testing.assert_close(found.i_out.cpu(), on_cpu.i_out, rtol=0, atol=1e-4 * on_cpu.i_out.abs().max().item())


def test_lines_that_take_most_of_the_drive_are_solved_in_single_precision(kernel: str) -> None:
    """What is lost along 256 columns of 20 ohm is a hundred times what cells keep: rounding must not add up."""
    m, n = (64, 64) if kernel == "resident" else (64, 256)
    rng = np.random.default_rng(4)
    g = torch.tensor(10 ** rng.uniform(-6, -3, (m, n)))
    v = torch.tensor(rng.uniform(-0.1, 0.3, (1, m)))
    wires = Wires(20.0, 20.0, 20.0, 20.0)
    array, v_wl, v_bl = circuit(Sinh(g.float().to(DEVICE), 3.0), v.float().to(DEVICE), wires)
    found = gpu.solve_gpu(array, v_wl, v_bl, 1e-5, voltages=False)
    assert found is not None
    assert found.residual <= 1e-5
    expected = solve(Sinh(g, 3.0), v, wires, rtol=1e-9).i_out
    torch.testing.assert_close(found.i_out.cpu(), expected, rtol=0, atol=2e-6 * expected.abs().max().item())


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the interpreter
@pytest.mark.parametrize("single", [True, False])
def test_what_is_not_a_number_is_told(single: bool, kernel: str) -> None:
    """One cell without a conductance makes no number of every current; a largest one of others must not hide it."""
    g = torch.full((5, 6), 1e-4, device=DEVICE, dtype=torch.float32 if single else torch.float64)
    array, v_wl, v_bl = circuit(
        Ohmic(g), torch.full((1, 5), 0.2, device=DEVICE, dtype=g.dtype), Wires(1.0, 1.0, 1.0, 1.0)
    )
    pack = gpu.packed(array, 0.0, 0.2, 1e-5 if single else 1e-6)
    assert pack is not None
    pack.arguments[0][0, ..., 2, 3] = torch.nan
    *_, counts = pack.run(v_wl, v_bl, voltages=False)
    assert (counts[..., 0] != gpu.CONVERGED).all()


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays on the CPU go to the kernels too."""
    monkeypatch.setattr(engine, "suits", lambda array: False)
    monkeypatch.setattr(engine, "suits_gpu", lambda array: array.floating.none)


class TestInTheEngine:
    WIRES = Wires(1.0, 2.0, 3.0, 4.0)

    def test_gradients(self, by_kernels: None, kernel: str) -> None:
        """Those of the method in torch, which has its own tests against differences."""

        def gradients(method: Callable[[Cells, Tensor], Tensor]) -> list[Tensor]:
            g, v = G.clone().requires_grad_(), V.clone().requires_grad_()
            i = method(Sinh(g, 5.0), v)
            return list(torch.autograd.grad((i * torch.arange(N, device=DEVICE)).sum(), [g, v]))

        found = gradients(lambda cells, v: solve(cells, v, self.WIRES, rtol=RTOL).i_out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "suits_gpu", lambda array: False)
            expected = gradients(lambda cells, v: solve(cells, v, self.WIRES, rtol=RTOL).i_out)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7 * b.abs().max().item())

    @pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the interpreter
    def test_one_hard_vector_among_easy_ones_is_solved_with_care(self, by_kernels: None, kernel: str) -> None:
        cells = Sinh(G[0, :8, :8], 20.0)
        v = 0.1 * V[0, :, :8].clone()
        v[1] = torch.linspace(0, 8, 8)
        strong = Wires(5.0, 5.0, 5.0, 5.0)
        together = solve(cells, v, strong, rtol=1e-9)
        assert together.residual <= 1e-9
        for k in range(2):
            alone = solve(cells, v[k], strong, rtol=1e-9).i_out
            torch.testing.assert_close(together.i_out[k], alone, rtol=1e-7, atol=1e-7 * alone.abs().max().item())

    @pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the interpreter
    def test_a_vector_hard_on_one_tile_of_two_is_solved_with_care(
        self, by_kernels: None, kernel: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu, "LARGEST_CAREFUL", 0)  # not on the device
        b = torch.tensor([20.0, 1.0], dtype=torch.float64, device=DEVICE)[:, None, None].expand(2, 8, 8)
        v = 0.1 * V[0, :, :8].clone()
        v[1] = torch.linspace(0, 8, 8)
        strong = Wires(5.0, 5.0, 5.0, 5.0)
        cells = Sinh(G[:, :8, :7].repeat(1, 1, 2)[..., :8].contiguous(), b)
        together = solve(cells, v, strong, rtol=1e-9)
        assert together.residual <= 1e-9
        monkeypatch.setattr(engine, "suits_gpu", lambda array: False)
        expected = solve(cells, v, strong, rtol=1e-9).i_out
        torch.testing.assert_close(together.i_out, expected, rtol=1e-7, atol=1e-7 * expected.abs().max().item())

    def test_a_voltage_beyond_the_table_is_refused(self, by_kernels: None, kernel: str) -> None:
        from devicelab.errors import LutError

        with pytest.raises(LutError, match="outside the voltages"):
            solve(LutCells(LUT, X), 3 * V, self.WIRES)

    def test_an_array_without_drive_carries_nothing(self, by_kernels: None, kernel: str) -> None:
        assert not solve(Sinh(G, 5.0), 0 * V, self.WIRES).i_out.any()


def test_the_operator_is_a_good_citizen_of_torch() -> None:
    """Schema, fake tensors, and tracing, by torch's own check."""
    real = {"dtype": torch.float64, "device": DEVICE}
    none, whole = torch.zeros(1, **real), torch.zeros(1, dtype=torch.int32, device=DEVICE)  # type: ignore[arg-type]
    word, bit = torch.ones(1, N, **real), torch.ones(M, 1, **real)  # type: ignore[arg-type]
    ground = torch.zeros(1, 2, N, **real)  # type: ignore[arg-type]
    for keep in (False, True):
        arguments = (V, ground, G[None], G, none, whole, none, word, bit, 2, [gpu.OHMIC, 0, 1, 0], 1e-6, keep)
        torch.library.opcheck(gpu.newton_gpu, arguments)


@pytest.mark.parametrize("kernel_name", ["resident", "blocked", "tiled"])
def test_they_compile_for_a_gpu_that_is_not_here(kernel_name: str, tmp_path: Path) -> None:
    """To machine code of an H100, by the compiler that comes with Triton; what spills to memory is next to nothing."""
    code = Path(__file__).with_name("compile_gpu_kernels.py")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(code), kernel_name, "--kind", "table"]  # the largest
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (spilled,) = re.findall(r"(\d+) bytes spill stores", done.stdout)
    assert int(spilled) <= 64


def assert_random_arrays(seed: int, stacks: int, tiles: int, largest: int) -> None:
    """Random arrays of every kind, solved by the kernels, against float64 on the CPU."""
    rng = np.random.default_rng(seed)
    for k in range(stacks):
        arrays = random_arrays(rng, KINDS[k % len(KINDS)], tiles, largest)
        assert off(arrays, DEVICE) <= 1, str(arrays)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the interpreter
def test_a_few_random_arrays_against_the_cpu(by_kernels: None, kernel: str) -> None:
    assert_random_arrays(seed=4, stacks=10, tiles=2, largest=16)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the interpreter
def test_two_hundred_random_arrays_against_the_cpu(by_kernels: None, kernel: str) -> None:
    assert_random_arrays(seed=5, stacks=50, tiles=4, largest=24)


@pytest.mark.slow
@pytest.mark.skipif(not ON_GPU, reason="no CUDA device")
@pytest.mark.parametrize("part", range(10))  # kernels are compiled for nearly every stack: parts may run side by side
def test_ten_thousand_arrays_against_the_cpu(part: int, kernel: str) -> None:
    assert_random_arrays(seed=10 + part, stacks=10, tiles=50, largest=150)
