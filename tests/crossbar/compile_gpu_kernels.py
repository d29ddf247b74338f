"""Compile the Triton kernels to machine code without a GPU, and say what registers they take.

python tests/crossbar/compile_gpu_kernels.py resident [--kind sinh] [--arch 90] [--side 64] [--warps 8] [--single]
python tests/crossbar/compile_gpu_kernels.py tiled [--kind polynomial] [--arch 90] [--rows 16] [--noise]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[2]))

from crossbar import gpu_blocked, gpu_kernel, gpu_product_kernel

KINDS = {"ohmic": 0, "sinh": 1, "table": 2, "polynomial": 3}
LAWS = {"linear": 0, "polynomial": 1, "table": 2, "signs": 3}


def compiled(name: str, kind: int, *, arch: int, side: int, warps: int, single: bool) -> tuple[str, int]:
    """What ptxas says of one kernel, and the shared memory of one program [bytes]."""
    kernel = gpu_kernel.resident if name == "resident" else gpu_blocked.blocked
    real, acc = ("*fp32", gpu_kernel.tl.float32) if single else ("*fp64", gpu_kernel.tl.float64)
    sums = "v_wl v_bl nodes pieces word_segments bit_segments i_out v_out outer"
    types = dict.fromkeys(sums.split(), real) | dict.fromkeys(("g", "b", "extremes", "residual", "inner"), "*fp32")
    types |= {"bins": "*i32", "counts": "*i32", "rtol": "fp32"}
    rows = side if name == "resident" else min(16, 2048 // side)
    choices = {
        "KIND": kind,
        "HALVINGS": 2,
        "RANKS": 2,
        "REFINE": 2 if kind != KINDS["polynomial"] else 8,
        "ROWS": rows,
        "COLUMNS": side,
        "WORDS_ALIKE": True,
        "BITS_ALIKE": True,
        "KEEP": False,
        "ACC": acc,
    }
    return assembled(kernel, types, choices, arch=arch, warps=warps)


def tiled(law: int, *, arch: int, rows: int, noise: bool) -> tuple[str, int]:
    """The same of the fused product."""
    kernel = gpu_product_kernel.tiled
    reals = "x per_unit weights step zero limit spread shot nodes coefficients factor base out"
    types = dict.fromkeys(reals.split(), "*fp32") | dict.fromkeys(("offsets", "corners", "bins"), "*i32")
    types |= {"noise": "*i64", "thermal": "fp32", "v_read": "fp32", "most": "fp32"}
    choices = {
        "KIND": law,
        "FEATURES": 1 if law == LAWS["linear"] else 2,
        "TERMS": 8,
        "REFINE": 2,
        "CHANNELS": 1,
        "DAC_STEPS": 63,
        "CLAMP": True,
        "CONVERT": True,
        "ANALOG": False,
        "SENSED": False,
        "NOISE": noise,
        "SHIFTED": False,
        "PRECISION": "tf32x3",
        "BM": 64,
        "BN": 32,
        "BK": 32 if rows > 16 else 16,
    }
    return assembled(kernel, types, choices, arch=arch, warps=4)


def assembled(kernel: Any, types: dict[str, str], choices: dict[str, Any], *, arch: int, warps: int) -> tuple[str, int]:
    """What ptxas says of one kernel, and the shared memory of one program [bytes]; arguments are int32 by default."""
    names = kernel.arg_names
    signature = {arg: types.get(arg, "constexpr" if arg in choices else "i32") for arg in names}
    source = ASTSource(kernel, signature, constexprs={(names.index(arg),): value for arg, value in choices.items()})
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": warps})
    binaries = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    assembler = sorted(binaries.glob("ptxas*"))[-1]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.asm["ptx"])
        file.flush()
        command = [assembler, "-v", f"-arch=sm_{arch}{'a' if arch == 90 else ''}", file.name, "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr, made.metadata.shared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", choices=["resident", "blocked", "tiled"])
    parser.add_argument("--kind", choices=list(KINDS | LAWS), help="of cells; all unless given")
    parser.add_argument("--arch", type=int, default=90, help="compute capability, e.g. 80 or 90")
    parser.add_argument("--side", type=int, help="rows and columns of a tile, a power of two")
    parser.add_argument("--warps", type=int)
    parser.add_argument("--single", action="store_true", help="float32 throughout")
    parser.add_argument("--rows", type=int, default=16, help="word lines of a tile, for `tiled`")
    parser.add_argument("--noise", action="store_true", help="with noise of reads, for `tiled`")
    a = parser.parse_args()
    if a.kernel == "tiled":
        for label in [a.kind] if a.kind else LAWS:
            show(f"tiled, rows of {a.rows}, {label}", *tiled(LAWS[label], arch=a.arch, rows=a.rows, noise=a.noise))
        return
    side = a.side or (32 if a.kernel == "resident" else 128)
    warps = a.warps or (4 if a.kernel == "resident" else 8)
    for label in [a.kind] if a.kind else KINDS:
        said, shared = compiled(a.kernel, KINDS[label], arch=a.arch, side=side, warps=warps, single=a.single)
        show(f"{a.kernel} {side} wide, {label}, {warps} warps", said, shared)


def show(name: str, said: str, shared: int) -> None:
    """Registers, spills and shared memory in one line."""
    told = [line.split(":")[-1].strip() for line in said.splitlines() if "spill" in line or "registers" in line]
    print(f"{name}: {'; '.join(told)}; {shared} bytes shared", flush=True)


if __name__ == "__main__":
    main()
