"""How often the host waits for a GPU: once a pass of a network, twice a `solve`. Counted on a pretended GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported, which is below

from pretend_gpu import Gpu, missing, pretended

from crossbar import (
    Bias,
    Cells,
    Config,
    LutCells,
    Ohmic,
    Sinh,
    Wires,
    convert,
    expansion,
    gpu,
    gpu_expansion,
    gpu_layers,
    passes,
    solve,
)
from crossbar.gpu_layers import at_once
from crossbar.graphs import captured
from devicelab import Lut, parameter_set
from devicelab.errors import LutError, ParameterError

pytestmark = [
    pytest.mark.skipif(gpu.kernels() is None, reason="triton is not installed"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU; see the tests marked cuda"),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

LUT = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)
SOLVED = Config(rows=8, columns=8, wires=Wires(1.0, 1.0, 1.0, 1.0), rtol=1e-5)
SHARED = SOLVED.but(share_tiles="layers", rows=24, columns=24)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A pretended GPU, on which arrays are solved for which a series would do."""
    monkeypatch.setattr(expansion, "series", lambda chip, u, written: None)
    monkeypatch.setattr(gpu_expansion, "series", lambda chip, u, written: None)
    with pretended() as chip:
        yield chip


def solved_by_nobody(v_wl: Tensor, v_bl: Tensor, *given: Any) -> tuple[Tensor, ...]:
    """In place of the kernels, where only waiting counts."""
    i, v, reached, residual, counts = gpu._empty(v_wl, v_bl, given[7], given[10])
    counts[..., 0] = gpu.CONVERGED
    return i.fill_(1e-6), v.zero_(), reached.zero_(), residual.zero_(), counts


def waits(there: Gpu, call: Callable[..., Any], *x: Any) -> tuple[int, int]:
    """Waits of the second call, and copies to the device that wait."""
    with torch.no_grad():
        call(*x)  # packs arrays, and makes tables
        there.waits.clear()
        there.sent.clear()
        call(*x)
    return there.waits.total(), there.sent.total()


def packed(*lengths: int) -> nn.utils.rnn.PackedSequence:
    return nn.utils.rnn.pack_sequence([torch.randn(length, 3) for length in lengths])


LAYERS: dict[str, tuple[nn.Module, tuple[Any, ...], Config]] = {
    "linear": (nn.Linear(12, 5), (torch.randn(2, 12),), SOLVED),
    "own scale of every vector, converters": (nn.Linear(12, 5), (torch.randn(2, 12),), SOLVED.but(adc__bits=6)),
    "noise": (nn.Linear(12, 5), (torch.randn(2, 12),), SOLVED.but(devices__read_noise=0.1)),
    "two layers": (nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), (torch.randn(2, 12),), SOLVED),
    "convolution": (nn.Conv2d(2, 3, 2, padding=1), (torch.randn(1, 2, 3, 3),), SOLVED),
    "transposed": (nn.ConvTranspose1d(3, 2, 2), (torch.randn(1, 3, 3),), SOLVED),
    "pulse widths": (nn.Linear(6, 5), (torch.randn(2, 6),), SOLVED.but(dac__bits=3, dac__encoding="pulse-width")),
    "bits one by one": (nn.Linear(6, 5), (torch.randn(2, 6),), SOLVED.but(dac__bits=3, dac__encoding="bit-serial")),
    "embedding": (nn.Embedding(6, 4), (torch.tensor([[1, 2]]),), SOLVED),
    "bag": (nn.EmbeddingBag(6, 4), (torch.tensor([[1, 2]]),), SOLVED),
    "largest of a bag": (nn.EmbeddingBag(6, 4, mode="max"), (torch.tensor([[1, 2]]),), SOLVED),
    "bilinear": (nn.Bilinear(3, 4, 2), (torch.randn(2, 3), torch.randn(2, 4)), SOLVED),
    "lstm": (nn.LSTM(3, 4), (torch.randn(3, 2, 3),), SOLVED),
    "sequences of several lengths": (nn.GRU(3, 4), (packed(3, 2, 2),), SOLVED),
    "gru cell": (nn.GRUCell(3, 4), (torch.randn(2, 3),), SOLVED),
    "attention": (nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), (torch.randn(1, 3, 4),), SOLVED),
    "shared tiles": (nn.Sequential(nn.Linear(12, 5), nn.Linear(5, 3)), (torch.randn(2, 12),), SHARED),
    "shared by groups": (nn.Conv1d(4, 4, 2, groups=2), (torch.randn(1, 4, 3),), SOLVED.but(share_tiles="groups")),
    "resistances as tensors": (nn.Linear(12, 5), (torch.randn(2, 12),), SOLVED.but(wires=Wires(torch.ones(8), 1.0))),
}


