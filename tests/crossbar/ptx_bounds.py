"""Count what the compiled Newton kernels execute for a vector, and compute how fast an H100 can issue it.

python tests/crossbar/ptx_bounds.py resident [--side 64] [--kind sinh] [--double]
python tests/crossbar/ptx_bounds.py blocked [--side 128]

The array is that of `bench_cuda.py`: conductances log-uniform in 1e-6 to 1e-3 S, sinh(3 v), 0 to 0.2 V, lines of 1 ohm.
Computed, not measured: the bound holds if nothing ever waits, for memory, for a barrier or for the result of another
instruction. Instructions are PTX, of which an assembler makes more or fewer; both numbers are told.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import triton

sys.path.insert(0, str(Path(__file__).parents[2]))

from ptx_counts import LANES, bound
from ptx_device import Device, Launch

from crossbar import Ohmic, Sinh, Wires, engine, gpu
from crossbar.bias import fit

UNITS = ("issued", *LANES, "shared", "global", "barrier", "branch")


def counted(kernel: str, side: int, kind: str, *, double: bool, vectors: int = 1) -> Launch:
    """One launch for vectors of the benchmark's array, all of it counted.

    Raises:
        RuntimeError: If the kernel finds the array too hard, or the machine finds a fault.
    """
    rng = np.random.default_rng(0)
    real = torch.float64 if double else torch.float32
    g = torch.tensor(10 ** rng.uniform(-6, -3, (side, side)), dtype=real)
    v = torch.tensor(rng.uniform(0, 0.2, (vectors, side)), dtype=real)
    cells = Sinh(g, 3.0) if kind == "sinh" else Ohmic(g)
    drive = fit(v, cells.shape, cells.dtype, cells.device)
    circuit = engine._circuit(cells, drive, Wires(1.0, 1.0, 1.0, 1.0))
    device = Device(counting=True)
    with pytest.MonkeyPatch.context() as patch, device.active():
        patch.setattr(gpu, "LARGEST_RESIDENT", 64 if kernel == "resident" else 0)
        solved = gpu.solve_gpu(circuit, drive.v_wl, drive.v_bl, 1e-9 if double else 1e-5, voltages=False)
    if solved is None or device.findings:
        raise RuntimeError(f"{kernel} of {side} x {side}: {device.findings or 'too hard'}")
    (launch,) = (one for one in device.launches if one.name == kernel)
    launch.report.counts["applications"] = solved.iterations
    return launch


def assembled(launch: Launch) -> int:
    """Instructions of the machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(launch.binary)
        file.flush()
        text = subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout
    return sum(1 for line in text.splitlines() if re.match(r"\s+/\*[0-9a-f]{4,}\*/", line) and " NOP" not in line)


def told(launch: Launch, vectors: int = 1) -> list[str]:
    """Instructions by unit, traffic and the bound, in lines for people."""
    counts, machine = launch.report.counts, launch.machine
    limit = bound(counts, vectors)
    ptx = sum(len(block.instructions) for block in machine.kernel.blocks)
    rate = " ".join(f"{name} {counts[name] / vectors:,.0f}" for name in UNITS)
    memory = ", ".join(
        f"{name} {counts[name] / vectors:,.0f}"
        for name in ("global bytes read", "global bytes written", "shared passes")
    )
    cycles = ", ".join(
        f"{name} {value:,.0f}" for name, value in sorted(limit.cycles.items(), key=lambda item: -item[1]) if value >= 1
    )
    return [
        f"{machine.warps} warps, {counts['applications']} applications of the line operator;"
        f" {ptx} instructions of PTX, {assembled(launch)} of machine code",
        f"instructions of warps a vector: {rate}",
        f"memory a vector: {memory}",
        f"cycles of one multiprocessor a vector, computed: {cycles}",
        f"bound by {limit.by}: {1e6 * limit.seconds:.3f} us a vector with 132 multiprocessors at 1.755 GHz, computed",
    ]


def show_counts(kernel: str, side: int | None, kind: str, *, double: bool) -> None:
    """Print the counts of one kernel; 64 x 64 for `resident` and 128 x 128 for `blocked` unless a side is given."""
    if kernel not in ("resident", "blocked") or kind not in ("ohmic", "sinh"):
        raise SystemExit(f"counts are for resident and blocked, ohmic and sinh, not {kernel}, {kind}")
    side = side or (64 if kernel == "resident" else 128)
    print(f"{kernel} {side} x {side}, {kind}, {'float64, 1e-9' if double else 'float32, 1e-5'}")
    for line in told(counted(kernel, side, kind, double=double)):
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", choices=["resident", "blocked"])
    parser.add_argument("--side", type=int, help="rows and columns of the tile; 64 for resident, 128 for blocked")
    parser.add_argument("--kind", choices=["ohmic", "sinh"], default="sinh")
    parser.add_argument("--double", action="store_true", help="float64 cells to 1e-9 instead of float32 to 1e-5")
    a = parser.parse_args()
    show_counts(a.kernel, a.side, a.kind, double=a.double)


if __name__ == "__main__":
    main()
