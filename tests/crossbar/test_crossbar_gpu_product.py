"""The fused product for GPUs against the same network in torch: compiled where there is a GPU, else interpreted."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crossbar import Config, TiledMatrix, Wires, convert, gpu_oracle, gpu_product
from crossbar.windows import Image, Vectors, Window
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


@pytest.fixture(scope="module")
def smooth() -> Lut:
    """One that polynomials stand for."""
    return Lut.from_model(parameter_set("vteam_pt_hf_ti"), 1.0, tolerance=1e-3)


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


def nearly(found: torch.Tensor, expected: torch.Tensor, within: float = SAME, few: float = FEW) -> None:
    """Equal, but where a partial sum was rounded to the other side."""
    off = (found - expected).abs() > within * expected.abs().max()
    assert float(off.float().mean()) <= few
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
        {"adc__bits": None, "sense__offset": 0.01, "sense__gain": 0.1, "subtraction": "digital"},
        {"adc__bits": None},
        {"adc__bits": None, "dac__bits": 15, "slices": 2, "slice_bits": 3, "scheme": "offset"},
        {"adc__bits": 24, "dac__bits": 24},
        {"adc__law": "log"},
        {"adc__law": "log", "adc__decades": 1.5, "adc__per": "column", "subtraction": "digital", "sense__gain": 0.1},
        {"adc__law": "log", "adc__bits": 2, "sense__offset": 0.01, "sense__saturation": 0.1, "partial_sums": "analog"},
        {"dac__encoding": "bit-serial"},
        {"dac__encoding": "bit-serial", "adc__bits": None},
        {"dac__encoding": "bit-serial", "dac__slice_bits": 4, "scheme": "offset", "partial_sums": "analog"},
        {"dac__encoding": "bit-serial", "dac__slice_bits": 10, "dac__bits": 12, "subtraction": "digital"},
        {
            "dac__encoding": "bit-serial",
            "dac__bits": 2,
            "permute": True,
            "sense__offset": 0.01,
            "slices": 2,
            "slice_bits": 2,
        },
        {"dac__encoding": "bit-serial", "dac__slice_bits": 2, "adc__law": "log", "sense__saturation": 0.05},
        {"dac__encoding": "bit-serial", "adc__bits": None, "sense__saturation": 0.05, "scheme": "offset"},
    ],
    ids=str,
)
def test_options(options: dict[str, Any]) -> None:
    net, x = nn.Conv2d(4, 12, 3, groups=2).to(DEVICE), tensor(2, 4, 7, 7)
    mapped = convert(net, None, BASE.but(**options), calibration=x)
    assert taken(mapped, x)
    with torch.no_grad():
        nearly(mapped(x), in_torch(mapped, x).float())


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    "options",
    [{}, {"scheme": "offset"}, {"adc__law": "log", "dac__encoding": "bit-serial"}, {"adc__bits": None}],
    ids=str,
)
def test_without_calibration_every_image_has_its_own_scale(options: dict[str, Any]) -> None:
    net, x = nn.Conv2d(4, 12, 3, groups=2).to(DEVICE), tensor(3, 4, 5, 5) * tensor(3, 1, 1, 1, seed=1)
    x[1] = 0
    mapped = convert(net, None, BASE.but(**options))
    assert taken(mapped, x)
    with torch.no_grad():
        nearly(mapped(x), in_torch(mapped, x).float())


def taken(net: nn.Module, x: torch.Tensor) -> bool:
    """Whether the fused product computes every matrix of the network."""
    matrices = [m for m in net.modules() if isinstance(m, TiledMatrix)]
    return bool(matrices) and all(gpu_product.suits(m, x) for m in matrices)


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
@pytest.mark.parametrize("law", ["polynomial", "table"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adc__bits": None},
        {"dac__bits": None},
        {"dac__encoding": "pulse-width"},
        {"dac__encoding": "pulse-width", "dac__bits": None, "adc__bits": None, "scheme": "offset"},
        {"dac__encoding": "bit-serial"},
        {"dac__encoding": "bit-serial", "adc__bits": None},
        {"dac__encoding": "bit-serial", "dac__slice_bits": 2, "scheme": "offset", "adc__law": "log"},
        {"dac__encoding": "bit-serial", "dac__bits": 4, "dac__slice_bits": 4, "partial_sums": "analog"},
        {"scheme": "offset", "adc__law": "log"},
    ],
    ids=str,
)
def test_cells_of_a_table(law: str, options: dict[str, Any], lut: Lut, smooth: Lut) -> None:
    """Smooth ones as polynomials, others piece by piece, pulses of either sign, and digits."""
    config = Config(rows=16, columns=16, v_read=0.7).but(adc__bits=6, dac__bits=7).but(**options)
    net, x = (
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(45, 9)).to(DEVICE),
        tensor(4, 2, 5, 5),
    )
    mapped = convert(net, smooth if law == "polynomial" else lut, config, calibration=x)
    assert taken(mapped, x)
    assert (mapped[0].matrix._smooth is None) == (law != "polynomial" or config.dac.encoding == "pulse-width")
    with torch.no_grad():
        nearly(mapped(x), in_torch(mapped, x).float())


NOISY = BASE.but(devices__read_noise=0.05, devices__bandwidth=1e6)


def again(net: nn.Module) -> None:
    """Reads are counted from the first."""
    gpu_product._READS.clear()
    for matrix in (m for m in net.modules() if isinstance(m, TiledMatrix)):
        matrix.reads = 0


NOISES = [
    {},
    {"partial_sums": "analog", "subtraction": "digital"},
    {"adc__bits": None},
    {"devices__bandwidth": 0.0, "adc__law": "log"},
    {"devices__read_noise": 0.0, "devices__bandwidth": 1e14, "scheme": "offset"},
    {"devices__bandwidth": 1e13, "dac__bits": None, "slices": 2, "slice_bits": 2},
    {"dac__encoding": "bit-serial", "devices__bandwidth": 1e13},
    {"dac__encoding": "bit-serial", "devices__read_noise": 0.0, "devices__bandwidth": 1e14},
    {"dac__encoding": "bit-serial", "dac__slice_bits": 2, "devices__bandwidth": 1e13, "adc__bits": None},
    {"dac__encoding": "bit-serial", "dac__slice_bits": 3, "partial_sums": "analog", "scheme": "offset"},
]
SIGMA = 5e-4
"""Error of the noise's standard deviation, relative: its variance is a product of halves."""


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    ("law", "options"), [("ohmic", o) for o in NOISES] + [("table", NOISES[k]) for k in (4, 6, 8)], ids=str
)
def test_noise_is_the_numbers_of_philox(
    options: dict[str, Any], law: str, lut: Lut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own draw, and the same draw in integer arithmetic of torch."""
    net, x = nn.Conv2d(4, 6, 3, groups=2).to(DEVICE), tensor(2, 4, 6, 6)
    config = NOISY.but(**options)
    if law == "table":
        config = config.but(nonlinear=True, v_read=0.7, g_low=None, g_high=None)
    mapped = convert(net, lut if law == "table" else None, config, calibration=x)
    with torch.no_grad():
        again(mapped)
        found = [mapped(x), mapped(x)]
        size = float((found[0] - found[1]).abs().max() / found[0].abs().max())
        assert size > 0.01  # so that other numbers would be seen
        again(mapped)
        assert torch.equal(mapped(x), found[0])  # bit for bit
        again(mapped)
        monkeypatch.setattr(gpu_product, "tiled_gpu", gpu_oracle.in_torch)
        for one in found:
            # errors of noise are a thousandth of a step or so, and an output is a sum of up to 50 codes
            nearly(one, mapped(x), within=SAME + SIGMA * size, few=0.03)


@pytest.mark.usefixtures("fused")
def test_noise_and_sums_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = NOISY.but(dac__encoding="bit-serial", dac__bits=4, rows=20)
    matrix, x = TiledMatrix(tensor(34, 30), None, config), tensor(40, 30, seed=1)
    with torch.no_grad():
        expected = matrix(x)
        for vectors, columns, rows, digits in ((16, 16, 16, 2), (64, 32, 32, 1), (32, 64, 16, 3)):
            each = gpu_product.Launch(vectors, columns, rows, 4, 2, digits)
            monkeypatch.setattr(gpu_product, "LAUNCHES", dict.fromkeys(gpu_product.LAUNCHES, each))
            again(matrix)
            nearly(matrix(x), expected)


def test_normal_numbers_are_those_of_the_published_philox() -> None:
    """The known answer of Philox 4x32-10 for counter and key 0, which makes four numbers; then moments of a million."""
    noise = torch.tensor([0, 0], device=DEVICE)
    # Random123's file of known answers
    words = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], dtype=np.uint32)
    at = torch.arange(2, device=DEVICE)
    zero = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    found = gpu_oracle.normal(noise, zero, 8 * at.view(2, 1), at).cpu().numpy()  # vectors 0 and 8, columns 0 and 1
    for row, (a, b) in zip(found, words.reshape(2, 2), strict=True):
        size = np.sqrt(-2 * np.log(((a >> 8) + 1) / 2**24))
        angle = 2 * np.pi * ((b >> 6) + 0.5) / 2**26 - np.pi / 4  # of 26 bits, turned by half a quadrant
        np.testing.assert_allclose(row, size * np.array([np.cos(angle), np.sin(angle)]), atol=2e-6)
    vector, column = torch.arange(1000, device=DEVICE).view(-1, 1), torch.arange(250, device=DEVICE)
    z = gpu_oracle.normal(noise, torch.arange(4, device=DEVICE).view(4, 1, 1), vector, column)
    assert abs(z.mean().item()) < 4e-3  # four standard errors
    assert z.var().item() == pytest.approx(1.0, abs=6e-3)
    assert (z**4).mean().item() == pytest.approx(3.0, abs=4e-2)
    assert z.unique().numel() > 0.98 * z.numel()  # no number twice, but by chance
    # neighbours of one call, other calls and other stages: of 250,000 or 125,000 pairs
    shifted = [(z[:, :-8], z[:, 8:]), (z[..., :-1], z[..., 1:]), (z[:, :-1], z[:, 1:]), (z[:-1], z[1:])]
    for one, other in shifted:
        pair = torch.stack([one.flatten(), other.flatten()])
        for a in (pair, pair.square()):
            assert abs(torch.corrcoef(a)[0, 1].item()) < 5e-3
    other = gpu_oracle.normal(torch.tensor([0, 1], device=DEVICE), zero, vector[:4], column)
    assert abs(float(np.corrcoef(other.flatten().cpu(), z[0, :4].flatten().cpu())[0, 1])) < 0.13


def test_the_rarest_number_is_one() -> None:
    """Call 14883995 draws 0x00000093, whose upper 24 bits are 0 and have no logarithm; the last vectors too."""
    from normal_kernel import numbers

    noise = torch.tensor([0, 0], device=DEVICE)
    call = 14883995
    for first, column in ((call // 8 * 16, 0), (2**31 - 32, 64)):
        out = torch.empty(32, 32, device=DEVICE)
        numbers[(1,)](noise, 0, first, column, out, BM=32, BN=32)
        vector = torch.arange(first, first + 32, device=DEVICE).view(-1, 1)
        expected = gpu_oracle.normal(noise, 0 * vector, vector, torch.arange(column, column + 32, device=DEVICE))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
        if column == 0:
            assert 0 < out[call % 8, :2].norm().item() == pytest.approx((2 * 24 * np.log(2)) ** 0.5)


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
    repeated, _ = outputs(1)
    assert torch.equal(first, repeated)
    other, _ = outputs(2)
    assert not torch.isclose(first, other, rtol=1e-4).any()


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adc__law": "log", "scheme": "offset"},
        {"dac__encoding": "bit-serial"},
        {"dac__encoding": "bit-serial", "dac__slice_bits": 2, "nonlinear": False, "g_low": 1e-5, "g_high": 1e-4},
        {"sense__offset": 0.01, "sense__gain": 0.1, "subtraction": "digital"},
    ],
    ids=str,
)
def test_gradients_go_straight_through_converters(options: dict[str, Any], lut: Lut) -> None:
    net, x = nn.Linear(20, 5).to(DEVICE), tensor(4, 20)
    config = Config(rows=16, columns=16, v_read=0.7).but(dac__bits=7, adc__bits=6).but(**options)
    mapped = convert(net, lut if config.nonlinear else None, config, calibration=x).train()
    assert taken(mapped, x)

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        mapped.to(dtype)  # in float64 by torch alone
        y = x.to(dtype, copy=True).requires_grad_()
        return list(torch.autograd.grad(mapped(y).sum(), [y, mapped.weight]))

    for a, b in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5 * b.abs().max().item())


@pytest.mark.usefixtures("fused")
def test_gradients_keep_no_partial_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image's positions and tiles, which are many times what goes in and comes out."""
    given: list[Any] = []
    operator = gpu_product.tiled_gpu
    monkeypatch.setattr(gpu_product, "tiled_gpu", lambda *a: given.append(a) or operator(*a))
    x = tensor(3, 2, 12, 12)
    convert(nn.Conv2d(2, 16, 3).to(DEVICE), None, BASE.but(rows=4), calibration=x)(x)
    sizes = [0]

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = call(*args, **(kwargs or {}))
            sizes.extend(a.numel() for a in tree_leaves(found) if isinstance(a, torch.Tensor))
            return found

    with Watched():
        gpu_oracle.in_torch(*given[-1], ideal=True)
    vectors, tiles = 3 * 10 * 10, 5  # 18 inputs, 4 a tile
    assert max(sizes) < vectors * tiles * 16 / 2


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("options", [{"dac__bits": 12}, {"dac__bits": 20}, {"sense__gain": 0.01}], ids=str)
def test_products_are_as_exact_as_float32(options: dict[str, Any]) -> None:
    """Without converters of currents: numbers of a DAC in one half, in two, and inputs in two halves.

    What halves leave out is 2^-22 of a product, so of sums of 500 products of either sign about 2^-22 of their norm.
    """
    config = Config(rows=64, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4).but(dac__range=1.0)
    weight, x = tensor(30, 500), tensor(40, 500, seed=1).clamp(-1, 1)
    x[:, ::7] *= 1e-3
    if bits := options.get("dac__bits"):  # what the DAC makes is not in doubt
        x = (x.double() * (2 ** (bits - 1) - 1)).round().div(2 ** (bits - 1) - 1).float()
    matrix = TiledMatrix(weight, None, config.but(**options))
    assert gpu_product.suits(matrix, x)
    with torch.no_grad():
        found, exact = matrix(x).double(), in_torch(matrix, x)
        assert matrix.g.dtype == torch.float32
    norm = x.double().norm(dim=1, keepdim=True) * weight.double().norm(dim=1)
    assert float(((found - exact).abs() / norm).max()) < 5e-7
    assert float((found - exact).norm() / norm.norm()) < 1e-7


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    "options",
    [{}, {"adc__law": "log"}, {"dac__encoding": "bit-serial"}, {"dac__bits": None}, {"adc__bits": 24}],
    ids=str,
)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_stays_so(options: dict[str, Any], bad: float) -> None:
    """Where torch gives none, neither does the kernel, and nowhere else."""
    x = tensor(6, 20, seed=1)
    x[2, 3] = bad
    for drive in (None, 2.0):
        matrix = TiledMatrix(tensor(7, 20), None, BASE.but(dac__range=drive, **options))
        with torch.no_grad():
            found, expected = matrix(x), in_torch(matrix, x)
        nan = expected.isnan()
        assert bool(torch.equal(found.isnan(), nan))
        assert bool(nan[2].all()) == (bad != torch.inf or drive is None)
        nearly(found[~nan], expected[~nan].float())


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


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("cells", ["linear", "table"])
@pytest.mark.parametrize("config", [BASE, NOISY], ids=["plain", "noisy"])
def test_what_is_kept_from_inference_mode_serves_training(config: Config, cells: str, lut: Lut) -> None:
    """What a matrix keeps must be saved for gradients, and reads counted, after a first pass in inference mode."""
    x = tensor(2, 3, 6, 5)  # a shape of its own: places of windows are kept too
    device = lut if cells == "table" else None
    mapped = convert(nn.Conv2d(3, 4, 3).to(DEVICE), device, config.but(nonlinear=device is not None), calibration=x)
    with torch.inference_mode():
        first = mapped.eval()(x)
    driven = x.clone().requires_grad_()
    again = mapped(driven)
    assert config is NOISY or torch.equal(first, again)
    again.sum().backward()
    assert driven.grad is not None
    assert bool(driven.grad.any())
    assert not mapped.train()(x).isnan().any()


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("config", [BASE, NOISY.but(scheme="offset")], ids=["plain", "noisy"])
def test_no_images_and_no_vectors(config: Config) -> None:
    for layer, x in ((nn.Conv2d(3, 4, 3), tensor(2, 3, 6, 6)), (nn.Linear(20, 5), tensor(2, 20))):
        mapped = convert(layer.to(DEVICE), None, config, calibration=x)
        for one in (mapped, convert(layer, None, config)):
            assert one(x[:0]).shape == one(x)[:0].shape


