"""What the tests run on the PTX machine, in a process in which Triton compiles instead of interpreting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from crossbar_oracle import exact
from ptx_device import Device
from ptx_text import Kernel, without
from torch import Tensor, nn

from crossbar import Cells, Config, LutCells, Ohmic, Sinh, Wires, convert, engine, gpu, gpu_oracle, gpu_product
from crossbar.bias import fit
from devicelab import VTEAM, Lut, parameter_set

jit: Any = triton.jit


@dataclass(frozen=True)
class Found:
    """What came of launches on the machine."""

    findings: list[str]
    unwritten: int  # bytes of results that nobody has written
    results: dict[str, Tensor]
    counts: dict[str, int]
    warps: int


def found(device: Device, **results: Tensor) -> Found:
    last = device.launches[-1]
    counts: dict[str, int] = {}
    for launch in device.launches:
        for name, count in launch.report.counts.items():
            counts[name] = counts.get(name, 0) + count
    unwritten = sum(sum(n for name, n in launch.unwritten.items() if name not in SCRATCH) for launch in device.launches)
    return Found(device.findings, unwritten, results, counts, last.machine.warps)


SCRATCH = ("inner", "outer")
"""Arguments of kernels that need not be written everywhere."""


@jit
def _sums(x, down, along, total, R: tl.constexpr, C: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    at = tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]
    a = tl.load(x + at)
    tl.store(down + at, tl.cumsum(a, axis=0))
    tl.store(along + at, tl.cumsum(a, axis=1, reverse=True))
    tl.store(total, tl.sum(tl.sum(a, axis=1), axis=0))


def sums(double: bool, warps: int) -> Found:
    """Running sums of whole numbers both ways, and their sum."""
    x = torch.arange(32 * 64).mul(7919).remainder(101).reshape(32, 64).to(torch.float64 if double else torch.float32)
    device = Device()
    with device.active():
        down, along, total = torch.empty(32, 64, dtype=x.dtype), torch.empty(32, 64, dtype=x.dtype), x.new_empty(1)
        _sums[(1,)](x, down, along, total, 32, 64, num_warps=warps)
    return found(device, x=x, down=down, along=along, total=total)


@jit
def _dot(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, HOW: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left, right = tl.load(a + i[:, None] * K + k[None, :]), tl.load(b + k[:, None] * N + j[None, :])
    tl.store(c + i[:, None] * N + j[None, :], tl.dot(left, right, input_precision=HOW))


def dot(m: int, n: int, k: int, how: str, arch: int, half: str = "") -> Found:
    """A product of matrices on tensor cores: whole numbers that TF32 or a type of 16 bits holds, else any numbers."""
    rng, most = np.random.default_rng(1), 100 if half else 1000
    a, b = (torch.tensor(rng.integers(-most, most, shape), dtype=torch.float32) for shape in ((m, k), (k, n)))
    if how == "tf32x3":
        a, b = a + torch.tensor(rng.random((m, k)), dtype=torch.float32), b / 7
    if half:
        a, b = (x.to(getattr(torch, half)) for x in (a, b))
    device = Device(arch=arch)
    with device.active():
        c = torch.empty(m, n)
        _dot[(1,)](a, b, c, m, n, k, how, num_warps=4)
    return found(device, a=a, b=b, c=c)


@jit
def _philox(seed, counters, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    lane = tl.arange(0, 32)
    c0, c1, c2, c3 = tl.load(counters), tl.load(counters + 1), tl.load(counters + 2), tl.load(counters + 3)
    a, b, c, d = tl.philox(tl.load(seed), c0 + lane * 0, c1 + lane * 0, c2 + lane * 0, c3 + lane * 0)
    tl.store(out + lane, a)
    tl.store(out + 32 + lane, b)
    tl.store(out + 64 + lane, c)
    tl.store(out + 96 + lane, d)


def philox(key: int, counters: list[int]) -> Found:
    device = Device()
    seed = torch.tensor([key - (1 << 64) if key >> 63 else key])
    words = torch.tensor([c - (1 << 32) if c >> 31 else c for c in counters], dtype=torch.int32)
    with device.active():
        out = torch.empty(4, 32, dtype=torch.int32)
        _philox[(1,)](seed, words, out, num_warps=1)
    return found(device, out=out)


@jit
def _functions(x, i, out, whole):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    at = tl.arange(0, 256)
    a, k = tl.load(x + at), tl.load(i + at)
    tl.store(out + at, tl.exp(a))
    tl.store(out + 256 + at, tl.log(tl.abs(a)))
    tl.store(out + 512 + at, tl.cos(a * 1e4))  # beyond what is reduced quickly, by some threads
    tl.store(out + 768 + at, tl.sqrt(tl.abs(a)) / (a + 100.0))
    tl.store(out + 1024 + at, tl.minimum(tl.maximum(a, -1.0), 1.0))
    tl.store(whole + at, k // 7)
    tl.store(whole + 256 + at, k % 7)
    tl.store(whole + 512 + at, (k >> 3) ^ (k << 5))
    tl.store(whole + 768 + at, a.to(tl.int32))
    tl.store(whole + 1024 + at, (a.to(tl.float64) * k).to(tl.int64).to(tl.int32))


def functions() -> Found:
    rng = np.random.default_rng(2)
    x = torch.tensor(rng.normal(0, 20, 256), dtype=torch.float32)
    i = torch.tensor(rng.integers(-1000, 1000, 256), dtype=torch.int32)
    device = Device(uniform=False)
    with device.active():
        out, whole = torch.empty(5, 256), torch.empty(5, 256, dtype=torch.int32)
        _functions[(1,)](x, i, out, whole, num_warps=4)
    return found(device, x=x, i=i, out=out, whole=whole)


# arrays

LINES = {"r_wl": 1.0, "r_bl": 2.0, "r_source": 3.0, "r_sense": 4.0}


def _cells(kind: str, m: int, n: int, real: torch.dtype) -> Cells:
    rng = np.random.default_rng(m * n)
    g = torch.tensor(10 ** rng.uniform(-6, -3, (2, m, n)), dtype=real)
    x = torch.tensor(rng.uniform(0, 1, (2, m, n)), dtype=real)
    if kind == "ohmic":
        return Ohmic(g)
    if kind == "sinh":
        return Sinh(g, torch.where(x < 0.3, 0.0, 9 * x))
    corners = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)
    device = parameter_set("vteam_pt_hf_ti") if kind == "polynomial" else corners
    return LutCells(Lut.from_model(device, 0.6, tolerance=1e-3), x)


def array(
    name: str,
    kind: str,
    m: int,
    n: int,
    *,
    double: bool,
    vectors: int = 2,
    schedule: str = "together",
    fault: tuple[str, Any] | None = None,
    counting: bool = False,
    check: bool = True,
    device: Device | None = None,
) -> tuple[Found, float]:
    """Two tiles solved by a kernel on the machine, and their error against exact sparse solves.

    A `fault` is put in on purpose: ("barrier", which) leaves one out, ("shift", (argument, bytes)) moves a pointer,
    ("alias", (argument, other)) gives one the address of another, ("forget", argument) hands over memory that nobody
    has written.
    """
    real, rtol = (torch.float64, 1e-9) if double else (torch.float32, 1e-5)
    cells = _cells(kind, m, n, real)
    v = torch.tensor(np.random.default_rng(3).uniform(-0.2, 0.4, (2, vectors, m)), dtype=real)
    drive = fit(v, cells.shape, cells.dtype, cells.device)
    wires = {name: float(r) for name, r in LINES.items()}
    circuit = engine._circuit(cells, drive, Wires(**wires))
    what, how = fault or ("", None)
    device = device or Device(schedule=schedule, counting=counting)
    if what == "barrier":
        device.edit = lambda kernel: (
            without(kernel, "bar.sync", barriers(kernel)[how]) if kernel.name == name else kernel
        )
    elif what == "shift":
        device.adjust = lambda arguments: how[0] in arguments and arguments.update({how[0]: arguments[how[0]] + how[1]})
    elif what == "alias":
        device.adjust = lambda arguments: how[0] in arguments and arguments.update({how[0]: arguments[how[1]]})
    elif what == "forget":
        device.forgotten = (how,)
    with pytest.MonkeyPatch.context() as patch, device.active():
        patch.setattr(gpu, "LARGEST_RESIDENT", 64 if name == "resident" else 0)
        solved = gpu.solve_gpu(circuit, drive.v_wl, drive.v_bl, rtol, voltages=True)
    if solved is None:  # only where something is wrong on purpose
        return found(device), np.inf
    error = 0.0
    for t in range(2 * check):
        law = _cells(kind, m, n, torch.float64)
        for b in range(vectors):

            def current(u: Any, t: int = t, law: Cells = law) -> Any:
                return law.current(torch.tensor(u).expand(2, 1, m, n))[t, 0].numpy()

            def conductance(u: Any, t: int = t, law: Cells = law) -> Any:
                return law.current_and_conductance(torch.tensor(u).expand(2, 1, m, n))[1][t, 0].numpy()

            v_cell, i = exact(current, conductance, wires, v[t, b].double().numpy(), (m, n))
            error = max(error, float(np.abs(solved.i_out[t, b].numpy() - i).max() / np.abs(i).max()))
            assert solved.v is not None
            error = max(error, float(np.abs(solved.v[t, b].numpy() - v_cell).max()))
    assert solved.v is not None
    return found(device, i_out=solved.i_out, v=solved.v), error


def barriers(kernel: Kernel) -> list[int]:
    """Which of a kernel's barriers Triton has put around the shared memory of a sum, a running sum or a maximum."""
    every = [i.where for block in kernel.blocks for i in block.instructions if i.opcode == "bar.sync"]
    return [k for k, where in enumerate(every) if where.startswith("standard.py")]


