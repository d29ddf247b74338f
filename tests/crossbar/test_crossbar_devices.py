"""Networks on every device: within tolerance of float64 on the CPU, and bit for bit repeatable on each."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from crossbar import Config, Wires, convert
from devicelab import VTEAM, Lut

BASE = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4)
CONVERTERS = BASE.but(adc__bits=8, dac__bits=7)
LINES = Wires(1.0, 1.0, 1.0, 1.0)
FEW = 1e-2  # share of outputs with a partial sum that rounding puts on the other side of a step
SAME = 2e-5  # float32 sums in another order; relative to the largest output


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5), 1.0)


def tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def placed(a: Any, device: torch.device) -> Any:
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, a)


def outputs(layer: nn.Module, x: Tensor, lut: Lut | None, config: Config, device: torch.device) -> list[Tensor]:
    """What the layer gives on arrays there, its inputs and ranges those of `x`."""
    net, x = copy.deepcopy(layer).to(device), x.to(device)
    mapped = convert(net, lut, config, calibration=x)
    with torch.no_grad():
        return [a.cpu() for a in tree_leaves(mapped(x))]


def compare(layer: nn.Module, x: Tensor, lut: Lut | None, config: Config, device: torch.device) -> None:
    exact = copy.deepcopy(layer).double()
    y = x.double() if x.is_floating_point() else x
    expected = outputs(exact, y, lut, config, torch.device("cpu"))
    found = outputs(layer, x, lut, config, device)
    again = outputs(layer, x, lut, config, device)
    for a, b, c in zip(found, expected, again, strict=True):
        assert torch.equal(a, c)
        off = (a.double() - b).abs() > SAME * b.abs().max()
        assert float(off.double().mean()) <= FEW
        assert float((a.double() - b).abs().max()) <= 0.1 * float(b.abs().max())


LAYERS: dict[str, tuple[nn.Module, Tensor]] = {
    "linear": (nn.Linear(50, 21), tensor(9, 50)),
    "convolution": (nn.Conv2d(4, 12, 3, padding=1, groups=2), tensor(2, 4, 7, 7)),
    "in one dimension": (nn.Conv1d(3, 5, 4, stride=2), tensor(2, 3, 20)),
    "in three": (nn.Conv3d(2, 3, 2), tensor(2, 2, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(3, 4, 3), tensor(2, 3, 5, 5)),
    "embedding": (nn.Embedding(20, 6), torch.tensor([[1, 2], [3, 4]])),
    "lstm": (nn.LSTM(5, 7), tensor(3, 2, 5)),
    "gru": (nn.GRU(5, 7, bidirectional=True), tensor(3, 2, 5)),
    "attention": (nn.TransformerEncoderLayer(12, 4, 20, batch_first=True), tensor(2, 5, 12)),
}


@pytest.mark.parametrize(("layer", "x"), LAYERS.values(), ids=LAYERS.keys())
def test_layers(layer: nn.Module, x: Tensor, device: torch.device) -> None:
    compare(layer.eval(), x, None, BASE, device)


OPTIONS: dict[str, Config] = {
    "converters": CONVERTERS,
    "logarithmic": CONVERTERS.but(adc__law="log"),
    "digital subtraction": CONVERTERS.but(subtraction="digital", slices=2, slice_bits=3),
    "two columns": CONVERTERS.but(scheme="two columns"),
    "reference column": CONVERTERS.but(scheme="reference column"),
    "offset": CONVERTERS.but(scheme="offset"),
    "analog sums": CONVERTERS.but(partial_sums="analog", permute=True),
    "bit-serial": CONVERTERS.but(dac__encoding="bit-serial"),
    "sense": CONVERTERS.but(sense__gain=0.1, sense__offset=0.01, sense__saturation=0.1),
    "devices": CONVERTERS.but(devices__levels=16, devices__d2d=0.1, devices__c2c=0.05, devices__stuck_on=0.02),
    "aged": CONVERTERS.but(devices__time=1e4, devices__drift=0.05, devices__drift_spread=0.01),
    "lines": BASE.but(wires=LINES),
}


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS.keys())
def test_options(config: Config, device: torch.device) -> None:
    layer, x = LAYERS["convolution"]
    compare(layer, x, None, config, device)


@pytest.mark.parametrize("wires", [None, LINES], ids=["ideal lines", "lines"])
@pytest.mark.parametrize("options", [{}, {"adc__bits": 8, "dac__bits": 7}], ids=["plain", "converters"])
def test_cells_of_a_table(wires: Wires | None, options: dict[str, Any], lut: Lut, device: torch.device) -> None:
    config = Config(rows=16, columns=16, v_read=0.7, wires=wires, rtol=1e-6).but(**options)
    compare(*LAYERS["linear"], lut, config, device)


def test_noise_is_repeatable_and_has_its_size(device: torch.device) -> None:
    layer, x = nn.Linear(40, 5), tensor(1, 40)
    config = BASE.but(devices__read_noise=0.1, adc__bits=20)
    many = x.expand(1000, 40)
    found = outputs(layer, many, None, config, device)[0]
    assert torch.equal(found, outputs(layer, many, None, config, device)[0])
    assert not torch.equal(found, outputs(layer, many, None, config.but(seed=1), device)[0])
    expected = outputs(layer, x.expand(4000, 40), None, config, torch.device("cpu"))[0]
    torch.testing.assert_close(found.std(0), expected.std(0), rtol=0.08, atol=0)  # of 1000 and 4000: 2.2 % and 1.1 %


def test_training_moves_weights_alike(device: torch.device) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 3)), tensor(8, 20)

    def gradients(where: torch.device, dtype: torch.dtype) -> list[Tensor]:
        there = copy.deepcopy(net).to(where, dtype)
        given = x.to(where, dtype)
        mapped = convert(there, None, CONVERTERS, calibration=given).train()
        mapped(given).square().sum().backward()
        return [p.grad.cpu().double() for p in mapped.parameters() if p.grad is not None]

    found, expected = gradients(device, torch.float32), gradients(torch.device("cpu"), torch.float64)
    assert len(found) == 4
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()  # a code of the ADC may fall on the other side
