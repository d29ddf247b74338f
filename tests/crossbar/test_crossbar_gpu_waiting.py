"""No layer waits for the device: traced where tensors have no values, and watched on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crossbar import Config, TiledMatrix, Wires, convert, gpu_product
from crossbar.layers import ArrayLayer
from devicelab import VTEAM, Lut, parameter_set

BASE = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4)
CONVERTERS = BASE.but(adc__bits=6, dac__bits=7)
TABLE = Config(rows=16, columns=16, v_read=0.7)
CORNERED = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)


def places(*found: Any) -> set[str]:
    return {a.device.type for a in tree_leaves(found) if isinstance(a, Tensor)}


class NoCopies(TorchDispatchMode):
    """Raises where a tensor goes from the host to the device or back."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default) and len(places(args, out)) > 1:
            raise AssertionError(f"{func} between {places(args, out)}")
        return out


class NoLists(TorchFunctionMode):
    """Raises where a tensor on the device is made from numbers of the host."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and places(out) != {"cpu"}:
            given = args[1] if func is Tensor.new_tensor else args[0]
            if not isinstance(given, Tensor) or given.device != out.device:
                raise AssertionError(f"{func.__name__} of {given}")
        return out


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Tensors without values take the way that those on a GPU take."""
    suits = gpu_product.suits

    class There:
        device, dtype = torch.device("cuda"), torch.float32

    def meta(chip: TiledMatrix, x: Any) -> bool:
        return x.is_meta and x.dtype == torch.float32 and suits(chip, There())  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_product, "suits", meta)
        patch.setattr(gpu_product, "kernels", lambda: gpu_product)
        patch.setattr(torch, "autocast", lambda *given, **options: nullcontext())  # knows no meta device
        yield


def without_values(net: nn.Module) -> nn.Module:
    """The network on the meta device, its tables too, which a GPU gets when they are first needed."""
    tables = {name: m._bases for name, m in net.named_modules() if isinstance(m, TiledMatrix)}
    net = net.to("meta")
    for layer in net.modules():
        if isinstance(layer, ArrayLayer):
            layer.digital.to("meta")  # `cuda()` moves shared parameters in place
    for name, bases in tables.items():
        for (_, reach), cells in list(bases.items()):
            moved = copy.copy(cells)
            moved.__dict__ |= {k: v.to("meta") for k, v in vars(cells).items() if isinstance(v, Tensor)}
            net.get_submodule(name)._bases[torch.device("meta"), reach] = moved  # type: ignore[index, union-attr]
    return net


def waits_for_nothing(net: nn.Module, *x: Tensor) -> None:
    with torch.no_grad(), as_on_a_gpu():
        net(*x)
        net, given = without_values(net), [a.to("meta") for a in x]
        net(*given)  # what is made once is made here
        with NoCopies(), NoLists():
            assert tree_leaves(net(*given))[0].is_meta


def small() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(150, 9)), torch.randn(2, 4, 7, 7)


