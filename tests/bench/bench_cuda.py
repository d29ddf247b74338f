"""Time, error and memory of the array engine on a GPU.

    python tests/bench/bench_cuda.py [--only c|b|network] [--out tests/bench/results]

Arrays: conductances log-uniform 1e-6..1e-3 S, inputs 0..0.2 V, 1 ohm a segment and terminal, float32.

c: sinh(3 v) cells solved to a relative residual of 1e-5 by the Triton kernels, beside the same method in plain torch on
   the same device, and beside what the chip could do: the operations that the iterations need, over the chip's peak of
   float32, and the bytes that must come from memory once, over its measured bandwidth. The error is against float64 on
   the CPU.
b: ohmic tiles made into one matrix each; then products with it beside `torch.matmul` with the plain conductances.
network: VGG-8 at CIFAR-10 shapes, batch 128: non-linear 64 x 64 tiles with 1 ohm lines.

Without a GPU, `--device cpu --small` runs the same code where it can be checked; its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).parents[2])]

from crossbar import Sinh, Wires, effective_conductance, engine, solve  # noqa: E402

WIRES = Wires(1.0, 1.0, 1.0, 1.0)
B = 3.0  # 1/V
RTOL = 1e-5
PER_APPLICATION = 18  # operations a cell: two running sums a line, three products of vectors, three updates
PER_LAW = 60  # current and conductance of a sinh cell and the residual, in float32


class Clock:
    """Shortest time of a few runs on one device [s]."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def best(self, work: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
        result, times = work(), []  # the first run compiles
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            result = work()
            self.wait()
            times.append(time.perf_counter() - start)
        return min(times), result

    def peak(self, work: Callable[[], Any]) -> float | None:
        """Peak memory of the device while working [MB]; None on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) / 2**20


def array(n: int, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    g, v = 10 ** rng.uniform(-6, -3, (n, n)), rng.uniform(0, 0.2, (batch, n))
    return torch.tensor(g, dtype=torch.float32, device=device), torch.tensor(v, dtype=torch.float32, device=device)


def chip(device: torch.device, clock: Clock) -> dict[str, float]:
    """Peak of float32 [1/s] from the clock rate, and measured bandwidth of memory [B/s]."""
    block = torch.empty(2**28 if device.type == "cuda" else 2**22, dtype=torch.float32, device=device)
    seconds, _ = clock.best(lambda: block.clone())
    bandwidth = 2 * block.numel() * 4 / seconds
    if device.type != "cuda":
        return {"bandwidth": bandwidth, "float32": float("nan")}
    properties = torch.cuda.get_device_properties(device)
    hertz = 1e3 * getattr(properties, "clock_rate", 1.755e6)
    return {"bandwidth": bandwidth, "float32": properties.multi_processor_count * 128 * 2 * hertz}


def nonlinear(sizes: dict[int, int], device: torch.device, clock: Clock) -> list[dict[str, float]]:
    limits, rows = chip(device, clock), []
    print("\nc. Sinh cells with line resistance")
    print("   tile  vectors  us a vector  plain torch  ratio  steps     error  of peak  bytes' bound us  peak MB")
    for n, batch in sizes.items():
        g, v = array(n, batch, device)
        cells = Sinh(g, B)
        seconds, found = clock.best(lambda c=cells, v=v: solve(c, v, WIRES, rtol=RTOL))
        memory = clock.peak(lambda c=cells, v=v: solve(c, v, WIRES, rtol=RTOL))
        few = min(batch, 64)
        suits = engine.suits, engine.suits_gpu
        engine.suits = engine.suits_gpu = lambda circuit: False
        plain, _ = clock.best(lambda c=cells, v=v: solve(c, v[:few], WIRES, rtol=RTOL), repeats=2)  # noqa: B023
        engine.suits, engine.suits_gpu = suits
        exact = solve(Sinh(g[:, :].double().cpu(), B), v[:8].double().cpu(), WIRES, rtol=1e-10).i_out
        error = ((found.i_out[:8].double().cpu() - exact).abs().max() / exact.abs().max()).item()
        operations = n * n * (found.iterations * PER_APPLICATION + 4 * PER_LAW)
        each, share = seconds / batch, operations * batch / seconds / limits["float32"]
        bound = 4 * (2 * n + n * n / batch) / limits["bandwidth"]
        row = {
            "tile": n,
            "vectors": batch,
            "us": 1e6 * each,
            "plain_us": 1e6 * plain / few,
            "steps": found.iterations,
            "error": error,
            "share_of_peak": share,
            "bytes_us": 1e6 * bound,
            "peak_MB": memory or 0.0,
        }
        rows.append(row)
        print(
            f"{n:7} {batch:8} {row['us']:12.3f} {row['plain_us']:12.1f} {row['plain_us'] / row['us']:6.0f}"
            f" {found.iterations:6} {error:9.1e} {share:8.1%} {row['bytes_us']:16.4f} {row['peak_MB']:8.0f}",
            flush=True,
        )
    return rows


def linear(n: int, tiles: int, device: torch.device, clock: Clock) -> dict[str, float]:
    print(f"\nb. {tiles} ohmic tiles of {n} x {n} with line resistance, float32")
    rng = torch.Generator(device=device).manual_seed(0)
    g = 10 ** (-6 + 3 * torch.rand(tiles, n, n, generator=rng, device=device))
    part = max(1, min(tiles, 2**31 // (4 * 12 * n * n)))  # tiles whose working arrays take about 2 GB

    def program() -> Tensor:
        return torch.cat([effective_conductance(some, WIRES) for some in g.split(part)])

    seconds, matrices = clock.best(program, repeats=2)
    memory = clock.peak(program)
    exact = effective_conductance(g[:2].double().cpu(), WIRES)
    error = ((matrices[:2].double().cpu() - exact).abs().max() / exact.abs().max()).item()
    v = torch.rand(tiles, 256 if device.type == "cuda" else 8, n, generator=rng, device=device)
    plain, _ = clock.best(lambda: torch.matmul(v, g))
    product, _ = clock.best(lambda: torch.matmul(v, matrices))
    print(f"   programmed in {seconds:.3f} s ({1e6 * seconds / tiles:.1f} us a tile), error {error:.1e}", end="")
    print(f", peak {memory:.0f} MB" if memory else "")
    print(f"   inference {product / plain:.2f} of the plain product")
    return {
        "tile": n,
        "tiles": tiles,
        "program_s": seconds,
        "error": error,
        "inference": product / plain,
        "peak_MB": memory or 0.0,
    }


def network(batch: int, device: torch.device, clock: Clock) -> dict[str, float]:
    from bench_networks import sinh  # the device of the comparisons

    from crossbar import Config, convert
    from crossbar.zoo import vgg8

    print("\nnetwork. VGG-8 at CIFAR-10 shapes, 64 x 64 non-linear tiles with 1 ohm lines")
    net = vgg8().to(device).eval()
    images = torch.rand(batch, 3, 32, 32, device=device)
    arrays = convert(net, sinh(B), Config(rows=64, columns=64, wires=WIRES), calibration=images[:8])
    with torch.no_grad():
        plain, _ = clock.best(lambda: net(images))
        seconds, _ = clock.best(lambda: arrays(images), repeats=1)
        memory = clock.peak(lambda: arrays(images))
    print(f"   {batch / seconds:.3g} images/s, plain torch {batch / plain:.4g} images/s, peak {memory or 0:.0f} MB")
    return {"images_per_s": batch / seconds, "plain_images_per_s": batch / plain, "peak_MB": memory or 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["c", "b", "network"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes for a check without a GPU")
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON, named after date and device")
    a = parser.parse_args()
    device = torch.device(a.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --small checks the code", file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    now = datetime.now(UTC)
    print(f"{name}, torch {torch.__version__}, {now:%Y-%m-%d}")
    clock = Clock(device)
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "date": f"{now:%Y-%m-%d}"}
    if a.only in (None, "c"):
        sizes = {16: 4, 32: 4} if a.small else {16: 65536, 32: 65536, 64: 16384, 128: 4096, 256: 512}
        results["c"] = nonlinear(sizes, device, clock)
    if a.only in (None, "b"):
        results["b"] = linear(16 if a.small else 128, 20 if a.small else 10_000, device, clock)
    if a.only in (None, "network"):
        results["network"] = network(1 if a.small else 128, device, clock)
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        target = a.out / f"cuda_{now:%Y%m%d}_{name.replace(' ', '_')}.json"
        target.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
