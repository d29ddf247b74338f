"""The compiled tiled product against the same network in torch, tile by tile, and against plain numpy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from crossbar import Config, LutCells, TiledMatrix, Wires, compiled, convert
from devicelab import VTEAM, Lut

BASE = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4).but(adc__bits=6, dac__bits=7)
SAME = 1e-5  # float32 sums in another order, of numbers about 1
FEW = 2e-3  # share of partial sums that lie so near the edge of a step that rounding decides

pytestmark = pytest.mark.skipif(compiled.kernel() is None, reason="numba cannot compile here")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same weights in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5), 1.0)


def both(net: nn.Module, x: torch.Tensor, monkeypatch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        fast = net(x)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "suits", lambda chip, u: False)
            return fast, net(x)


def nearly(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal, but where a partial sum was rounded to the other side."""
    off = (a - b).abs() > SAME * b.abs().max()
    assert float(off.float().mean()) < FEW
    assert float((a - b).abs().max()) < 0.1 * float(b.abs().max())


SHAPES = [
    (nn.Conv2d(4, 12, 3, padding=1, groups=2), (3, 4, 16, 16)),  # runs of 16 positions
    (nn.Conv2d(3, 7, 3), (5, 3, 10, 10)),  # runs of 8
    (nn.Conv2d(3, 5, 3, dilation=2), (9, 3, 8, 8)),  # runs of 4
    (nn.Conv2d(3, 13, (3, 1), stride=2), (3, 3, 9, 7)),  # none
    (nn.Conv1d(5, 6, 4), (2, 5, 40)),
    (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 5)),
    (nn.Linear(50, 21), (37, 50)),
    (nn.Linear(700, 5), (3, 700)),  # more word lines than are gathered at once
]


@pytest.mark.parametrize(("layer", "shape"), SHAPES, ids=str)
@pytest.mark.parametrize("size", [(16, 16), (7, 5), (1000, 64)], ids=str)
def test_layers(layer: nn.Module, shape: tuple[int, ...], size: tuple[int, int], monkeypatch: Any) -> None:
    layer.reset_parameters()  # type: ignore[operator]
    x = tensor(*shape)
    net = convert(layer, None, BASE.but(rows=size[0], columns=size[1]), calibration=x)
    nearly(*both(net, x, monkeypatch))


@pytest.mark.parametrize(
    "options",
    [
        {"subtraction": "digital"},
        {"scheme": "two columns"},
        {"scheme": "reference column", "subtraction": "digital"},
        {"scheme": "offset"},
        {"partial_sums": "analog"},
        {"permute": True, "adc__per": "column", "sense__gain": 0.1, "sense__offset": 0.01},
        {"adc__per": "tile"},
        {"slices": 2, "slice_bits": 3, "sense__saturation": 0.05},
        {"dac__encoding": "bit-serial"},
        {"wires": Wires(2.0, 2.0, 2.0, 2.0)},
        {"share_tiles": True},
    ],
    ids=str,
)
def test_options(options: dict[str, Any], monkeypatch: Any) -> None:
    net, x = nn.Conv2d(4, 12, 3, groups=2), tensor(3, 4, 9, 9)
    nearly(*both(convert(net, None, BASE.but(**options), calibration=x), x, monkeypatch))