def barrier_count(name: str, m: int, n: int) -> int:
    """How many barriers of that kind a kernel for sinh cells has."""
    kernels = list[Kernel]()
    device = Device(edit=lambda kernel: kernels.append(kernel) or kernel)  # type: ignore[func-returns-value]
    array(name, "sinh", m, n, double=False, check=False, device=device)
    return len(barriers(kernels[0]))


# products

PRODUCTS = Config(rows=16, columns=16, nonlinear=False, g_low=1e-5, g_high=1e-4).but(adc__bits=6, dac__bits=7)


def product(name: str, *, schedule: str = "together") -> tuple[Found, Tensor, Tensor]:
    """A layer by the fused kernel on the machine, and by `gpu_oracle` in float64."""
    corners = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)
    table = Config(rows=16, columns=16, v_read=0.7).but(adc__bits=6, dac__bits=7)
    noisy = PRODUCTS.but(devices__read_noise=0.02, devices__bandwidth=1e6)
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(4, 12, 3, groups=2), nn.Linear(50, 21)
    layer, config, shape = {
        "windows": (conv, PRODUCTS, (2, 4, 7, 7)),
        "noise": (conv, noisy, (2, 4, 5, 5)),
        "noise, few vectors": (linear, noisy, (3, 50)),
        "noise, digits": (conv, noisy.but(dac__encoding="bit-serial", dac__bits=4), (2, 4, 7, 7)),
        "table": (linear, table, (37, 50)),
        "pulses": (linear, table.but(dac__encoding="pulse-width"), (5, 50)),
        "wide": (nn.Linear(300, 70), PRODUCTS.but(rows=64, columns=64), (3, 300)),
        "offset": (conv, PRODUCTS.but(scheme="offset", sense__saturation=0.05, slices=2, slice_bits=3), (2, 4, 7, 7)),
        "analog": (linear, PRODUCTS.but(partial_sums="analog"), (70, 50)),
    }[name]
    lut = Lut.from_model(corners, 1.0) if config.nonlinear else None
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    net = convert(layer, lut, config, calibration=x)
    suits, operator, given = gpu_product.suits, gpu_product.tiled_gpu, list[Any]()

    class There:
        device, dtype = torch.device("cuda"), torch.float32

    def keep(*arguments: Any) -> Any:
        given.append((arguments, operator(*arguments)))
        return given[-1][1]

    device = Device(schedule=schedule, uniform="noise" not in name)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), device.active():
        patch.setattr(gpu_product, "suits", lambda chip, x: x.dtype == torch.float32 and suits(chip, There()))  # type: ignore[arg-type]
        patch.setattr(gpu_product, "tiled_gpu", keep)
        net(x)
    ((arguments, result),) = given
    wide = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    with torch.no_grad():
        return found(device), result.double(), gpu_oracle.in_torch(*wide)
