"""Networks as CUDA graphs: refused where they cannot be, and equal to eager ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from crossbar import Config, Wires, convert
from crossbar.graphs import captured
from devicelab import Lut, parameter_set
from devicelab.errors import ParameterError, ShapeError

CONFIG = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4).but(adc__bits=6, dac__bits=7)
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


def test_what_depends_on_values_is_an_error() -> None:
    lut = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)
    net, x = network(Config(rows=16, columns=16, wires=Wires(1.0, 1.0, 1.0, 1.0)), lut)
    with pytest.raises(ParameterError, match=r"step by step"):
        captured(net, x.as_subclass(OnGpu))
    with pytest.raises(ParameterError, match="in training"):
        captured(network()[0].train(), x.as_subclass(OnGpu))


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
def test_noise_goes_on_from_replay_to_replay() -> None:
    net, x = network(CONFIG.but(devices__read_noise=0.1))
    graph = captured(net.cuda(), x.cuda())
    first, second = graph(x.cuda()), graph(x.cuda())
    assert not torch.equal(first, second)
