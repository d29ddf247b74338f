"""Every layer type on cells of a table: the limits in which it equals torch, and what one does with a module."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from crossbar import Config, TiledMatrix, Wires, convert
from crossbar.layers import ArrayLayer
from devicelab import Lut

G_LOW, G_HIGH, V_READ = 1e-5, 1e-4, 0.2
STEEP = 5.0  # of sinh [1/V]
IDEAL = Config(rows=16, columns=8, v_read=V_READ, rtol=1e-9)
LIMIT = 1e-6
VANISHING = Wires(1e-7, 1e-7, 1e-7, 1e-7)  # 24 segments, 16 cells of 10 kohm on each: 4e-9 of a voltage

LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (nn.Linear(10, 7), (5, 10)),
    (nn.Conv1d(4, 6, 3, stride=2, groups=2), (2, 4, 9)),
    (nn.Conv2d(4, 6, 3, padding=1, dilation=2, groups=2), (1, 4, 5, 4)),
    (nn.Conv3d(2, 3, 2), (1, 2, 3, 3, 3)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (2, 4, 4)),
    (nn.ConvTranspose2d(3, 4, 2, stride=2), (1, 3, 3, 3)),
    (nn.ConvTranspose3d(2, 2, 2), (1, 2, 2, 2, 2)),
    (nn.RNN(5, 6), (3, 2, 5)),
    (nn.LSTM(5, 6, bidirectional=True), (3, 2, 5)),
    (nn.GRU(5, 6), (3, 2, 5)),
    (nn.RNNCell(5, 6), (3, 5)),
    (nn.LSTMCell(5, 6), (3, 5)),
    (nn.GRUCell(5, 6), (3, 5)),
    (nn.MultiheadAttention(8, 2), (3, 2, 8)),
    (nn.Embedding(9, 6), (4,)),
    (nn.EmbeddingBag(9, 6, mode="sum"), (2, 3)),
    (nn.Bilinear(5, 4, 3), (2, 20)),
]
EACH = pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS])


def table(current: Any) -> Lut:
    """A device with conductances between `G_LOW` and `G_HIGH` and currents g * current(v)."""
    v, g = np.linspace(-0.5, 0.5, 201), np.linspace(G_LOW, G_HIGH, 5)
    return Lut(v, np.linspace(0, 1, 5), g[:, None] * current(v), device={"model": "test"})


@pytest.fixture(scope="module")
def proportional() -> Lut:
    return table(lambda v: v)


@pytest.fixture(scope="module")
def steep() -> Lut:
    return table(lambda v: np.sinh(STEEP * v) / STEEP)


def given(layer: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return (torch.randint(layer.num_embeddings, shape, generator=generator),)
    x = torch.randn(*shape, generator=generator).to(dtype)
    if isinstance(layer, nn.Bilinear):
        return x[:, :5], x[:, -4:]
    return (x, x, x) if isinstance(layer, nn.MultiheadAttention) else (x,)


def close(found: Any, expected: Any, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def fresh(layer: nn.Module, dtype: torch.dtype = torch.float64, seed: int = 1) -> nn.Module:
    """The same layer with weights drawn anew."""
    other = copy.deepcopy(layer).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    for p in other.parameters():
        p.data = 0.5 * torch.randn(p.shape, generator=generator).to(dtype)
    return other


@EACH
@pytest.mark.parametrize("wires", [None, VANISHING], ids=["ideal lines", "vanishing lines"])
def test_cells_in_proportion_to_their_voltage_equal_torch(
    layer: Any, shape: tuple[int, ...], wires: Wires | None, proportional: Lut
) -> None:
    layer = fresh(layer)
    x = given(layer, shape)
    mapped = convert(layer, proportional, IDEAL.but(wires=wires))
    with torch.no_grad():
        close(mapped(*x), layer(*x), LIMIT)


@EACH
def test_lines_without_resistance_are_the_limit_for_non_linear_cells(
    layer: Any, shape: tuple[int, ...], steep: Lut
) -> None:
    layer = fresh(layer)
    x = given(layer, shape)
    with torch.no_grad():
        ideal = convert(layer, steep, IDEAL)(*x)
        close(convert(layer, steep, IDEAL.but(wires=VANISHING))(*x), ideal, LIMIT)
        lossy = convert(layer, steep, IDEAL.but(wires=Wires(50.0, 50.0, 50.0, 50.0), rtol=1e-6))(*x)
    with pytest.raises(AssertionError):  # the lines are there
        close(lossy, ideal, 1e-3)


ROUGH = IDEAL.but(devices__d2d=0.2, devices__levels=8, adc__bits=6, rtol=1e-3)
SHARED = ROUGH.but(nonlinear=False, wires=Wires(2.0, 2.0, 2.0, 2.0), share_tiles="layers")
TILES = pytest.mark.parametrize("config", [ROUGH, SHARED], ids=["tiles apart", "shared tiles"])


@EACH
@TILES
def test_state_copies_and_files(layer: Any, shape: tuple[int, ...], config: Config, steep: Lut) -> None:
    x = given(layer, shape)
    one, two = (convert(fresh(layer, seed=seed), steep, config) for seed in (1, 2))
    with torch.no_grad():
        expected = one(*x)
        with pytest.raises(AssertionError):
            close(two(*x), expected, 1e-3)
        buffer = io.BytesIO()
        torch.save(one.state_dict(), buffer)
        buffer.seek(0)
        two.load_state_dict(torch.load(buffer, weights_only=True))
        whole = io.BytesIO()
        torch.save(one, whole)
        whole.seek(0)
        for other in (two, copy.deepcopy(one), torch.load(whole, weights_only=False)):
            close(other(*x), expected, 1e-12)


@EACH
def test_autocast_does_not_round_conductances(layer: Any, shape: tuple[int, ...], proportional: Lut) -> None:
    layer = fresh(layer, torch.float32)
    x = given(layer, shape, torch.float32)
    mapped = convert(layer, proportional, IDEAL.but(rtol=1e-5))
    assert all(m.g.dtype == torch.float32 for m in mapped.modules() if isinstance(m, TiledMatrix))
    with torch.no_grad():
        expected = layer(*x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = mapped(*x)
    # scores of attention are torch's own products, which autocast rounds to 8 bits
    tolerance = 3e-2 if isinstance(layer, nn.MultiheadAttention) else 1e-3
    for a, b in zip(_flat(found), _flat(expected), strict=True):
        close(a.float(), b, tolerance)


def _flat(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [t for part in value for t in _flat(part)]


@EACH
@TILES
def test_compiled(layer: Any, shape: tuple[int, ...], config: Config, steep: Lut) -> None:
    mapped = convert(fresh(layer), steep, config)
    x = given(layer, shape)
    torch._dynamo.reset()
    with torch.no_grad():
        close(torch.compile(mapped, backend="eager", fullgraph=True)(*x), mapped(*x), 1e-12)


def test_tables_of_one_shape_are_one_product_of_polynomials(steep: Lut) -> None:
    """Cells g sinh(b v) / b: rank one, whatever rounding the table has, and 1e-4 of a current from the closed form."""
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = torch.linspace(-1, 1, 64, dtype=torch.float64).view(4, 16)
    matrix = TiledMatrix(weight, steep, Config(rows=16, columns=8, v_read=V_READ))
    assert matrix.matrix is not None
    assert matrix.matrix.shape[2] == 16  # one row a word line
    assert matrix._smooth is not None
    at_read = np.sinh(STEEP * V_READ)  # conductances hold there
    expected = torch.sinh(STEEP * V_READ * u / u.abs().amax(1, keepdim=True)) / at_read * u.abs().amax(1, keepdim=True)
    exact = expected @ weight.T
    assert float((matrix(u) - exact).abs().max()) < 4e-4 * float((expected.abs() @ weight.abs().T).max())
    whole = TiledMatrix(weight.float(), steep, matrix.config.but(adc__bits=16))
    assert float((whole(u.float()) - exact).abs().max()) < 1e-3 * float(exact.abs().max())


def test_cells_between_lines_are_kept_until_something_is_written(steep: Lut, monkeypatch: Any) -> None:
    config = IDEAL.but(wires=Wires(5.0, 5.0, 5.0, 5.0), rtol=1e-6)
    layer, x = nn.Linear(10, 5, bias=False).double(), given(nn.Linear(10, 5), (3, 10))[0]
    net: Any = convert(layer, steep, config)
    made = []
    original = TiledMatrix._lut_cells
    monkeypatch.setattr(TiledMatrix, "_lut_cells", lambda self, *a: made.append(1) or original(self, *a))
    with torch.no_grad():
        first = net(x)
        close(net(x), first, 0.0)
        assert len(made) == 1
        net.weight.mul_(-1)
        net.program()
        close(net(x), -first, 1e-5)
        net.matrix.g.copy_(net.matrix.g.flip(2))  # plus and minus exchanged, in place
        close(net(x), first, 1e-5)
        other = copy.deepcopy(net)
        other.load_state_dict(convert(nn.Linear(10, 5, bias=False).double(), steep, config).state_dict())
        assert not torch.allclose(other(x), first, rtol=1e-3)
    net.train()
    with torch.no_grad():
        net.weight.mul_(-1)
    found = net(x)
    close(found, first, 1e-5)  # the present weights, written anew
    (gradient,) = torch.autograd.grad(found.sum(), net.weight)
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize(
    ("layer", "shape"),
    [case for case in LAYERS if not isinstance(case[0], nn.RNNBase | nn.MultiheadAttention | nn.EmbeddingBag)],
)  # of the others torch has none itself
def test_empty_batches(layer: Any, shape: tuple[int, ...], steep: Lut) -> None:
    """No input gives no output, of torch's shape, on arrays that are solved and through converters too."""
    layer = fresh(layer)
    x = tuple(part[:0] for part in given(layer, shape))
    for config in (IDEAL, ROUGH, IDEAL.but(wires=VANISHING), IDEAL.but(wires=VANISHING, share_tiles="layers")):
        with torch.no_grad():
            assert [t.shape for t in _flat(convert(layer, steep, config)(*x))] == [t.shape for t in _flat(layer(*x))]


@EACH
@pytest.mark.parametrize("wires", [None, Wires(2.0, 2.0, 2.0, 2.0)], ids=["ideal lines", "lines"])
def test_autocast_in_training_does_not_round_conductances(
    layer: Any, shape: tuple[int, ...], wires: Wires | None
) -> None:
    """Lines are eliminated in the network's own type, however the rest of it computes."""
    layer = fresh(layer, torch.float32).train()
    x = given(layer, shape, torch.float32)
    mapped = convert(layer, None, IDEAL.but(nonlinear=False, g_low=G_LOW, g_high=G_HIGH, wires=wires)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        written = [m.live(w).matrix for m, w in _matrices(mapped)]
    for a, (m, w) in zip(written, _matrices(mapped), strict=True):
        close(a, m.live(w).matrix, 1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _flat(mapped(*x))
    sum(part.float().sum() for part in found).backward()
    assert all(bool(p.grad.isfinite().all()) for p in mapped.parameters() if p.grad is not None)


def _matrices(net: nn.Module) -> list[tuple[TiledMatrix, torch.Tensor]]:
    return [
        (m, layer.weights()[name][0])
        for layer in net.modules()
        if isinstance(layer, ArrayLayer)
        for name, m in layer.matrices()
    ]
