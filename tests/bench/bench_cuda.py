"""What the array engine does on a GPU, each figure beside its target and beside what the chip could do.

    python tests/bench/bench_cuda.py [--rows c64 program ...] [--out tests/bench/results] [--again] [--list]
    python tests/bench/bench_cuda.py --tune [--rows c64 fused ...] [--out tests/bench/results]

Every row is written to a file of the device as soon as it is measured, and left out when it is there already, so a run
that was stopped is started again with the same command. Sizes are such that a row should take a minute or two.

The roofline of a row is the larger of two times: its operations over the peak of the units that do them, from the clock
rate, and the bytes that must cross the memory bus over its measured bandwidth. Errors are against float64 on the CPU.

`--tune` tries launches of the Newton kernels (c16 to c256) and of the fused product, and prints them by time; the
fastest is entered by hand where the table says. It keeps what it has measured as well.

Without a GPU, `--dry-run` takes every row through the same code at tiny sizes, kernels by Triton's interpreter; its
times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if "--dry-run" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

import numpy as np
import torch
from torch import nn

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import tune_cuda  # noqa: E402
from bench_networks import sinh, survey  # noqa: E402

from crossbar import (  # noqa: E402
    Config,
    Sinh,
    TiledMatrix,
    Wires,
    convert,
    effective_conductance,
    engine,
    expansion,
    gpu,
    gpu_expansion,
    gpu_product,
)
from crossbar import solve as solve_array  # noqa: E402
from crossbar.graphs import captured, waiting_once  # noqa: E402
from crossbar.zoo import googlenet, input_shape, vgg8  # noqa: E402

WIRES = Wires(1.0, 1.0, 1.0, 1.0)
B, RTOL = 3.0, 1e-5  # 1/V
PER_APPLICATION = 18  # operations a cell: two running sums a line, three products of vectors, three updates
PER_LAW = 60  # current and conductance of a sinh cell and the residual
PER_DISSECTION = 105  # operations a cell and line of dissection, counted by torch's flop counter
SERIES = {16: (589_000, 16 * 16 * 5.7), 64: (51_800, 64 * 64 * (19.1 + 2.33 * 6.5))}
"""Arrays an image of VGG-8, and instructions of the compiled series for one: first order, and 3.33 sweeps a tile."""
A_STEP, A_POINT = 6, 10
"""Arrays of a tile that `blocked` reads or writes: in a step of conjugate gradients direction and residual both ways,
the conductance, and the voltage both ways every second time; in an evaluation of the law conductance, voltage and
Kirchhoff's voltage law both ways, direction and residual, and again law, conductance and residual."""
POINTS = 4  # evaluations of the law
STATE = 16  # bytes a cell: voltage, direction, residual, conductance
TOUCHED = 2000  # numbers a cell that dissection reads and writes, from what it allocates


@dataclass
class Row:
    """One figure."""

    what: str
    value: float
    unit: str
    target: float | None = None  # at most this
    roofline: float | None = None  # in the same unit
    bound: str = ""  # what the roofline is made of
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        target = "" if self.target is None else f"{self.target:g}"
        met = "" if self.target is None else ("met" if self.value <= self.target else "not met")
        roof = "" if not self.roofline else f"{self.roofline:.3g} ({self.bound})"
        more = ", ".join(f"{name} {value:.3g}" for name, value in self.more.items() if value is not None)
        return f"{self.what:<58}{self.value:>11.4g} {self.unit:<12}{target:>7} {met:<8}{roof:<24}{more}"


