"""The series on a GPU against a CPU's and exact solutions: compiled where there is a GPU, else interpreted."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_gpu import missing, pretended
from test_crossbar_expansion import LUTS, arrays, by_tile, inputs, off, same, sinh, tensor, vteam
from torch import Tensor, nn

from crossbar import Config, Wires, convert, expansion, gpu_expansion
from crossbar.expansion import Certified
from crossbar.mapping import TiledMatrix, Written
from devicelab import Lut

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernel is imported, which is below

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(gpu_expansion.kernels() is None, reason="triton is not installed"),
]
on_cpu = pytest.mark.skipif(expansion.kernel() is None, reason="numba cannot compile here, so there is nothing beside")

DEVICE = torch.device("cuda" if ON_GPU else "cpu")
SAME = 1e-5  # float32 sums in another order, of numbers about 1
FEW = 6e-3  # share of partial sums that lie so near the edge of a step that rounding decides
SUITS = gpu_expansion.suits


class There:
    """What the kernels look at of a tensor on a GPU."""

    device, dtype = torch.device("cuda"), torch.float32


def fits(chip: TiledMatrix, x: Tensor) -> bool:
    return x.dtype == torch.float32 and SUITS(chip, There())  # type: ignore[arg-type]


def through(net: Any, x: Tensor) -> Tensor:
    """By the kernels for GPUs, wherever tensors are."""
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(expansion, "suits", lambda chip, u: False)
        if not ON_GPU:
            patch.setattr(gpu_expansion, "suits", fits)
        found: Tensor = net.to(DEVICE)(x.to(DEVICE))
    return found.cpu()


def tiles(net: nn.Module) -> gpu_expansion.Tiles:
    """What the kernels were given."""
    (matrix,) = (m for m in net.modules() if isinstance(m, TiledMatrix))
    kept = gpu_expansion._KEPT[matrix][2]
    assert kept is not None
    return kept


def alike(net: nn.Module, x: Tensor) -> gpu_expansion.Tiles:
    """Compare the kernels with the series on the CPU; what they were given."""
    other = copy.deepcopy(net)  # reads with noise are counted
    with torch.no_grad():
        expected = net(x)
    found = through(other, x)
    off = (found - expected).abs() > SAME * expected.abs().max()
    assert float(off.float().mean()) <= FEW
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max())
    return tiles(other)


BASE = Config(rows=16, columns=16, v_read=0.2, wires=same(1.0), rtol=1e-3)

OPTIONS: list[dict[str, Any]] = [
    {},
    {"subtraction": "digital"},
    {"scheme": "two columns"},
    {"scheme": "two columns", "subtraction": "digital", "columns": 7},
    {"scheme": "reference column", "subtraction": "digital"},
    {"scheme": "reference column", "columns": 7},
    {"scheme": "offset"},
    {"partial_sums": "analog"},
    {"partial_sums": "analog", "subtraction": "digital"},
    {"permute": True, "adc__per": "column", "sense__gain": 0.1, "sense__offset": 0.01},
    {"adc__per": "tile", "rows": 7, "columns": 5},
    {"slices": 2, "slice_bits": 3, "sense__saturation": 0.05},
    {"adc__bits": None, "sense__gain": 0.1},
    {"adc__bits": None, "dac__bits": None, "permute": True},
    {"adc__law": "log", "adc__decades": 3, "scheme": "two columns", "subtraction": "digital"},
    {"dac__encoding": "bit-serial", "dac__bits": 2, "slices": 2, "slice_bits": 3, "subtraction": "digital"},
    {"devices__levels": 6, "devices__d2d": 0.1},
]
MORE: dict[str, dict[str, Any]] = {"one sweep": {}, "several": {"rtol": 1e-4}}


def every_other(firsts: list[Any]) -> list[Any]:
    """Each of them with one sweep or several, in turn; the other pairs are slow."""
    return [
        pytest.param(first, more, id=f"{name}-{first}", marks=pytest.mark.slow if (k + j) % 2 else ())
        for j, (name, more) in enumerate(MORE.items())
        for k, first in enumerate(firsts)
    ]


@on_cpu
@pytest.mark.parametrize(("options", "several"), every_other(OPTIONS))
def test_options(options: dict[str, Any], several: dict[str, Any]) -> None:
    x = tensor(2, 4, 3, 4)  # a window across, two along
    config = BASE.but(adc__bits=6, dac__bits=7, wires=Wires(1.0, 2.0, 2.0, 1.0)).but(**options).but(**several)
    net = convert(nn.Conv2d(4, 8, 3, groups=2), sinh(), config, calibration=x)
    assert alike(net, x).swept == (bool(several) and config.rows > 7)


@on_cpu
@pytest.mark.parametrize(("scheme", "several"), every_other(["two arrays", "two columns", "reference column"]))
@pytest.mark.parametrize("subtraction", ["analog", "digital"])
def test_the_other_terminals(scheme: Any, subtraction: Any, several: dict[str, Any]) -> None:
    wires = Wires(1.0, 1.0, torch.inf, torch.inf, r_source_right=3.0, r_sense_top=1.0)
    matrix = arrays(sinh(), tensor(10, 30), wires=wires, scheme=scheme, subtraction=subtraction, **several)
    assert alike(matrix, inputs(5, 30)).swept == bool(several)


LAYERS = [
    (nn.Conv2d(3, 5, 3, dilation=2, stride=2), (2, 3, 9, 8)),
    (nn.Conv1d(5, 6, 4), (2, 5, 9)),
    (nn.Conv3d(2, 3, 2), (2, 2, 3, 3, 4)),
    (nn.Linear(10, 20), (140, 10)),  # more vectors than a program takes, column tiles side by side
    (nn.Linear(20, 3), (3, 20)),
]


@on_cpu
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
@pytest.mark.parametrize("ohm", [1.0, 4.0])
def test_layers(layer: nn.Module, shape: tuple[int, ...], ohm: float) -> None:
    layer.reset_parameters()  # type: ignore[operator]
    net = convert(layer, sinh(), BASE.but(wires=same(ohm)))
    assert alike(net, tensor(*shape)).swept == (ohm > 2)


@on_cpu
@pytest.mark.parametrize(
    ("law", "size", "ohm", "rtol", "table", "swept"),
    [
        ("sinh", (16, 16), 1.0, 1e-3, False, False),
        ("sinh", (16, 16), 1.0, 1e-5, True, True),
        ("vteam", (7, 8), 1.0, 1e-3, True, False),
        ("vteam", (16, 16), 2.0, 1e-4, True, True),
        ("sinh", (7, 5), 5.0, 1e-2, False, False),
        ("sinh", (33, 20), 1.0, 1e-4, True, True),
        ("sinh", (20, 40), 1.5, 1e-3, False, True),
        ("sinh", (64, 64), 1.0, 1e-3, False, True),
        ("sinh", (70, 9), 0.7, 1e-3, False, True),
    ],
)
def test_cells_and_tiles(law: str, size: tuple[int, int], ohm: float, rtol: float, table: bool, swept: bool) -> None:
    """Every kind of law, rank and size; both kernels."""
    matrix = arrays(LUTS[law](), tensor(17, 75), *size, wires=same(ohm), rtol=rtol)
    found = alike(matrix, inputs(5, 75))
    assert (found.swept, bool(found.choices["TABLE"])) == (swept, table)
    assert (found.choices["RANKS"] > 1) == (law == "vteam")


UNEVEN = {
    "sense nodes apart": Wires(1.0, 1.0, 1.0, 30.0),
    "nothing below cells": Wires(3.0, 0.0, 3.0, 20.0),
    "not whole": Wires(0.3, 1.7, 0.9, 2.3),
    "from bit line to bit line": Wires(1.0, 1.0, 1.0, torch.linspace(1, 20, 12)),
    "from word line to word line": Wires(1.0, 1.0, torch.linspace(1, 20, 12), 1.0),
    "along lines": Wires(torch.linspace(1, 3, 12 * 11).view(12, 11), 1.0, 1.0, 2.0),
}


@on_cpu
@pytest.mark.parametrize("wires", UNEVEN.values(), ids=UNEVEN.keys())
@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-5])
@pytest.mark.parametrize("flip", [False, True])
def test_lines(wires: Wires, rtol: float, flip: bool) -> None:
    if flip:
        wires = Wires(
            wires.r_wl, wires.r_bl, torch.inf, torch.inf, r_source_right=wires.r_source, r_sense_top=wires.r_sense
        )
    matrix = arrays(sinh(), tensor(9, 20), 12, 12, wires=wires, rtol=rtol, scheme="two columns")
    alike(matrix, inputs(5, 20))


@on_cpu
def test_half_precision_costs_what_its_bound_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of currents are taken in half precision where the bound leaves room for it, and to 22 bits elsewhere."""
    matrix, x = arrays(sinh(), torch.ones(32, 32), 32, 32, wires=same(2.0)), inputs(5, 32)
    with torch.no_grad():
        expected = matrix(x)
    found = Certified.of(matrix._lut_cells(matrix.g, 2 * matrix.config.v_read), matrix.config)
    assert found is not None
    off = []
    for share, fine in ((gpu_expansion.SHARE, False), (0.0, True)):
        monkeypatch.setattr(gpu_expansion, "SHARE", share)
        other = copy.deepcopy(matrix)
        off.append(float((through(other, x) - expected).abs().max() / expected.abs().max()))
        assert tiles(other).choices["FINE"] == fine
    assert off[1] < 3e-7 < off[0] < 2.0**-11 * float(found.echo.max())


