"""Gradients through arrays, hardware-aware fine-tuning, and calibration."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import crossbar
from crossbar import Config, Wires, convert
from crossbar.digits import load_digits, train_mlp
from devicelab import VTEAM, Lut
from devicelab.errors import ParameterError

IDEAL = Config(rows=16, columns=8, nonlinear=False, g_low=1e-6, g_high=1e-4)
LINES = Wires(20.0, 20.0, 20.0, 20.0)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def lut() -> Lut:
    device = VTEAM(
        r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5, resistance="exponential"
    )
    return Lut.from_model(device, 1.0)


@pytest.mark.parametrize("lined", [False, True], ids=["ideal lines", "lines"])
@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
@pytest.mark.parametrize("scheme", ["two arrays", "two columns", "reference column"])
def test_gradients_through_exact_arrays_are_finite_differences(
    lined: bool, nonlinear: bool, scheme: Any, lut: Lut
) -> None:
    """Weights to conductances to the solved array, and back."""
    base = Config(
        rows=4, columns=6, v_read=0.5, nonlinear=nonlinear, rtol=1e-12, scheme=scheme, dac=crossbar.DAC(range=2.0)
    )
    config = base.but(wires=LINES) if lined else base
    layer = nn.Linear(5, 3).double()
    with torch.no_grad():
        layer.weight[0, 0] = 1.5  # the largest weight, which sets the scale, is left alone
    mapped: Any = convert(layer, lut, config).train()
    x = 0.5 * tensor(2, 5).clamp(-2, 2)

    def out(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = mapped.matrix(x, mapped.matrix.live(weight))
        return found

    weight = layer.weight.detach().clone().requires_grad_()
    x = x.requires_grad_()
    probe = tensor(2, 3, seed=3)
    by_weight, by_input = torch.autograd.grad((out(weight, x) * probe).sum(), (weight, x))
    for variable, gradient in ((weight, by_weight), (x, by_input)):
        direction = tensor(*variable.shape, seed=4)
        if variable is weight:
            direction[0, 0] = 0
        h = 1e-6
        with torch.no_grad():
            moved = [variable + s * h * direction for s in (1, -1)]
            ends = [(out(*((a, x) if variable is weight else (weight, a))) * probe).sum() for a in moved]
        expected = float(ends[0] - ends[1]) / (2 * h)
        # central differences: h^2 and rounding / h, both about 1e-9; kinks of the table are far from these weights
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 5)),
        (nn.LSTM(5, 4, bidirectional=True, num_layers=2), (3, 2, 5)),
        (nn.GRUCell(5, 4), (3, 5)),
        (nn.Linear(7, 5), (2, 7)),
    ],
    ids=str,
)
def test_gradients_on_ideal_arrays_are_those_of_torch(layer: Any, shape: tuple[int, ...]) -> None:
    """In training, every parameter, but for the largest weight, gets the gradient of the digital layer."""
    layer, x = layer.double(), tensor(*shape).requires_grad_()
    mapped = convert(layer, None, IDEAL.but(adc__bits=24, dac__bits=24)).train()

    def gradients(net: nn.Module) -> list[torch.Tensor]:
        out = net(x)
        out = out[0] if isinstance(out, tuple) else out
        return list(torch.autograd.grad(out.square().sum(), [*(p for _, p in sorted(net.named_parameters())), x]))

    for a, b in zip(gradients(mapped), gradients(layer), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_training_writes_the_arrays_when_it_ends() -> None:
    mapped: Any = convert(nn.Linear(8, 4).double(), None, IDEAL.but(devices__c2c=0.1))
    x = tensor(3, 8)
    before = mapped(x)
    mapped.train().eval()
    assert torch.equal(mapped(x), before)  # nothing was learnt, nothing is written
    mapped.train()
    with torch.no_grad():
        mapped.weight.mul_(2)
        exact = crossbar.revert(mapped)(x)
        assert (mapped(x) - exact).norm() < 0.3 * exact.norm()  # the scale follows the weights
    mapped.eval()
    after = mapped(x)
    assert (after - exact).norm() < 0.3 * exact.norm()
    assert not torch.allclose(after, before, rtol=0.3)


def test_fine_tuning_recovers_the_accuracy_of_the_digits() -> None:
    """A 64-32-10 perceptron on coarse, stuck devices behind coarse converters, trained through its own arrays."""
    pytest.importorskip("sklearn")
    digits = load_digits()
    net = train_mlp(digits, hidden=32, epochs=20)
    config = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4, wires=Wires(5.0, 5.0, 5.0, 5.0)).but(
        devices__levels=6, devices__stuck_on=0.08, devices__stuck_off=0.08, adc__bits=6, dac__bits=6
    )
    mapped = convert(net, None, config, calibration=digits.train_x[:500])

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(digits.test_x).argmax(1) == digits.test_y).float().mean())

    exact, before = accuracy(net), accuracy(mapped)
    mapped.train()
    optimiser = torch.optim.Adam(mapped.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for part in torch.randperm(len(digits.train_x), generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(mapped(digits.train_x[part]), digits.train_y[part]).backward()
            optimiser.step()
    after = accuracy(mapped.eval())
    assert before < exact - 0.1
    assert after > exact - 0.3 * (exact - before)


def test_tuning_undoes_gains_and_offsets() -> None:
    """A sense amplifier's gain and offset are a straight line, which least squares finds exactly."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).double()
    x = tensor(40, 2, 6, 6)
    config = IDEAL.but(rows=64, sense__gain=0.2, sense__offset=0.05, dac__range=20.0)
    mapped = convert(net, None, config)
    assert (mapped(x) - net(x)).norm() > 0.1 * net(x).norm()
    crossbar.tune(mapped, x)
    torch.testing.assert_close(mapped(x), net(x), rtol=1e-6, atol=1e-6)


