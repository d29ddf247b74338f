"""Networks as CUDA graphs: refused where they cannot be, and equal to eager ones."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from crossbar import Config, Wires, convert, expansion, gpu, gpu_expansion, gpu_layers
from crossbar.gpu_layers import at_once, deferred
from crossbar.graphs import captured, waiting_once
from devicelab import Lut, parameter_set
from devicelab.errors import ParameterError, ShapeError

CONFIG = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4).but(adc__bits=6, dac__bits=7)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported, which is below
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def network(config: Config = CONFIG, lut: Lut | None = None) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5))
    x = torch.randn(4, 3, 8, 8)
    return convert(net, lut, config, calibration=x), x


def test_on_a_cpu_they_are_an_error() -> None:
    net, x = network()
    with pytest.raises(ParameterError, match="captured on a GPU"):
        captured(net, x)


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    device = torch.device("cuda")  # type: ignore[assignment]


def test_in_training_they_are_an_error() -> None:
    net, x = network()
    with pytest.raises(ParameterError, match="in training"):
        captured(net.train(), x.as_subclass(OnGpu))


class NoValues(TorchDispatchMode):
    """Raises where a value is read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(gpu.kernels() is None, reason="triton is not installed")
def test_solved_arrays_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernels' interpreter: no value is read within the pass, and a pass that needs care is made again."""
    lut = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)
    config = Config(rows=8, columns=8, wires=Wires(1.0, 1.0, 1.0, 1.0), rtol=1e-5).but(dac__range=3.0)
    net, x = convert(nn.Linear(6, 3), lut, config).to(DEVICE), torch.randn(1, 6).to(DEVICE)
    monkeypatch.setattr(expansion, "series", lambda chip, u, written: None)
    monkeypatch.setattr(gpu_expansion, "series", lambda chip, u, written: None)
    with torch.no_grad():
        expected = net(x)
        monkeypatch.setattr(gpu, "suits", lambda circuit: circuit.floating.none)
        monkeypatch.setattr(gpu_layers, "there", lambda a: True)
        with deferred():
            net(x)  # packs the arrays
        with deferred() as flags, monkeypatch.context() as patch, NoValues():
            patch.setattr(Wires, "ideal", False)  # looks at numbers of the configuration, on the host
            found = net(x)
        assert len(flags) == 1
        assert not flags[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
        assert torch.equal(net(x), found)
        assert torch.equal(waiting_once(net, x), found)
        with at_once():
            assert torch.equal(net(x), found)
        monkeypatch.setattr(gpu_layers, "MARGIN", -10.0)  # every voltage is beyond the table
        assert torch.equal(net(x), expected)
        assert torch.equal(waiting_once(net, x), expected)


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize(
    "options", [{}, {"wires": Wires(1.0, 1.0, 1.0, 1.0)}, {"adc__law": "log"}, {"scheme": "offset"}]
)
def test_a_replay_is_the_eager_pass(options: dict[str, Any]) -> None:
    net, x = network(CONFIG.but(**options))
    net, x = net.cuda(), x.cuda()
    graph = captured(net, x)
    with torch.no_grad():
        for other in (x, 0.5 * x.flip(0)):
            assert torch.equal(graph(other), net(other))
        net[0].program()
        assert torch.equal(graph(x), net(x))
    with pytest.raises(ShapeError, match="one shape"):
        graph(x[:1])


@pytest.mark.cuda
@needs_gpu
def test_a_replay_of_solved_arrays() -> None:
    lut = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)
    net, x = network(Config(rows=16, columns=16, wires=Wires(1.0, 1.0, 1.0, 1.0), rtol=1e-5), lut)
    net, x = net.cuda(), x.cuda()
    graph = captured(net, x)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(graph(x), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.cuda
@needs_gpu
def test_noise_goes_on_from_replay_to_replay() -> None:
    net, x = network(CONFIG.but(devices__read_noise=0.1))
    graph = captured(net.cuda(), x.cuda())
    first, second = graph(x.cuda()), graph(x.cuda())
    assert not torch.equal(first, second)