@pytest.mark.parametrize(("layer", "x", "config"), LAYERS.values(), ids=LAYERS.keys())
def test_a_pass_waits_once(
    layer: nn.Module, x: tuple[Any, ...], config: Config, there: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "newton_gpu", solved_by_nobody)
    net = convert(layer, LUT, config).cuda()
    x = tree_map_only(Tensor, lambda a: a.cuda() if a.dtype != torch.int64 or a.dim() == 2 else a, x)
    assert waits(there, net, *x) == (1, 0)
    with at_once():
        assert waits(there, net, *x)[0] >= 1


def test_layers_that_look_wait_once_a_solution(there: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "newton_gpu", solved_by_nobody)
    layer, x, config = LAYERS["two layers"]
    net = convert(layer, LUT, config).cuda()
    with at_once():
        assert waits(there, net, x[0].cuda()) == (2, 0)
    assert waits(there, net[0], x[0].cuda()) == (1, 0)  # type: ignore[index]


@pytest.mark.parametrize("config", [SOLVED, SHARED])
def test_what_a_pass_finds_is_what_the_engine_finds(config: Config, there: Gpu) -> None:
    """By the kernels themselves, against the CPU."""
    torch.manual_seed(1)
    net, x = convert(nn.Sequential(nn.Linear(7, 4), nn.Linear(4, 3)), LUT, config), torch.randn(1, 7)
    with torch.no_grad():
        expected = net(x)
        found = net.cuda()(x.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


RNG = np.random.default_rng(0)
G = torch.tensor(10 ** RNG.uniform(-6, -3, (1, 5, 4)))
X = torch.tensor(RNG.uniform(0, 1, (1, 5, 4)))
V, V_BL = torch.tensor(RNG.uniform(-0.2, 0.4, (2, 5))), torch.tensor(RNG.uniform(-0.1, 0.1, (1, 4)))
WIRES = Wires(1.0, 2.0, 3.0, 4.0)
OTHER_ENDS = Wires(1.0, 2.0, torch.inf, torch.inf, r_source_right=3.0, r_sense_top=4.0)
CORNERED = 1e-9
"""Tolerance at which the table is no polynomial."""

SOLVES: dict[str, tuple[Callable[[], Cells], bool, Wires, float]] = {
    "ohmic, biased": (lambda: Ohmic(G.cuda()), True, WIRES, 1e-6),
    "sinh": (lambda: Sinh(G.cuda(), 5.0), False, WIRES, 1e-6),
    "sinh, biased": (lambda: Sinh(G.cuda(), 5.0), True, WIRES, 1e-6),
    "table": (lambda: LutCells(LUT, X.cuda()), False, WIRES, 1e-4),
    "table in pieces": (lambda: LutCells(LUT, X.cuda()), True, WIRES, CORNERED),
    "other ends": (lambda: Sinh(G.cuda(), 5.0), False, OTHER_ENDS, 1e-6),
}


@pytest.mark.parametrize(("make", "biased", "wires", "rtol"), SOLVES.values(), ids=SOLVES.keys())
def test_a_solve_waits_twice(make: Callable[[], Cells], biased: bool, wires: Wires, rtol: float, there: Gpu) -> None:
    """For the ends of the voltages, which say whether all are finite, and for what is known of the solution."""
    cells, drive = make(), Bias(V.cuda(), V_BL.cuda()) if biased else V.cuda()
    assert waits(there, lambda: solve(cells, drive, wires, rtol=rtol)) == (2, 0)


def test_what_is_refused_is_still_refused(there: Gpu) -> None:
    cells = LutCells(LUT, X.cuda())
    for bad in (torch.nan, torch.inf):
        v = V.clone()
        v[1, 2] = bad
        with pytest.raises(ParameterError, match="v_wl holds values that are not finite"):
            solve(cells, v.cuda(), WIRES)
        with pytest.raises(ParameterError, match="v_bl holds values that are not finite"):
            solve(cells, Bias(V.cuda(), torch.full((4,), bad).cuda()), WIRES)
    with pytest.raises(LutError, match="outside the voltages"):
        solve(cells, 3 * V.cuda(), WIRES)
    assert solve(Sinh(G.cuda(), 5.0), V[:0].cuda(), None).i_out.shape == (1, 0, 4)


def test_a_steeper_array_is_looked_at_again(there: Gpu) -> None:
    """What is remembered of cells is forgotten when they change in place."""
    b = torch.full((1, 5, 4), 2.0)
    here, cells = Sinh(G, b.clone()), Sinh(G.cuda(), b.cuda())
    for factor in (1.0, 8.0):
        here.b.mul_(factor)
        cells.b.mul_(factor)
        found, expected = (solve(c, v, WIRES, rtol=1e-8).i_out for c, v in ((cells, V.cuda()), (here, V)))
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


def test_lines_that_float_are_found(there: Gpu) -> None:
    """By the method in torch, on the device; the masks may be anywhere."""
    floating = torch.tensor([False, True, False, False, False])
    expected = solve(Sinh(G, 5.0), Bias(V, None, floating), WIRES).i_out
    for mask in (floating, floating.cuda()):
        found = solve(Sinh(G.cuda(), 5.0), Bias(V.cuda(), None, mask), WIRES).i_out
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-12)