OPTIONS = {
    "plain": BASE,
    "converters": CONVERTERS,
    "logarithmic": CONVERTERS.but(adc__law="log"),
    "noise": CONVERTERS.but(devices__read_noise=0.1),
    "noise in torch": CONVERTERS.but(devices__read_noise=0.1, adc__law="log"),
    "offset": BASE.but(scheme="offset"),
    "offset, converters": CONVERTERS.but(scheme="offset"),
    "slices": BASE.but(slices=2, slice_bits=3),
    "slices apart": CONVERTERS.but(slices=2, slice_bits=3, subtraction="digital"),
    "bit-serial": CONVERTERS.but(dac__encoding="bit-serial"),
    "sense": CONVERTERS.but(sense__gain=0.1, sense__offset=0.01, sense__saturation=0.1),
    "permuted": CONVERTERS.but(permute=True, partial_sums="analog"),
    "lines": CONVERTERS.but(wires=Wires(1.0, 1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS.keys())
def test_options(config: Config, calibrated: bool) -> None:
    net, x = small()
    waits_for_nothing(convert(net, None, config, calibration=x if calibrated else None), x)


@pytest.mark.parametrize("law", ["smooth", "cornered"])
@pytest.mark.parametrize(
    "config",
    [
        TABLE, TABLE.but(adc__bits=6), TABLE.but(adc__bits=6, adc__law="log"),
        TABLE.but(dac__bits=6, dac__encoding="pulse-width"),
    ],
)  # fmt: skip
def test_cells_of_a_table(law: str, config: Config) -> None:
    net, x = small()
    lut = Lut.from_model(CORNERED if law == "cornered" else parameter_set("vteam_pt_hf_ti"), 1.0, tolerance=1e-3)
    waits_for_nothing(convert(net, lut, config, calibration=x), x)


LAYERS: dict[str, tuple[nn.Module, Tensor]] = {
    "transposed": (nn.ConvTranspose2d(3, 4, 3), torch.randn(2, 3, 5, 5)),
    "embedding": (nn.Embedding(20, 6), torch.tensor([[1, 2], [3, 4]])),
    "lstm": (nn.LSTM(5, 7), torch.randn(3, 2, 5)),
    "gru": (nn.GRU(5, 7, bidirectional=True), torch.randn(3, 2, 5)),
    "transformer": (nn.TransformerEncoderLayer(12, 4, 20, batch_first=True), torch.randn(2, 5, 12)),
}


@pytest.mark.parametrize("config", [BASE, CONVERTERS], ids=["plain", "converters"])
@pytest.mark.parametrize(("layer", "x"), LAYERS.values(), ids=LAYERS.keys())
def test_layers(layer: nn.Module, x: Tensor, config: Config) -> None:
    waits_for_nothing(convert(layer, None, config), x)


def test_waiting_is_seen() -> None:
    class Waits(nn.Module):
        def __init__(self, what: Any) -> None:
            super().__init__()
            self.what = what

        def forward(self, x: Tensor) -> Any:
            return self.what(x)

    x = torch.ones(2)
    for what in (
        lambda x: x * x.sum().item(),
        lambda x: x if bool((x > 0).any()) else -x,
        lambda x: x + x.new_tensor([1.0, 2.0]),
        lambda x: x + torch.ones(2).to(x.device),
    ):
        with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
            waits_for_nothing(Waits(what), x)


@contextmanager
def watched() -> Iterator[None]:
    """Raises where the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


DEVICES = CONVERTERS.but(devices__levels=16, devices__d2d=0.1, devices__c2c=0.05, devices__stuck_on=0.02)


@pytest.mark.parametrize("config", [*OPTIONS.values(), DEVICES], ids=[*OPTIONS.keys(), "devices"])
def test_options_on_a_gpu(config: Config, a_gpu: torch.device) -> None:
    net, x = small()
    net, x = net.to(a_gpu), x.to(a_gpu)
    mapped = convert(net, None, config, calibration=x)
    with torch.no_grad():
        mapped(x)
        with watched():
            mapped(x)
    if config.wires is not None:
        return  # a write through lines is checked
    mapped.train()
    mapped(x).sum().backward()
    with watched():
        mapped(x).sum().backward()


@pytest.mark.parametrize(("layer", "x"), LAYERS.values(), ids=LAYERS.keys())
def test_layers_on_a_gpu(layer: nn.Module, x: Tensor, a_gpu: torch.device) -> None:
    there, x = copy.deepcopy(layer).eval().to(a_gpu), x.to(a_gpu)
    mapped = convert(there, None, CONVERTERS, calibration=x)
    for _ in range(2):
        with torch.no_grad():
            mapped(x)
        with watched(), torch.no_grad():
            mapped(x)
        mapped.train()
        tree_leaves(mapped(x))[0].sum().backward()
        with watched():
            tree_leaves(mapped(x))[0].sum().backward()
        mapped.eval()