@pytest.mark.parametrize("encoding", ["amplitude", "pulse-width"])
def test_tables(encoding: Any, lut: Lut, monkeypatch: Any) -> None:
    net, x = nn.Sequential(nn.Conv2d(4, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(588, 9)), tensor(3, 4, 9, 9)
    config = Config(rows=16, columns=16, v_read=0.7).but(adc__bits=6, dac__bits=7, dac__encoding=encoding)
    nearly(*both(convert(net, lut, config, calibration=x), x, monkeypatch))


def test_tabulated_functions(lut: Lut) -> None:
    cells = LutCells(lut, torch.full((1, 1), 0.5, dtype=torch.float64))
    v = torch.linspace(-1, 1, 1001)
    found = compiled.features(cells, v)
    expected = cells.features(v.double()).float()
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert bool(compiled.features(cells, torch.tensor([torch.nan]))[0].isnan())


def test_it_is_what_runs(monkeypatch: Any) -> None:
    matrix = TiledMatrix(tensor(7, 20), None, BASE)
    assert compiled.suits(matrix, tensor(3, 20))
    assert not compiled.suits(matrix, tensor(3, 20).double())
    assert not compiled.suits(TiledMatrix(tensor(7, 20), None, BASE.but(adc__law="log")), tensor(3, 20))
    assert not compiled.suits(TiledMatrix(tensor(7, 20), None, BASE.but(devices__read_noise=0.1)), tensor(3, 20))
    assert not compiled.suits(TiledMatrix(tensor(7, 20), None, BASE.but(adc__bits=None)), tensor(3, 20))


def test_against_numpy() -> None:
    """Without anything of the rest in between: sums of 16 products, rounded, clipped, added."""
    weight, x = tensor(9, 40), tensor(5, 40, seed=1)
    matrix = TiledMatrix(weight, None, BASE.but(dac__bits=None, dac__range=4.0, adc__range=0.05))
    g = 9e-5 * weight.double().numpy() / float(weight.abs().max())
    v = x.double().numpy().clip(-4, 4) / 4 * 0.2
    full = 0.05 * 16 * 0.2 * 1e-4
    total: Any = 0.0
    for start, stop in ((0, 8), (8, 24), (24, 40)):
        total = total + np.clip(np.round(v[:, start:stop] @ g[:, start:stop].T / full * 31), -31, 31) * full / 31
    expected = torch.from_numpy(total * float(weight.abs().max()) * 4 / (9e-5 * 0.2)).float()
    nearly(matrix(x), expected)


def test_what_is_not_a_number_stays_so(monkeypatch: Any) -> None:
    net, x = convert(nn.Conv2d(2, 3, 3), None, BASE), tensor(4, 2, 6, 6)
    x[1, 0, 2, 2] = torch.nan
    out = both(net, x, monkeypatch)
    assert torch.equal(out[0].isnan(), out[1].isnan())
    assert bool(out[0][1].isnan().any())
    assert not bool(out[0][0].isnan().any())


def test_no_input_gives_no_output() -> None:
    assert convert(nn.Linear(5, 3), None, BASE)(torch.zeros(0, 5)).shape == (0, 3)


def test_changes_of_the_arrays_are_seen() -> None:
    """What was packed for the kernel is packed anew after a write, a calibration, a load, and in a copy."""
    x = tensor(6, 20)
    net: Any = convert(nn.Linear(20, 5), None, BASE)
    first = net(x)
    other = copy.deepcopy(net)
    with torch.no_grad():
        net.weight.mul_(-1)
        net.bias.mul_(-1)
    for _ in range(2):  # the second may get the memory of what was packed first
        net.program()
    torch.testing.assert_close(net(x), -first)
    torch.testing.assert_close(other(x), first)
    net.load_state_dict(other.state_dict())
    torch.testing.assert_close(net(x), first)
    net.matrix.adc_range.mul_(0.1)
    assert not torch.allclose(net(x), first)


def test_inference_mode() -> None:
    x = tensor(6, 20)
    layer = nn.Linear(20, 5)
    with torch.inference_mode():
        inside = convert(layer, None, BASE, calibration=x)(x)
    with torch.no_grad():
        torch.testing.assert_close(inside, convert(layer, None, BASE, calibration=x)(x))


def test_gradients_are_those_without_converters() -> None:
    net, x = nn.Conv2d(4, 6, 3, groups=2), tensor(3, 4, 8, 8)
    on_arrays = convert(net, None, BASE, calibration=x).train()
    x = 0.9 * x  # all within the range
    expected = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    found = torch.autograd.grad(on_arrays(x).sum(), [on_arrays.weight, on_arrays.bias])
    for a, b, largest in zip(found, expected, (float(net.weight.detach().abs().max()), None), strict=True):
        free = torch.ones_like(b, dtype=torch.bool) if largest is None else net.weight.abs() < largest
        assert float((a - b)[free].norm() / b.norm()) < 0.05  # of inputs in steps of 1 / 63


def test_networks_compile_whole(lut: Lut) -> None:
    for table, config in ((None, BASE), (lut, BASE.but(nonlinear=True, g_low=None, g_high=None))):
        net, x = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)), tensor(3, 2, 6, 6)
        mapped = convert(net, table, config, calibration=x)
        torch._dynamo.reset()
        with torch.no_grad():
            nearly(torch.compile(mapped, backend="aot_eager", fullgraph=True)(x), mapped(x))


@pytest.mark.parametrize("bits", [6, None])
def test_training_in_float32_on_cells_of_a_table(bits: int | None, lut: Lut, monkeypatch: Any) -> None:
    """Whose matrices come in float64 while all else is float32."""
    net, x = nn.Linear(20, 5), tensor(4, 20)
    config = Config(rows=16, columns=16, v_read=0.7).but(adc__bits=bits, dac__bits=7)
    mapped = convert(net, lut, config, calibration=x).train()
    nearly(*both(mapped, x, monkeypatch))
    mapped(x).sum().backward()
    assert mapped.weight.grad is not None
    assert bool(mapped.weight.grad.any())
