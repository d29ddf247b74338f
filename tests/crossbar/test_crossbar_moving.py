"""Networks that move between devices: the same devices and answers wherever they are converted, written or loaded."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crossbar import Config, Sinh, Wires, convert, gpu, solve
from crossbar.layers import ArrayLayer
from devicelab import VTEAM, Lut, parameter_set

OHMIC = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4)
CONVERTERS = OHMIC.but(adc__bits=8, dac__bits=7)
TABLE = Config(rows=16, columns=16, v_read=0.7)
LINES = Wires(1.0, 1.0, 1.0, 1.0)
FEW = 0.02  # share of outputs with a partial sum that rounding puts on the other side of a step
SAME = 2e-4  # of the largest output; float32, and solves to 1e-4

CORNERED, SMOOTH = (
    VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5),
    parameter_set("vteam_pt_hf_ti"),
)

OPTIONS: dict[str, tuple[Config, Any]] = {
    "plain": (OHMIC, None),
    "converters": (CONVERTERS, None),
    "ranges of tiles": (CONVERTERS.but(adc__per="tile"), None),
    "ranges of columns": (CONVERTERS.but(adc__per="column", adc__percentile=99.0, dac__percentile=99.0), None),
    "logarithmic": (CONVERTERS.but(adc__law="log"), None),
    "bit-serial": (CONVERTERS.but(dac__encoding="bit-serial"), None),
    "reference column": (CONVERTERS.but(scheme="reference column", permute=True), None),
    "sense": (CONVERTERS.but(sense__gain=0.1, sense__offset=0.01, sense__saturation=0.1), None),
    "devices": (
        CONVERTERS.but(
            devices__levels=16, devices__even_in="R", devices__d2d=0.1, devices__c2c=0.05, devices__stuck_on=0.02,
            devices__pristine=0.01, devices__r_on_spread=0.1, devices__r_off_spread=0.1,
        ),
        None,
    ),
    "aged": (
        CONVERTERS.but(
            devices__time=1e4, devices__drift=0.05, devices__drift_spread=0.01, devices__temperature=350.0,
            devices__e_on=0.01, devices__e_off=0.05,
        ),
        None,
    ),
    "lines": (CONVERTERS.but(wires=LINES), None),
    "shared tiles": (CONVERTERS.but(wires=LINES, share_tiles="layers"), None),
    "floating lines": (OHMIC.but(share_tiles="layers", idle_lines="floating word lines"), None),
    "table": (TABLE.but(adc__bits=8), CORNERED),
    "table, logarithmic": (TABLE.but(adc__bits=8, adc__law="log"), CORNERED),
    "polynomials": (TABLE.but(adc__bits=8), SMOOTH),
    "polynomials, logarithmic": (TABLE.but(adc__bits=8, adc__law="log"), SMOOTH),
    "pulse widths": (TABLE.but(adc__bits=8, dac__bits=6, dac__encoding="pulse-width"), CORNERED),
    "solved": (TABLE.but(wires=LINES, rtol=1e-4), CORNERED),
}  # fmt: skip


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    return net.eval(), torch.randn(2, 2, 4, 4)


def close(found: Tensor, expected: Tensor) -> None:
    off = (found.detach().cpu() - expected).abs() / expected.abs().max()
    assert float((off > SAME).double().mean()) <= FEW
    assert float(off.max()) <= 0.1


@pytest.fixture(scope="module")
def tables() -> dict[Any, Lut | None]:
    return {None: None} | {model: Lut.from_model(model, 1.0, tolerance=1e-3) for model in (CORNERED, SMOOTH)}


@pytest.mark.parametrize(
    ("config", "model"),
    [
        pytest.param(*given, id=name, marks=[pytest.mark.slow] if name == "solved" else [])
        for name, given in OPTIONS.items()
    ],
)
@torch.no_grad()
def test_wherever_it_was(config: Config, model: Any, tables: dict[Any, Lut | None], device: torch.device) -> None:
    (net, x), lut = network(), tables[model]
    y = x.to(device)
    here = convert(copy.deepcopy(net), lut, config, calibration=x)
    expected = here(x)
    there = convert(copy.deepcopy(net).to(device), lut, config, calibration=y)
    close(there(y), expected)
    assert torch.equal(there(y), copy.deepcopy(there)(y))
    moved = copy.deepcopy(here).to(device)  # after its tables were made on the CPU
    close(moved(y), expected)
    close(moved.cpu()(x), expected)
    close(moved.to(device)(y), expected)
    here.load_state_dict(there.state_dict())
    close(here(x), expected)
    loaded = convert(copy.deepcopy(net).to(device), lut, config)
    loaded.load_state_dict(here.state_dict())
    close(loaded(y), expected)
    for one in (here, there):
        for layer in one.modules():
            if isinstance(layer, ArrayLayer):
                layer.program()
    close(there(y), here(x))


@pytest.mark.parametrize(
    ("config", "model"), [pytest.param(*OPTIONS[name], id=name) for name in OPTIONS if name != "solved"]
)
@torch.no_grad()
def test_where_tensors_are_made_by_default(
    config: Config, model: Any, tables: dict[Any, Lut | None], a_gpu: torch.device
) -> None:
    (net, x), lut = network(), tables[model]
    expected = convert(copy.deepcopy(net), lut, config, calibration=x)(x)
    with a_gpu:
        close(convert(net.to(a_gpu), lut, config, calibration=x.to(a_gpu))(x.to(a_gpu)), expected)


@torch.no_grad()
def test_sequences_where_tensors_are_made_by_default(a_gpu: torch.device) -> None:
    lstm, x = nn.LSTM(5, 7, bidirectional=True), torch.randn(6, 3, 5)
    expected = nn.utils.rnn.pad_packed_sequence(lstm(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4, 2])))[0])
    with a_gpu:
        packed = nn.utils.rnn.pack_padded_sequence(x.to(a_gpu), torch.tensor([6, 4, 2], device="cpu"))
        found = convert(lstm.to(a_gpu), None, OHMIC)(packed)[0].data.cpu()
    torch.testing.assert_close(
        found, nn.utils.rnn.pack_padded_sequence(expected[0], expected[1]).data, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("config", [CONVERTERS, CONVERTERS.but(wires=LINES)], ids=["converters", "lines"])
def test_training_there_and_back(config: Config, device: torch.device) -> None:
    net, x = network()
    mapped = convert(net.to(device), None, config, calibration=x.to(device)).train()
    optimiser = torch.optim.SGD(mapped.parameters(), 1e-3, momentum=0.9)
    for _ in range(2):
        optimiser.zero_grad()
        mapped(x.to(device)).square().sum().backward()
        optimiser.step()
    found = mapped.eval()(x.to(device))
    close(mapped.cpu()(x), found.detach().cpu())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mapped.parameters())


@pytest.mark.skipif(gpu.kernels() is None, reason="triton is not installed")
def test_kernels_are_launched_where_their_tensors_are(a_gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current device, which need not be the one of the tensors."""
    launched: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch.cuda, "device_of", lambda a: launched.append(tuple(a.shape)) or nullcontext())
    v = torch.full((1, 5), 0.1, device=a_gpu)
    solve(Sinh(torch.full((5, 4), 1e-4, device=a_gpu), 3.0), v, LINES)
    assert launched == [(1, 1, 5)]
    net = convert(nn.Linear(5, 3).to(a_gpu), None, CONVERTERS)
    with torch.no_grad():
        net(v)
    assert launched[1:] == [(1, 5)]
    lut = Lut.from_model(SMOOTH, 1.0, tolerance=1e-3)
    net = convert(nn.Linear(5, 3).to(a_gpu), lut, TABLE.but(rows=8, columns=8, wires=LINES))
    with torch.no_grad():
        net(v)
    assert launched[2:] == [(1, 5)]
    steep = Sinh(torch.full((5, 4), 1e-2, device=a_gpu), 20.0)
    solve(steep, torch.full((1, 5), 2.0, device=a_gpu), Wires(100.0, 100.0, 100.0, 100.0))
    assert launched[3:] == 3 * [(1, 1, 5)]  # given up, given up again, and solved with care