def test_a_graph_is_made_good_with_the_noise_of_its_replay(there: Gpu) -> None:
    """Where a replay has to be made again, it reads what it has read, and is counted once."""
    config = Config(rows=8, columns=8, nonlinear=False, g_low=1e-5, g_high=1e-4).but(
        adc__bits=6, adc__law="log", devices__read_noise=0.1
    )
    net, x = convert(nn.Linear(12, 5), None, config).cuda(), torch.randn(2, 12).cuda()
    graph = captured(net, x)
    reads = net.matrix.reads  # type: ignore[union-attr]
    first, second = graph(x), graph(x)
    assert not torch.equal(first, second)
    assert net.matrix.reads == reads + 2  # type: ignore[union-attr]
    assert torch.equal(graph._with_care((x,)), second)
    assert net.matrix.reads == reads + 3  # type: ignore[union-attr]


FLOATING = SHARED.but(idle_lines="floating")
BOTH_ENDS = SOLVED.but(wires=Wires(1.0, 1.0, 1.0, 1.0, r_source_right=1.0))


@pytest.mark.parametrize(
    "config",
    [FLOATING, BOTH_ENDS, SOLVED.but(budget=100.0)],
    ids=["floating", "driven at both ends", "too large to be kept"],
)
def test_a_graph_of_arrays_that_torch_looks_at_is_an_error(
    config: Config, there: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "newton_gpu", solved_by_nobody)
    net = convert(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)), LUT, config).cuda()
    with pytest.raises(ParameterError, match=r"looks at values(.|\n)*0\.matrix, 1\.matrix(.|\n)*none floating"):
        captured(net, torch.randn(2, 6).cuda())


@pytest.mark.parametrize("config", [SOLVED, SHARED, SOLVED.but(nonlinear=False, adc__bits=6, adc__law="log")])
def test_a_graph_of_others_is_captured_again_when_they_change(
    config: Config, there: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "newton_gpu", solved_by_nobody)
    net, x = convert(nn.Linear(6, 4), LUT, config).cuda(), torch.randn(2, 6).cuda()
    graph = captured(net, x)
    graph(x)
    assert not graph._stale()
    chip = net.matrix
    chip.adc_range = chip.adc_range.clone()  # type: ignore[union-attr, operator]
    assert graph._stale()
    graph(x)
    assert not graph._stale()
    net.load_state_dict(net.state_dict())
    assert graph._stale()


def test_no_pass_begins_in_a_graph_of_somebody_else(there: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """In which torch does not tell the states of its generators; arrays for which a series stands need no pass."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", list)
    net, x = convert(nn.Linear(6, 4), LUT, SOLVED).cuda(), torch.randn(2, 6).cuda()
    with torch.no_grad():
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            passes.begin(net, (x,), {})
            assert gpu_layers.current() is None
        passes.begin(net, (x,), {})
        assert gpu_layers.current() is not None
        gpu_layers.begin(None)