def test_it_is_what_runs_on_a_gpu_only() -> None:
    matrix = TiledMatrix(tensor(7, 20), None, BASE)
    assert gpu_product.suits(matrix, tensor(3, 20)) == ON_GPU
    assert not gpu_product.suits(matrix, tensor(3, 20).double())


@pytest.mark.usefixtures("fused")
def test_what_is_left_to_torch() -> None:
    x = tensor(3, 20)
    plain = TiledMatrix(tensor(7, 20), None, BASE.but(adc__bits=None, dac__bits=None))
    assert not gpu_product.suits(plain, x)  # one product of torch
    assert not gpu_product.suits(TiledMatrix(tensor(7, 20), None, BASE), x.double())
    wide = BASE.but(dac__encoding="bit-serial", dac__slice_bits=11, dac__bits=12)
    assert not gpu_product.suits(TiledMatrix(tensor(7, 20), None, wide), x)  # digits that no half holds
    watched = TiledMatrix(tensor(7, 20), None, BASE)
    watched.watching = True
    assert not gpu_product.suits(watched, x)


@pytest.mark.parametrize(
    "source", [Vectors(tensor(3, 20)), Image(tensor(3, 4, 5, 6), Window((2, 2), (1, 1), (1, 1)), 2)]
)
def test_the_largest_input_is_found_in_one_pass(source: Vectors | Image) -> None:
    assert torch.equal(gpu_product.largest(source), source.x.abs().flatten(1).amax(1))
    source.x[1].view(-1)[2] = torch.nan
    assert gpu_product.largest(source).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("features", [1, 2, 5, 12])
