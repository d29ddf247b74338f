"""Vectors that are too steep for the Newton kernels: solved with care on the device, by the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported, which is below

from crossbar import Bias, Cells, LutCells, Sinh, Wires, engine, gpu  # noqa: E402
from crossbar.bias import fit  # noqa: E402
from crossbar.gpu_care import careful_gpu  # noqa: E402
from crossbar.newton import Circuit, solve_newton  # noqa: E402

pytestmark = [
    pytest.mark.skipif(gpu.kernels() is None, reason="triton is not installed"),
    pytest.mark.filterwarnings(
        "ignore:overflow", "ignore:invalid value", "ignore:divide by zero"
    ),  # of the interpreter
]
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
RNG = np.random.default_rng(0)
M, N = 5, 4
G = torch.tensor(10 ** RNG.uniform(-5, -3, (2, M, N)), device=DEVICE)
V = torch.stack([torch.linspace(-0.05, 0.1, M), torch.linspace(-0.3, 2.0, M)]).double().to(DEVICE)  # easy, hard
STRONG = Wires(5.0, 5.0, 5.0, 5.0)
TURNED = Wires(5.0, torch.linspace(1, 9, N), torch.inf, torch.inf, r_source_right=5.0, r_sense_top=5.0)


def steep_table() -> SimpleNamespace:
    """A table of sinh(20 v) between -1 V and 2.5 V: no polynomial."""
    v = np.sort(np.append(np.linspace(-1.0, 2.5, 141), 0.0))
    v = v[np.append(True, np.diff(v) > 1e-9)]
    states = np.array([0.0, 1.0])
    size = np.array([[1e-7], [1e-5]])
    return SimpleNamespace(
        voltage=v, state=states, table=size * np.sinh(20 * v) / 20, slope=size * np.cosh(20 * v)
    )  # fmt: skip


MAKERS: dict[str, Callable[[], Cells]] = {
    "sinh": lambda: Sinh(G, 20.0),
    "table": lambda: LutCells(steep_table(), (torch.log10(G) + 5) / 2),
}


def circuit(cells: Cells, drive: Tensor | Bias, wires: Wires) -> tuple[Circuit, Tensor]:
    fitted = fit(drive, cells.shape, cells.dtype, cells.device)
    return engine._circuit(cells, fitted, wires), fitted.v_wl


def status(array: Circuit, v: Tensor, rtol: float) -> tuple[tuple[Tensor, ...], gpu.Packed]:
    pack = gpu.packed(array, *gpu.extremes(v, None), rtol)
    assert pack is not None
    return pack.run(v, None, voltages=True, careful=True), pack


@pytest.mark.cuda
@pytest.mark.parametrize("wires", [STRONG, TURNED], ids=["usual", "turned round"])
@pytest.mark.parametrize("kind", MAKERS)
def test_what_plain_steps_give_up_is_solved(kind: str, wires: Wires) -> None:
    """With the currents and voltages of the method in torch; and what is not hard stays as it is, bit for bit."""
    cells = MAKERS[kind]()
    array, v = circuit(cells, V, wires)
    (i, inside, reached, residual, counts), pack = status(array, v, 1e-9)
    plain = pack.run(v, None, voltages=True)
    assert plain[4][..., 0].tolist() == [[1, 2], [1, 2]]
    assert (counts[..., 0] == gpu.CONVERGED).all()
    for a, b in zip(plain, (i, inside, reached, residual, counts), strict=True):
        assert torch.equal(a[:, 0], b[:, 0])
    expected = solve_newton(array, 1e-10).v
    found = pack.flip.cells(inside)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    total = cells.current(expected).sum(-2)
    torch.testing.assert_close(pack.flip.columns(i, -1), total, rtol=1e-6, atol=1e-9 * total.abs().max().item())
    torch.testing.assert_close(reached[..., 1].double(), expected.amax((-1, -2)), rtol=1e-5, atol=1e-6)
    assert residual.max() <= 1e-9


def test_float32_meets_its_tolerance() -> None:
    cells = Sinh(G.float(), 20.0)
    array, v = circuit(cells, V.float(), STRONG)
    (i, *_, counts), _ = status(array, v, 1e-5)
    assert i.dtype == torch.float32
    assert (counts[..., 0] == gpu.CONVERGED).all()
    expected = Sinh(G, 20.0).current(solve_newton(circuit(Sinh(G, 20.0), V, STRONG)[0], 1e-10).v).sum(-2)
    torch.testing.assert_close(i.double(), expected, rtol=0, atol=5e-5 * expected.abs().max().item())


def test_what_has_no_solution_stays_given_up() -> None:
    cells = Sinh(G, 20.0)
    array, v = circuit(cells, V, STRONG)
    pack = gpu.packed(array, *gpu.extremes(v, None), 1e-9)
    assert pack is not None
    found = list(pack.run(v, None, voltages=False))
    found[4][..., 0] = torch.tensor([gpu.CONVERGED, 2])
    before = found[0].clone()
    v = v.clone()
    v[1, 2] = torch.nan
    *cells_, _, _, _, law, rtol = pack.arguments
    careful_gpu(v[None], v.new_zeros(1, 2, N), *cells_, *pack.lines, law, rtol, False, *found)
    assert found[4][..., 0].tolist() == [[1, 2], [1, 2]]
    assert torch.equal(found[0], before)


def test_the_operator_is_a_good_citizen_of_torch() -> None:
    array, v = circuit(Sinh(G, 5.0), V, STRONG)
    pack = gpu.packed(array, *gpu.extremes(v, None), 1e-6)
    assert pack is not None
    ground = v.new_zeros(1, 2, N)
    *cells, _, _, _, law, rtol = pack.arguments
    found = gpu.newton_gpu(v[None], ground, *pack.arguments, False)
    arguments = (v[None], ground, *cells, *pack.lines, law, rtol, False, *found)
    torch.library.opcheck(careful_gpu, arguments)