def test_tuning_is_the_least_squares_line() -> None:
    """Where a line cannot undo it all, the residual is orthogonal to what the columns give, and to one."""
    layer, x = nn.Linear(20, 6).double(), tensor(300, 20)
    mapped: Any = convert(layer, None, IDEAL.but(devices__d2d=0.3, devices__stuck_on=0.05, dac__range=4.0))
    raw = (mapped(x) - layer.bias).detach()
    crossbar.tune(mapped, x)
    residual = (mapped(x) - layer(x)).detach()
    assert float(residual.mean(0).abs().max()) < 1e-9
    assert float((residual * raw).mean(0).abs().max()) < 1e-9
    assert float(residual.norm()) < float((raw + layer.bias - layer(x)).detach().norm())


def test_batch_norm_is_estimated_anew() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).double()
    x = tensor(50, 2, 6, 6)
    net.train()(x)
    mapped: Any = convert(net, None, IDEAL.but(devices__d2d=0.5, sense__gain_error=0.5))
    crossbar.reestimate_batch_norm(mapped, [x[:25], x[25:]])
    between = mapped[0](x)
    halves = torch.stack([part.transpose(0, 1).flatten(1).mean(1) for part in between.split(25)])
    torch.testing.assert_close(mapped[1].running_mean, halves.mean(0), rtol=1e-9, atol=1e-9)
    spread = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in between.split(25)])
    torch.testing.assert_close(mapped[1].running_var, spread.mean(0), rtol=1e-9, atol=1e-9)
    assert not mapped[1].training
    assert mapped[1].momentum == net[1].momentum
    with pytest.raises(ParameterError, match="no batch norm"):
        crossbar.reestimate_batch_norm(convert(nn.Linear(3, 3), None, IDEAL), tensor(2, 3))


def test_ranges_come_from_the_floating_point_network() -> None:
    """Hidden states, attention and both uses of a shared layer: every matrix has its own inputs' percentile."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 3, batch_first=True).double().eval()
    x = tensor(4, 6, 12)
    mapped: Any = convert(attention, None, IDEAL.but(dac__percentile=90.0), calibration=(x, 2 * x, 3 * x))
    for name, scale in (("q", 1), ("k", 2), ("v", 3)):
        expected = (scale * x).abs().flatten().sort().values[round(0.9 * x.numel()) - 1]
        assert float(getattr(mapped, name).input_range) == pytest.approx(float(expected), rel=1e-9)
    seen: list[torch.Tensor] = []
    reference = copy.deepcopy(attention)
    weight, bias = reference.out_proj.weight, reference.out_proj.bias
    out = reference(x, 2 * x, 3 * x)[0]
    seen.append(torch.linalg.lstsq(weight.detach(), (out - bias).detach().flatten(0, 1).T).solution.T)
    expected = seen[0].abs().flatten().sort().values[round(0.9 * x.numel()) - 1]
    assert float(mapped.o.input_range) == pytest.approx(float(expected), rel=1e-6)


def test_calibrated_converters_lose_little() -> None:
    net = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 5)).double()
    x = tensor(200, 30)
    config = IDEAL.but(adc__bits=8, dac__bits=8)
    blind, seeing = convert(net, None, config), convert(net, None, config, calibration=x)
    with torch.no_grad():
        errors = [float((m(x) - net(x)).norm() / net(x).norm()) for m in (blind, seeing)]
    assert errors[1] < 0.03  # steps of 1 / 127 of the largest current, two tiles and two layers
    assert errors[1] < 0.5 * errors[0]
