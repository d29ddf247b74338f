"""The fused product for GPUs against the same network in torch: compiled where there is a GPU, else interpreted."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from crossbar import Config, TiledMatrix, Wires, convert, gpu_oracle, gpu_product
from devicelab import VTEAM, Lut, parameter_set

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernel is imported, which is below

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(gpu_product.kernels() is None, reason="triton is not installed"),
]

DEVICE = torch.device("cuda" if ON_GPU else "cpu")
BASE = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4).but(adc__bits=6, dac__bits=7)
SAME = 1e-5  # float32 sums in another order, of numbers about 1
FEW = 4e-3  # share of partial sums that lie so near the edge of a step that rounding decides


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5), 1.0)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices on the CPU take the kernel too, where they would on a GPU."""
    suits = gpu_product.suits

    class There:
        device, dtype = torch.device("cuda"), torch.float32

    if not ON_GPU:
        monkeypatch.setattr(gpu_product, "suits", lambda chip, x: x.dtype == torch.float32 and suits(chip, There()))  # type: ignore[arg-type]


def in_torch(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """In float64, where nothing but torch computes."""
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(gpu_product, "suits", lambda chip, x: False)
        found: torch.Tensor = net.double()(x.double())
    net.float()
    return found


def nearly(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal, but where a partial sum was rounded to the other side."""
    off = (found - expected).abs() > SAME * expected.abs().max()
    assert float(off.float().mean()) <= FEW
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max())


LAYERS = [
    (nn.Conv2d(4, 12, 3, padding=1, groups=2), (2, 4, 9, 9)),
    (nn.Conv2d(3, 5, 3, dilation=2, stride=2), (2, 3, 9, 8)),
    (nn.Conv1d(5, 6, 4), (2, 5, 20)),
    (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 5)),
    (nn.Linear(50, 21), (37, 50)),
    (nn.Linear(300, 70), (3, 300)),
]


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
@pytest.mark.parametrize("size", [(16, 16), (7, 5), (64, 64)], ids=str)
def test_layers(layer: nn.Module, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    x = tensor(*shape)
    net = convert(layer.to(DEVICE), None, BASE.but(rows=size[0], columns=size[1]), calibration=x)
    with torch.no_grad():
        nearly(net(x), in_torch(net, x).float())


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"subtraction": "digital"},
        {"scheme": "two columns"},
        {"scheme": "reference column", "subtraction": "digital"},
        {"scheme": "offset"},
        {"scheme": "offset", "slices": 2, "slice_bits": 3},
        {"partial_sums": "analog"},
        {"permute": True, "adc__per": "column", "sense__gain": 0.1, "sense__offset": 0.01},
        {"adc__per": "tile", "dac__bits": None},
        {"slices": 2, "slice_bits": 3, "sense__saturation": 0.05},
        {"wires": Wires(2.0, 2.0, 2.0, 2.0)},
        {"adc__bits": None, "sense__offset": 0.01, "sense__saturation": 0.03},
    ],
    ids=str,
)
def test_options(options: dict[str, Any], calibrated: bool) -> None:
    net, x = nn.Conv2d(4, 12, 3, groups=2).to(DEVICE), tensor(2, 4, 7, 7)
    mapped = convert(net, None, BASE.but(**options), calibration=x if calibrated else None)
    with torch.no_grad():
        nearly(mapped(x), in_torch(mapped, x).float())


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("calibrated", [True, False])
def test_inputs_beyond_the_calibrated_range_and_inputs_of_nothing(calibrated: bool) -> None:
    """Clipped at both ends; images that are dark give 0 and not 0 / 0, beside others that are not."""
    net, x = nn.Conv2d(4, 5, 3, bias=False).to(DEVICE), tensor(3, 4, 7, 7)
    mapped = convert(net, None, BASE, calibration=0.3 * x if calibrated else None)
    x[1] = 0.0
    with torch.no_grad():
        nearly(mapped(x), in_torch(mapped, x).float())
        assert not mapped(x)[1].any()
        assert not mapped(torch.zeros_like(x)).any()


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("law", ["polynomial", "table", "pulse-width"])
@pytest.mark.parametrize("bits", [6, None])
def test_cells_of_a_table(law: str, bits: int | None, lut: Lut) -> None:
    """Smooth ones as polynomials, others piece by piece, and pulses of either sign."""
    encoding: Any = "pulse-width" if law == "pulse-width" else "amplitude"
    config = Config(rows=16, columns=16, v_read=0.7).but(adc__bits=bits, dac__bits=7, dac__encoding=encoding)
    net, x = (
        nn.Sequential(nn.Conv2d(4, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 9)).to(DEVICE),
        tensor(2, 4, 7, 7),
    )
    if law == "polynomial":
        lut = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 1.0, tolerance=1e-3)
    mapped = convert(net, lut, config, calibration=x)
    assert gpu_product.suits(mapped[0].matrix, x)
    assert (mapped[0].matrix._smooth is None) == (law != "polynomial")
    with torch.no_grad():
        nearly(mapped(x), in_torch(mapped, x).float())


NOISY = BASE.but(devices__read_noise=0.05, devices__bandwidth=1e6)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("options", [{}, {"partial_sums": "analog", "subtraction": "digital"}, {"adc__bits": None}])
def test_noise_is_the_numbers_of_philox(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own draw, and the same draw in integer arithmetic of torch."""
    net, x = nn.Conv2d(4, 12, 3, groups=2).to(DEVICE), tensor(2, 4, 7, 7)
    mapped = convert(net, None, NOISY.but(**options), calibration=x)
    with torch.no_grad():
        gpu_product._READS.clear()
        mapped.matrix.reads = 0
        found = [mapped(x), mapped(x)]
        assert not torch.equal(*found)
        gpu_product._READS.clear()
        mapped.matrix.reads = 0
        assert torch.equal(mapped(x), found[0])  # bit for bit
        gpu_product._READS.clear()
        mapped.matrix.reads = 0
        monkeypatch.setattr(gpu_product, "tiled_gpu", gpu_oracle.in_torch)
        for one in found:
            nearly(one, mapped(x))


def test_noise_is_normal_and_independent() -> None:
    """The known answer of Philox 4x32-10 for counter and key 0, then moments of a million numbers."""
    noise = torch.tensor([0, 0], device=DEVICE)
    # Random123's file of known answers: 6627e8d5 e169c58d bc57ac4c 9b00dbd8
    first = torch.tensor([0x6627E8D5 >> 8, 0xE169C58D >> 8], dtype=torch.float64) * 0.5**24
    expected = torch.sqrt(-2 * torch.log(first[0] + 0.5**24)) * torch.cos(2 * torch.pi * first[1])
    zero = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    assert gpu_oracle.normal(noise, zero, zero).item() == pytest.approx(expected.item(), abs=1e-6)
    z = gpu_oracle.normal(noise, torch.arange(4, device=DEVICE).view(4, 1), torch.arange(250_000, device=DEVICE))
    assert abs(z.mean().item()) < 4e-3  # four standard errors
    assert z.var().item() == pytest.approx(1.0, abs=6e-3)
    assert (z**4).mean().item() == pytest.approx(3.0, abs=4e-2)
    corr = torch.corrcoef(z) - torch.eye(4, device=DEVICE)
    assert corr.abs().max().item() < 1e-2
    other = gpu_oracle.normal(torch.tensor([0, 1], device=DEVICE), zero, torch.arange(1000, device=DEVICE))
    assert abs(float(np.corrcoef(other.cpu(), z[0, :1000].cpu())[0, 1])) < 0.13


def test_the_rarest_number_is_one() -> None:
    """Element 14883995 draws 0x00000093, whose upper 24 bits are 0 and have no logarithm; the largest element too."""
    from normal_kernel import numbers

    noise = torch.tensor([0, 0], device=DEVICE)
    element = torch.tensor([0, 1, 14883995, 2**31 - 1], dtype=torch.int32, device=DEVICE)
    out = torch.empty(4, device=DEVICE)
    numbers[(1,)](noise, element, out, N=4)
    expected = gpu_oracle.normal(noise, torch.zeros_like(noise[:1]), element.long())
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    assert 0 < out[2].abs().item() <= (2 * 24 * np.log(2)) ** 0.5


WIDE = 1e13  # Hz, so that what electrons and heat do is seen


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    ("read_noise", "bandwidth", "size"), [(0.2, 1e6, 1.0), (0.0, WIDE, 1.0), (0.0, WIDE, 0.05)],
    ids=["devices", "shot noise", "heat"],
)  # fmt: skip
def test_noise_has_the_variance_of_the_reads_in_torch(read_noise: float, bandwidth: float, size: float) -> None:
    """Against draws of numpy, by which the other path makes the same noise; half the lines are not driven."""
    config = NOISY.but(adc__bits=None, devices__read_noise=read_noise, devices__bandwidth=bandwidth)
    x = tensor(1, 20, seed=1) * (torch.arange(20, device=DEVICE) % 2)
    matrix = TiledMatrix(tensor(3, 20), None, config.but(dac__range=float(x.abs().max())))
    x = (size * x).expand(2000, 20)
    with torch.no_grad():
        here = matrix(x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu_product, "suits", lambda chip, x: False)
            there = matrix(x)
    torch.testing.assert_close(here.std(0), there.std(0), rtol=0.1, atol=0)  # of 2000: 1.6 % each
    assert bool(((here.mean(0) - there.mean(0)).abs() < 6 * there.std(0) / 2000**0.5).all())


@pytest.mark.usefixtures("fused")
def test_noise_differs_from_layer_to_layer_and_from_seed_to_seed() -> None:
    one, x = nn.Linear(20, 5).to(DEVICE), tensor(4, 20)

    def outputs(seed: int) -> list[torch.Tensor]:
        """Of two layers with the same weights."""
        mapped = convert(nn.ModuleList([one, copy.deepcopy(one)]), None, NOISY.but(seed=seed, adc__bits=None))
        with torch.no_grad():
            return [layer(x) for layer in mapped]

    first, second = outputs(1)
    assert not torch.isclose(first, second, rtol=1e-4).any()
    again, _ = outputs(1)
    assert torch.equal(first, again)
    other, _ = outputs(2)
    assert not torch.isclose(first, other, rtol=1e-4).any()


@pytest.mark.usefixtures("fused")
def test_gradients_go_straight_through_converters(lut: Lut) -> None:
    net, x = nn.Linear(20, 5).to(DEVICE), tensor(4, 20)
    config = Config(rows=16, columns=16, v_read=0.7).but(dac__bits=7, adc__bits=6)
    mapped = convert(net, lut, config, calibration=x).train()

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        mapped.to(dtype)  # in float64 by torch alone
        y = x.to(dtype, copy=True).requires_grad_()
        return list(torch.autograd.grad(mapped(y).sum(), [y, mapped.weight]))

    for a, b in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5 * b.abs().max().item())


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("config", [BASE, NOISY], ids=["plain", "noisy"])
def test_networks_compile_as_one_graph(config: Config) -> None:
    """Without a break: nothing on the way waits for a value."""
    net, x = (
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(150, 9)).to(DEVICE),
        tensor(2, 4, 7, 7),
    )
    mapped = convert(net, None, config, calibration=x)
    torch._dynamo.reset()
    traced = torch.compile(mapped, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for layer in (mapped[0], mapped[3]):
            gpu_product._next_read(layer.matrix, DEVICE)
        counters = [gpu_product._READS[layer.matrix] for layer in (mapped[0], mapped[3])]
        begun = [counter.clone() for counter in counters]
        expected = mapped(x)
        for counter, start in zip(counters, begun, strict=True):
            counter.copy_(start)
        nearly(traced(x), expected)


@pytest.mark.usefixtures("fused")
def test_the_operator_is_a_good_citizen_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, fake tensors, gradients and tracing, by torch's own check."""
    given: list[Any] = []
    operator = gpu_product.tiled_gpu
    monkeypatch.setattr(gpu_product, "tiled_gpu", lambda *a: given.append(a) or operator(*a))
    net, x = nn.Conv2d(2, 3, 2).to(DEVICE), tensor(2, 2, 4, 4)
    convert(net, None, NOISY.but(scheme="offset"), calibration=x)(x)
    arguments = [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in given[-1]]
    torch.library.opcheck(operator, tuple(arguments))
    for k in gpu_product.DIFFERENTIABLE:
        arguments[k] = arguments[k].requires_grad_()
    torch.library.opcheck(operator, tuple(arguments))


def test_it_is_what_runs_on_a_gpu_only() -> None:
    matrix = TiledMatrix(tensor(7, 20), None, BASE)
    assert gpu_product.suits(matrix, tensor(3, 20)) == ON_GPU
    assert not gpu_product.suits(matrix, tensor(3, 20).double())
    assert not gpu_product.suits(TiledMatrix(tensor(7, 20), None, BASE.but(adc__law="log")), tensor(3, 20))