class Chip:
    """One device, and what it can do."""

    def __init__(self, device: torch.device, *, small: bool) -> None:
        self.device, self.small = device, small
        self._bandwidth = self._cache = 0.0

    @property
    def name(self) -> str:
        cpu = platform.processor() or platform.machine()
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cpu

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def best(self, work: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
        """Shortest time [s] and the result; the first run, which compiles, does not count."""
        result, times = work(), []
        for _ in range(1 if self.small else repeats):
            self.wait()
            start = time.perf_counter()
            result = work()
            self.wait()
            times.append(time.perf_counter() - start)
        return min(times), result

    def peak(self, work: Callable[[], Any]) -> float | None:
        """Peak memory while working [MB]; None on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) / 2**20

    @property
    def bandwidth(self) -> float:
        """Of its memory [B/s], measured by copies."""
        if not self._bandwidth:
            block = torch.empty(2**22 if self.small else 2**28, device=self.device)
            self._bandwidth = 2 * block.numel() * 4 / self.best(lambda: block.clone())[0]
        return self._bandwidth

    @property
    def cache(self) -> tuple[float, float]:
        """Size [B] and measured bandwidth [B/s] of its second-level cache."""
        if self.device.type != "cuda":
            return float("inf"), float("inf")
        if not self._cache:
            there = torch.empty(2**21, device=self.device)  # 8 MB
            here = there.clone()
            seconds, _ = self.best(lambda: [here.copy_(there) for _ in range(100)])
            self._cache = 100 * 2 * there.numel() * 4 / seconds
        return float(getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 0)), self._cache

    def peak_rate(self, unit: str) -> float:
        """Operations a second: "float32", or of products of "halves" on tensor cores, with sums in float32."""
        if self.device.type != "cuda":
            return float("inf")
        properties = torch.cuda.get_device_properties(self.device)
        hertz = 1e3 * getattr(properties, "clock_rate", 1.755e6)
        each = {"float32": 256.0, "halves": 4096.0}[unit]  # of a multiprocessor of an H100 in one cycle
        return properties.multi_processor_count * each * hertz

    def roof(self, operations: float, size: float, unit: str = "float32", cached: float = 0.0) -> tuple[float, str]:
        """Least time [s] for operations, bytes of memory and bytes of the cache, and which of them it is."""
        times = {unit: operations / self.peak_rate(unit), "memory": size / self.bandwidth}
        if cached:
            times["cache"] = cached / self.cache[1]
        longest = max(times, key=lambda name: times[name])
        return times[longest], longest


def array(chip: Chip, n: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Conductances log-uniform 1e-6..1e-3 S, and inputs 0..0.2 V."""
    rng = np.random.default_rng(0)
    g, v = 10 ** rng.uniform(-6, -3, (n, n)), rng.uniform(0, 0.2, (batch, n))
    return tuple(torch.tensor(a, dtype=torch.float32, device=chip.device) for a in (g, v))


def newton(chip: Chip, n: int, batch: int, target: float | None) -> list[Row]:
    """Method c: sinh(3 v) cells, lines of 1 ohm, relative 1e-5."""
    g, v = array(chip, n, batch)
    cells = Sinh(g, B)
    seconds, found = chip.best(lambda: solve_array(cells, v, WIRES, rtol=RTOL))
    memory = chip.peak(lambda: solve_array(cells, v, WIRES, rtol=RTOL))
    few, suits = min(batch, 64), (engine.suits, engine.suits_gpu)
    engine.suits = engine.suits_gpu = lambda circuit: False
    try:
        plain, _ = chip.best(lambda: solve_array(cells, v[:few], WIRES, rtol=RTOL), repeats=2)
    finally:
        engine.suits, engine.suits_gpu = suits
    exact = solve_array(Sinh(g.double().cpu(), B), v[:8].double().cpu(), WIRES, rtol=1e-10).i_out
    error = ((found.i_out[:8].double().cpu() - exact).abs().max() / exact.abs().max()).item()
    moved, out = traffic(chip, n, found.iterations)
    roof, bound = chip.roof(n * n * (found.iterations * PER_APPLICATION + POINTS * PER_LAW), out, cached=moved)
    more = {"steps": found.iterations, "error": error, "times plain torch": plain / few / (seconds / batch)}
    more |= {"moved MB": moved / 1e6, "must MB": out / 1e6, "peak MB": memory}
    what = f"c: {n} x {n}, {batch} vectors"
    return [Row(what, 1e6 * seconds / batch, "us/vector", target, 1e6 * roof, bound, more)]


def traffic(chip: Chip, n: int, steps: int) -> tuple[float, float]:
    """Bytes a vector that a program exchanges with its scratch space, and that must cross the memory bus.

    Inputs and currents must, and of the scratch space what the second-level cache cannot hold of all programs.
    """
    ends = 8.0 * n
    if n <= gpu.LARGEST_RESIDENT:
        return 0.0, ends
    moved = 4.0 * n * n * (A_STEP * (steps - POINTS) + A_POINT * POINTS)
    programs = torch.cuda.get_device_properties(chip.device).multi_processor_count if chip.device.type == "cuda" else 1
    return moved, ends + moved * max(0.0, 1 - chip.cache[0] / (programs * STATE * n * n))


def dissection(chip: Chip) -> list[Row]:
    """Method b: tiles made into one matrix each, and products with it beside those with plain conductances."""
    n, tiles, batch = (16, 6, 4) if chip.small else (128, 10_000, 256)
    rng = torch.Generator(device=chip.device).manual_seed(0)
    g = 10 ** (-6 + 3 * torch.rand(tiles, n, n, generator=rng, device=chip.device))
    seconds, matrices = chip.best(lambda: effective_conductance(g, WIRES), repeats=3)
    memory = chip.peak(lambda: effective_conductance(g, WIRES))
    exact = effective_conductance(g[:2].double().cpu(), WIRES)
    error = ((matrices[:2].double().cpu() - exact).abs().max() / exact.abs().max()).item()
    roof, bound = chip.roof(tiles * PER_DISSECTION * float(n) ** 3, 4.0 * TOUCHED * g.numel())
    v = torch.rand(tiles, batch, n, generator=rng, device=chip.device)
    plain, _ = chip.best(lambda: torch.matmul(v, g))
    product, _ = chip.best(lambda: torch.matmul(v, matrices))
    least, by = chip.roof(2.0 * v.numel() * n, 4.0 * (2 * v.numel() + g.numel()))
    return [
        Row(f"b: {tiles} tiles of {n} x {n} programmed", seconds, "s", 2.0, roof, bound,
            {"error": error, "peak MB": memory}),
        Row("b: inference beside torch.matmul", product / plain, "x", 1.1, least / plain, by, {"ms": 1e3 * product}),
    ]  # fmt: skip


def fused(chip: Chip) -> list[Row]:
    """Method a: a large matrix of sinh cells on ideal lines, converters and all, beside torch and beside a product."""
    n, batch, side = (20, 5, 16) if chip.small else (2048, 8192, 64)
    weight, x = torch.randn(n, n, device=chip.device), torch.randn(batch, n, device=chip.device)
    rows = []
    for what, config in (
        ("sinh cells", Config(rows=side, columns=side)),
        ("sinh cells, 7-bit DAC, 6-bit ADC", Config(rows=side, columns=side).but(adc__bits=6, dac__bits=7)),
        ("the same with noise of reads", Config(rows=side, columns=side).but(
            adc__bits=6, dac__bits=7, devices__read_noise=0.02)),
    ):  # fmt: skip
        matrix = TiledMatrix(weight, sinh(B), config.but(dac__range=4.0))
        with torch.no_grad():
            seconds, _ = chip.best(lambda m=matrix: m(x))
            memory = chip.peak(lambda m=matrix: m(x))
            suits = gpu_product.suits
            gpu_product.suits = lambda chip, x: False
            try:
                torchs, _ = chip.best(lambda m=matrix: m(x), repeats=2)
            finally:
                gpu_product.suits = suits
            plain, _ = chip.best(lambda: x @ weight.T)
        operations, size = asked(matrix, x)
        roof, bound = chip.roof(operations, size, "halves")
        more = {"x plain product": seconds / plain, "times the torch path": torchs / seconds, "peak MB": memory}
        rows.append(Row(f"a: {n} x {n}, {batch} vectors, {what}", 1e3 * seconds, "ms", None, 1e3 * roof, bound, more))
    return rows


def asked(matrix: TiledMatrix, x: torch.Tensor) -> tuple[float, float]:
    """Operations on halves, and bytes of memory, of the fused product that was made last.

    Every cell of every function of the inputs takes two products of halves, three where inputs are pairs as well, and
    one for each law of noise. Inputs are read, written as words and read again; weights are read.
    """
    pack = gpu_product._PACKED[matrix][1]
    halves, variances, laws = pack["halves"], pack["variances"], gpu_product.noisy(matrix).bit_count()
    cells = halves[0].numel() * (2 if gpu_product.whole(matrix) else 3) + (variances.numel() if laws else 0)
    words = halves.shape[4] + (laws > 0)
    out = len(x) * matrix.n_out
    return 2.0 * len(x) * cells, 4.0 * ((1 + 2 * words) * x.numel() + out) + 2.0 * (halves.numel() + variances.numel())


def tunings(chip: Chip) -> dict[str, list[tune_cuda.Tuning]]:
    """What `--tune` measures, by row."""
    few = chip.small

    def newtons(n: int, batch: int) -> list[tune_cuda.Tuning]:
        g, v = array(chip, n, batch)
        if few:
            g, v = g[:8], v[:, :8]
        return [tune_cuda.newton(n, lambda: solve_array(Sinh(g, B), v, WIRES, rtol=RTOL).i_out, batch)]

    def products() -> list[tune_cuda.Tuning]:
        n, batch = (20, 40) if few else (2048, 8192)
        weight, x = torch.randn(n, n, device=chip.device), torch.randn(batch, n, device=chip.device)
        found = []
        for name, side, noise in (("plain", 16, 0.0), ("tall", 64, 0.0), ("noise", 64, 0.02)):
            config = Config(rows=side, columns=side).but(
                adc__bits=6, dac__bits=7, dac__range=4.0, devices__read_noise=noise
            )
            matrix = TiledMatrix(weight, sinh(B), config)
            found.append(tune_cuda.product(name, torch.no_grad()(lambda m=matrix: m(x)), batch))
        return found

    return {
        "c16": newtons(8 if few else 16, 2 if few else 65536),
        "c32": newtons(20 if few else 32, 2 if few else 65536),
        "c64": newtons(40 if few else 64, 2 if few else 32768),
        "c128": newtons(65 if few else 128, 1 if few else 8192),
        "c256": newtons(130 if few else 256, 1 if few else 1024),
        "fused": products(),
    }


def tune(chip: Chip, names: list[str], done: dict[str, Any], keep: Callable[[], None]) -> int:
    """Every launch of some rows tried."""
    for name, found in tunings(chip).items():
        for tuning in found if name in names else []:
            known = done.setdefault(f"tune {tuning.where}", {})
            rows = []
            for row in tune_cuda.tried(tuning, lambda work: chip.best(work, repeats=3), known):
                rows.append(row)
                known[row["launch"]] = {k: v for k, v in row.items() if k in ("us", "off", "error")}
                keep()
            print(tune_cuda.table(tuning, rows), flush=True)
    return 0


def tiny(size: int) -> nn.Module:
    """A network for a dry run."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (size - 2) ** 2, 3))


def tiled(chip: Chip, name: str) -> list[Row]:
    """A network on 16 x 16 linear tiles with a 6-bit ADC, batch 128, beside plain torch."""
    net = tiny(8) if chip.small else {"vgg8": vgg8, "googlenet": googlenet}[name]()
    net = net.to(chip.device).eval()
    shape = (2, 3, 8, 8) if chip.small else (128, *input_shape(name))
    images = torch.rand(shape, device=chip.device)
    arrays = convert(net, None, survey(16, g_low=1e-5, g_high=1e-4), calibration=images[:8])
    with torch.no_grad():
        plain, _ = chip.best(lambda: net(images))
        seconds, _ = chip.best(lambda: arrays(images))
        memory, before = chip.peak(lambda: arrays(images)), chip.peak(lambda: net(images))
        graph = captured(arrays, images) if chip.device.type == "cuda" else None
        replay = None if graph is None else chip.best(lambda: graph(images))[0] / plain
    more = {"images/s": len(images) / seconds, "x as a graph": replay, "peak MB": memory, "plain peak MB": before}
    return [Row(f"{name}: 16 x 16 tiles, 6-bit ADC, beside torch", seconds / plain, "x", 3.0, None, "", more)]


def sneaky(chip: Chip, side: int) -> list[Row]:
    """VGG-8 at CIFAR-10 shapes on tiles of sinh cells with 1 ohm lines: the series, to `Config.rtol`."""
    batch, rows = (1, 8) if chip.small else (128, side)
    net = (tiny(4) if chip.small else vgg8()).to(chip.device).eval()
    images = torch.rand((batch, 3, 4, 4) if chip.small else (batch, *input_shape("vgg8")), device=chip.device)
    ohm = 20.0 if chip.small and side > 16 else 1.0  # small tiles of it need several sweeps too
    config = Config(rows=rows, columns=rows, wires=Wires(ohm, ohm, ohm, ohm))
    arrays = convert(net, sinh(B), config, calibration=images[:1])
    few = images if chip.small else images[:8]
    with torch.no_grad():
        rough, _ = chip.best(
            lambda: waiting_once(arrays, few), repeats=1
        )  # so that a slow chip is known before the whole batch
        whole = rough * len(images) / len(few) < 120
        used = images if whole else few
        seconds, _ = chip.best(lambda: waiting_once(arrays, used), repeats=3)
        memory = chip.peak(lambda: waiting_once(arrays, used))
        plain, _ = chip.best(lambda: net(used))
    pairs, slots = SERIES[side]
    roof, bound = chip.roof(2.0 * pairs * slots, 0.0)
    more = {"images/s": len(used) / seconds, "plain images/s": len(used) / plain, "batch": len(used), "peak MB": memory}
    what = f"VGG-8, sinh {side} x {side} tiles, 1 ohm lines"
    return [Row(what, 1e3 * seconds / len(used), "ms/image", None, None if chip.small else 1e3 * roof, bound, more)]


def rows(chip: Chip) -> dict[str, Callable[[], list[Row]]]:
    """All rows by name."""
    few = chip.small
    return {
        "c16": lambda: newton(chip, 8 if few else 16, 2 if few else 65536, None),
        "c32": lambda: newton(chip, 12 if few else 32, 2 if few else 65536, None),
        "c64": lambda: newton(chip, 16 if few else 64, 2 if few else 32768, 1.0),
        "c128": lambda: newton(chip, 65 if few else 128, 1 if few else 8192, 5.0),
        "c256": lambda: newton(chip, 65 if few else 256, 1 if few else 1024, None),
        "program": lambda: dissection(chip),
        "fused": lambda: fused(chip),
        "vgg8": lambda: tiled(chip, "vgg8"),
        "googlenet": lambda: tiled(chip, "googlenet"),
        "lines": lambda: sneaky(chip, 64),
        "lines16": lambda: sneaky(chip, 16),
    }


def as_on_a_gpu() -> None:
    """For a dry run: what would run on a GPU runs by the interpreter."""
    suits = gpu_product.suits

    class There:
        device, dtype = torch.device("cuda"), torch.float32

    gpu_product.suits = lambda chip, x: x.dtype == torch.float32 and suits(chip, There())
    engine.suits, engine.suits_gpu = (lambda circuit: False), (lambda circuit: circuit.floating.none)
    expansion.suits = lambda chip, u: False
    there = gpu_expansion.suits
    gpu_expansion.suits = lambda chip, x: x.dtype == torch.float32 and there(chip, There())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these")
    parser.add_argument("--list", action="store_true", help="names of the rows")
    parser.add_argument("--again", action="store_true", help="measure rows that are in the file too")
    parser.add_argument("--tune", action="store_true", help="try launches of the kernels")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes without a GPU")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="folder for a file of the device, which is gone on with")
    a = parser.parse_args()
    device = torch.device("cpu" if a.dry_run else a.device)
    chip = Chip(device, small=a.dry_run)
    known = rows(chip)
    if a.list:
        print("\n".join(known))
        return 0
    if unknown := set(a.rows or ()) - set(known):
        print(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 1
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --dry-run takes the same code through tiny sizes", file=sys.stderr)
        return 1
    if a.dry_run:
        as_on_a_gpu()
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    print(f"{chip.name}, torch {torch.__version__}, {date}{', dry run: times mean nothing' * a.dry_run}")
    target = a.out / f"cuda_{chip.name.replace(' ', '_')}.json" if a.out else None
    done: dict[str, Any] = json.loads(target.read_text()) if target and target.exists() else {}

    def keep() -> None:
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            part.write_text(json.dumps(done, indent=1) + "\n")
            part.replace(target)

    if a.tune:
        if a.again:
            done = {name: row for name, row in done.items() if not name.startswith("tune ")}
        return tune(chip, a.rows or list(known), done, keep)
    print(f"{'':<58}{'figure':>11} {'':<12}{'target':>7} {'':<8}{'roofline':<24}")
    failed = 0
    for name in a.rows or known:
        if name in done and not a.again:
            for row in done[name]["rows"]:
                print(f"{Row(**row)}  [of {done[name]['date']}]")
            continue
        try:
            found = known[name]()
        except Exception as error:  # the other rows are worth having
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            failed += 1
            continue
        for row in found:
            print(row, flush=True)
        done[name] = {"date": date, "torch": torch.__version__, "rows": [asdict(row) for row in found]}
        keep()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