@pytest.mark.parametrize("vectors", [1, 32, 33, 10_000])
def test_blocks_fit_the_chip_and_cover_the_tile(vectors: int, features: int) -> None:
    """Powers of two of 16 or more, as tensor cores take them, and copies within shared memory."""
    for columns, rows, noise, digits in (
        (1, 1, 0, False),
        (100, 16, 1, True),
        (1000, 64, 2, False),
        (64, 512, 0, True),
    ):
        on = gpu_product.launch(vectors, columns, rows, features, noise=noise, digits=digits)
        for size in (on.vectors, on.columns, on.rows):
            assert size >= 16
            assert size.bit_count() == 1
        assert gpu_product.shared(on, features, noise) <= gpu_product.SHARED
        assert on.columns < 2 * columns or on.columns == 16  # no more than a block asks for
        assert on.stages >= 1


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("options", [{}, {"dac__bits": None}, {"adc__bits": None, "scheme": "offset"}], ids=str)
@pytest.mark.parametrize("layer", [nn.Linear(12, 3, bias=False), nn.Conv2d(3, 2, 2, bias=False)], ids=str)
def test_inputs_without_a_reciprocal(layer: nn.Module, options: dict[str, Any]) -> None:
    """The inputs of the smallest float32 numbers, down to where nothing is left of them; and their gradients."""
    net = convert(layer, None, BASE.but(**options)).to(DEVICE)
    x = tensor(4, 12) if isinstance(layer, nn.Linear) else tensor(4, 3, 2, 2)
    usual = net(x).detach()
    for factor in (2.0**-124, 2.0**-130, 2.0**-148):
        small = (factor * x).requires_grad_()
        found = net(small)
        assert bool(((found - factor * usual).abs() <= 1e-3 * factor * usual.abs().max() + 2.0**-126).all())
        found.sum().backward()
        assert small.grad is not None
        assert bool(small.grad.isfinite().all())
