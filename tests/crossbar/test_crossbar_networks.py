"""Networks on arrays: the limits in which they must equal torch, and equality with single arrays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import crossbar
from crossbar import Config, Wires, convert
from crossbar.layers import ArrayConv2d, ArrayLinear
from devicelab import VTEAM, Lut
from devicelab.errors import DevicelabError, LutError, ParameterError

V_READ = 0.2
DEVICE = VTEAM(
    r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5, resistance="exponential"
)
FLOAT64 = 1e-9  # states come from the table by interpolation, which is exact at the read voltage


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(DEVICE, 1.0)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(10, 7), (5, 10)),
        (nn.Linear(40, 33, bias=False), (2, 3, 40)),
        (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 6, 7)),
        (nn.Conv2d(2, 4, (3, 2), stride=2, dilation=(1, 2)), (2, 2, 9, 8)),
    ],
    ids=str,
)
def test_ohmic_cells_on_ideal_lines_equal_torch(layer: nn.Module, shape: tuple[int, ...], lut: Lut) -> None:
    layer = layer.double()
    x = tensor(*shape)
    mapped = convert(layer, lut, Config(rows=16, columns=8, v_read=V_READ, nonlinear=False))
    torch.testing.assert_close(mapped(x), layer(x), rtol=FLOAT64, atol=FLOAT64)


def test_vanishing_line_resistance_recovers_ideal_lines(lut: Lut) -> None:
    layer, x = nn.Linear(20, 9).double(), tensor(4, 20)
    base = Config(rows=16, columns=8, v_read=V_READ, rtol=1e-9)
    ideal = convert(layer, lut, base)(x)
    tiny = convert(layer, lut, base.but(wires=Wires(1e-6, 1e-6, 1e-6, 1e-6)))(x)
    torch.testing.assert_close(tiny, ideal, rtol=1e-6, atol=1e-6)  # 1e-6 ohm against 10 kohm times 24 cells


def test_one_tile_equals_two_solved_arrays(lut: Lut) -> None:
    layer, x = nn.Linear(16, 8, bias=False).double(), tensor(3, 16)
    wires = Wires(3.0, 2.0, 5.0, 4.0)
    mapped = convert(layer, lut, Config(rows=16, columns=8, v_read=V_READ, wires=wires, rtol=1e-10))
    low, high = lut.conductance_range(V_READ)
    weight = layer.weight.detach().T
    top = weight.abs().max()
    peak = x.abs().amax(dim=1, keepdim=True)
    currents = []
    for sign in (1, -1):
        g = low + (high - low) * (sign * weight).clamp(min=0) / top
        cells = crossbar.LutCells(lut, torch.from_numpy(lut.state_for(g.numpy(), V_READ)))
        currents.append(crossbar.solve(cells, x * V_READ / peak, wires, rtol=1e-10).i_out)
    expected = (currents[0] - currents[1]) * top / (high - low) * peak / V_READ
    torch.testing.assert_close(mapped(x), expected.double(), rtol=1e-7, atol=1e-7)


def test_a_result_does_not_depend_on_the_rest_of_the_batch(lut: Lut) -> None:
    mapped = convert(nn.Linear(12, 5).double(), lut, Config(rows=16, columns=8, v_read=V_READ))
    x = tensor(6, 12)
    torch.testing.assert_close(mapped(x)[2:3], mapped(x[2:3]), rtol=FLOAT64, atol=FLOAT64)


def test_a_small_budget_gives_the_same_in_several_goes(lut: Lut) -> None:
    layer, x = nn.Linear(12, 5).double(), tensor(9, 12)
    base = Config(rows=16, columns=8, v_read=V_READ, wires=Wires(1.0, 1.0, 1.0, 1.0), rtol=1e-9)
    whole, parts = convert(layer, lut, base)(x), convert(layer, lut, base.but(budget=1e5))(x)
    torch.testing.assert_close(parts, whole, rtol=1e-7, atol=1e-7)


def test_nested_and_shared_layers_are_replaced_once(lut: Lut) -> None:
    shared = nn.Linear(8, 8)
    net = nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared), nn.Conv2d(1, 1, 1))
    mapped = convert(net, lut, Config(rows=8, columns=8, v_read=V_READ))
    assert mapped[0] is mapped[1][1]
    assert isinstance(mapped[0], ArrayLinear)
    assert isinstance(mapped[2], ArrayConv2d)
    assert type(net[0]) is nn.Linear  # the original is not touched
    text = crossbar.report(mapped)
    assert "ArrayLinear" in text
    assert "total" in text


def test_a_layer_used_twice_by_one_parent_runs_on_arrays_twice(lut: Lut) -> None:
    shared, x = nn.Linear(8, 8).double(), tensor(3, 8)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    mapped = convert(net, lut, Config(rows=8, columns=8, v_read=V_READ, nonlinear=False))
    assert mapped[0] is mapped[2]
    assert isinstance(mapped[2], ArrayLinear)
    torch.testing.assert_close(mapped(x), net(x), rtol=FLOAT64, atol=FLOAT64)


def test_calibration_gives_every_layer_the_largest_of_its_own_inputs(lut: Lut) -> None:
    inner = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
    net, x = nn.Sequential(inner, nn.Dropout(0.5), nn.Linear(16, 4)).double(), 5 * tensor(32, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    config = Config(rows=16, columns=8, v_read=V_READ, nonlinear=False)
    mapped = convert(net, lut, config, calibration=x)
    hidden = nn.Sequential(*inner).eval()(x)
    assert float(mapped[0][0].input_range) == float(x.abs().max())
    assert float(mapped[2].input_range) == pytest.approx(float(hidden.detach().abs().max()), rel=1e-14)
    torch.testing.assert_close(mapped(x), net.eval()(x), rtol=FLOAT64, atol=FLOAT64)
    for name, value in net.state_dict().items():  # the network that was given did not learn from the calibration
        assert torch.equal(value, before[name]), name


def test_saved_weights_come_back(lut: Lut) -> None:
    x = tensor(4, 12)
    config = Config(rows=16, columns=8, v_read=V_READ)
    torch.manual_seed(0)
    one, two = (convert(nn.Linear(12, 5).double(), lut, config) for _ in range(2))
    assert not torch.allclose(one(x), two(x))
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(two(x), one(x), rtol=FLOAT64, atol=FLOAT64)


def test_floating_point_configuration_changes_nothing(lut: Lut) -> None:
    layer, x = nn.Linear(12, 5), torch.randn(3, 12)
    torch.testing.assert_close(convert(layer, lut, Config.ideal())(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("net", "config", "error", "words"),
    [
        (nn.Sequential(nn.ReLU()), Config(), ParameterError, "nothing to convert"),
        (nn.Linear(4, 4), Config(v_read=3.0), LutError, "outside the table"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    net: nn.Module, config: Config, error: type[DevicelabError], words: str, lut: Lut
) -> None:
    with pytest.raises(error, match=words):
        convert(net, lut, config)


def test_nonsense_configurations_are_refused() -> None:
    with pytest.raises(ParameterError, match="rows must be positive"):
        Config(rows=0)
    with pytest.raises(ParameterError, match=r"r_wl|line resistance|out of bounds"):
        Wires(-1.0, 1.0, 1.0, 1.0)