def error(matrix: TiledMatrix, b: int) -> float:
    """Largest error of column currents relative to the largest line's, by exact solutions in float64."""
    u = by_tile(matrix, inputs(b, matrix.n_in))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        if not ON_GPU:
            patch.setattr(gpu_expansion, "suits", fits)
        matrix.to(DEVICE)
        series = gpu_expansion.series(matrix, u.to(DEVICE), Written(matrix.g, None))
        assert series is not None
        found = gpu_expansion.currents(matrix, u.to(DEVICE), series).cpu()
        matrix.cpu()
    return off(matrix, u, found)


@pytest.mark.parametrize(
    ("rtol", "size", "ohm"),
    [
        (1e-2, (16, 16), 4.0),
        (1e-3, (16, 16), 2.5),
        (1e-5, (16, 16), 0.3),
        (1e-3, (7, 5), 5.0),
        (1e-3, (64, 64), 1.0),
        (1e-4, (64, 64), 0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("law", LUTS)
@pytest.mark.parametrize("weights", [pytest.param("random", marks=pytest.mark.slow), "all on"])
def test_the_error_is_below_the_tolerance(
    weights: str, law: str, rtol: float, size: tuple[int, int], ohm: float
) -> None:
    weight = tensor(7, 20) if weights == "random" else torch.ones(7, 20)
    assert error(arrays(LUTS[law](), weight, *size, wires=same(ohm), rtol=rtol), 5) <= rtol


def test_no_result_depends_on_what_else_is_in_the_batch() -> None:
    for ohm in (1.0, 4.0):
        x = tensor(40, 20)
        matrix = arrays(sinh(), tensor(5, 20), adc__bits=6, dac__range=1.0, wires=same(ohm))
        whole = through(matrix, x)
        assert torch.equal(whole, torch.cat([through(matrix, part) for part in x.split([1, 6, 33])]))


@pytest.mark.parametrize("ohm", [1.0, 4.0])
@pytest.mark.parametrize("layer", [nn.Linear(12, 3, bias=False), nn.Conv2d(3, 2, 2, bias=False)], ids=str)
def test_batches_of_none_and_inputs_without_a_reciprocal(layer: nn.Module, ohm: float) -> None:
    """The inputs of the smallest float32 numbers, down to where nothing is left of them."""
    x = tensor(4, 12) if isinstance(layer, nn.Linear) else tensor(4, 3, 2, 2)
    net = convert(layer, sinh(), BASE.but(adc__bits=None, wires=same(ohm)))
    usual = through(net, x)
    assert through(net, x[:0]).shape == (0, *usual.shape[1:])
    for factor in (2.0**-124, 2.0**-130, 2.0**-148):
        found = through(net, factor * x)
        assert bool(((found - factor * usual).abs() <= 1e-3 * factor * usual.abs().max() + 2.0**-126).all())


@pytest.mark.parametrize("ohm", [1.0, 4.0])
@pytest.mark.parametrize("law", LUTS)
def test_what_is_not_a_number_stays_so_and_alone(law: str, ohm: float) -> None:
    matrix = arrays(LUTS[law](), tensor(5, 30), adc__bits=6, dac__range=1.0, wires=same(ohm))
    x = tensor(5, 30).clamp(-1, 1)
    expected = through(matrix, x)
    x[2, 7] = torch.nan
    found = through(matrix, x)
    assert bool(found[2].isnan().all())
    kept = [0, 1, 3, 4]
    assert torch.equal(found[kept], expected[kept])


@on_cpu
def test_a_new_write_and_another_range_are_seen() -> None:
    matrix, x = arrays(sinh(), tensor(9, 20), adc__bits=6), tensor(5, 20)
    first = through(matrix, x)
    alike(matrix, x)
    matrix.program(tensor(9, 20, seed=1))
    alike(matrix, x)
    assert float((through(matrix, x) - first).abs().max()) > 0.5 * float(first.abs().max())
    matrix.g.mul_(0.9)
    alike(matrix, x)
    matrix.adc_range = 2 * matrix.adc_range
    alike(matrix, x)


def test_where_it_is_used() -> None:
    weight, u = tensor(20, 50), inputs(3, 50)

    def used(lut: Lut, u: Tensor = u, weight: Tensor = weight, **options: Any) -> bool:
        matrix = arrays(lut, weight, **options).to(DEVICE)
        with pytest.MonkeyPatch.context() as patch:
            if not ON_GPU:
                patch.setattr(gpu_expansion, "suits", fits)
            return gpu_expansion.series(matrix, u.to(DEVICE), Written(matrix.g, None)) is not None

    assert used(sinh())
    assert used(vteam())
    assert not used(sinh(), wires=same(100.0))
    assert not used(sinh(), wires=None)
    assert not used(sinh(), wires=Wires(1.0, 1.0, 1.0, 1.0, r_source_right=1.0))
    assert not used(sinh(), rtol=1e-6)
    assert not used(sinh(), u.double(), weight.double())
    assert not used(sinh(), u.clone().requires_grad_())
    assert not used(sinh(), dac__encoding="pulse-width", dac__bits=4)
    assert not used(sinh(), rows=256, wires=same(0.2))  # to be swept, and too large for that
    assert used(sinh(), rows=256, wires=same(0.01))
    if not ON_GPU:
        assert gpu_expansion.series(arrays(sinh(), weight), u, Written(arrays(sinh(), weight).g, None)) is None


@pytest.mark.parametrize("ohm", [1.0, 4.0])
def test_the_operator_is_a_good_citizen_of_torch(ohm: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema and fake tensors, by torch's own check."""
    given: list[Any] = []
    operator = gpu_expansion.series_gpu

    def noted(*a: Any) -> Tensor:
        given.append(a)
        found: Tensor = operator(*a)
        return found

    monkeypatch.setattr(gpu_expansion, "series_gpu", noted)
    net = convert(nn.Conv2d(2, 3, 2), sinh(), BASE.but(adc__bits=6, wires=same(ohm)))
    through(net, tensor(2, 2, 4, 4))
    torch.library.opcheck(operator, given[-1])


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
@pytest.mark.parametrize("several", MORE.values(), ids=MORE.keys())
@pytest.mark.parametrize(
    "options",
    [{}, {"adc__bits": 6, "dac__bits": 7, "permute": True}, {"scheme": "offset"}, {"adc__law": "log", "adc__bits": 6}],
    ids=str,
)
def test_nothing_is_waited_for_once_it_is_prepared(options: dict[str, Any], several: dict[str, Any]) -> None:
    """On a pretended GPU, which counts; and what was found is what a CPU finds."""
    if (why := missing()) is not None:
        pytest.skip(why)
    x = tensor(2, 2, 4, 4)
    net = nn.Sequential(nn.Conv2d(2, 6, 2), nn.Flatten(), nn.Linear(54, 4))
    net = convert(
        net, sinh(), BASE.but(wires=same(2.5 if several else 1.0)).but(**options).but(**several), calibration=x
    ).eval()
    with torch.no_grad():
        expected = net(x)
        with pretended() as gpu:
            net, there = net.cuda(), x.cuda()
            net(there)
            gpu.waits.clear()
            gpu.sent.clear()
            found = net(there)
            assert not gpu.waits
            assert not gpu.sent
            for layer in (net[0], net[2]):
                kept = gpu_expansion._KEPT[layer.matrix][2]
                assert kept is not None
                assert kept.swept == bool(several)
            found = found.cpu()
    off = (found - expected).abs() / expected.abs().max()
    assert float((off > SAME).float().mean()) < 0.3  # a code that falls to the other side is passed on
    assert float(off.max()) < 0.1


def on_the_machine(*cases: str) -> dict[str, Any]:
    """What compiled kernels give on the PTX machine, in a process in which Triton compiles."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("ptx_series.py")), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@on_cpu
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(["one sweep", "several"], id="two"),
        pytest.param([], marks=pytest.mark.slow, id="all"),
    ],
)
def test_compiled_code_finds_what_the_cpu_finds(cases: list[str]) -> None:
    """Machine code's last step but one, thread by thread: no race, nothing out of bounds, all results written."""
    for name, one in on_the_machine(*cases).items():
        assert one["off"] < SAME, name
        assert one["findings"] == [], name
        assert one["unwritten"] == 0, name
        assert one["kernel"] == ("first" if "one sweep" in name else "swept")


COMPILED = {  # and the most bytes that may spill outside the innermost loops
    "first --kind polynomial": 0,
    "swept --kind polynomial": 160,
    "first --kind table --with PARTS=1 EVEN=0 CHANNELS=2 ANALOG=0 CONVERT=1 SENSED=1 SHIFTED=1 DAC_STEPS=63": 64,
    "first --kind polynomial --with BM=32 BN=16 ANALOG=0 CONVERT=1": 0,
    "swept --kind table --with ARRAYS=1 PICK=1 APART=2 ANALOG=0 CONVERT=1 SENSED=1 SHIFTED=1 CLAMP=1 SLICES=2": 600,
    "swept --kind polynomial --with ALIKE=0": 700,
    "swept --kind polynomial --with EXACT=0 FINE=1": 300,
    "swept --kind polynomial --side 16 --with ANALOG=0": 0,
    "swept --kind polynomial --with RP=128 EXACT=0 FINE=1": 600,
}


@pytest.mark.parametrize(
    "arguments", [pytest.param(a, marks=pytest.mark.slow if k > 1 else ()) for k, a in enumerate(COMPILED)]
)
def test_they_compile_for_a_gpu_that_is_not_here(arguments: str, tmp_path: Path) -> None:
    """To machine code of an H100, by the compiler that comes with Triton: types are looked at only there."""
    code = Path(__file__).with_name("compile_gpu_kernels.py")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(code), *arguments.split()], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (spilled,) = re.findall(r"(\d+) bytes spill stores", done.stdout)
    (shared,) = re.findall(r"(\d+) bytes shared", done.stdout)
    assert int(spilled) <= COMPILED[arguments]
    assert int(shared) <= 227 * 1024  # of a multiprocessor
