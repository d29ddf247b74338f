"""Compile the Triton kernels to machine code without a GPU, and say what registers they take.

python tests/crossbar/compile_gpu_kernels.py resident [--kind sinh] [--arch 90] [--side 64] [--warps 8] [--single]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[2]))

from crossbar import gpu_kernel

KINDS = {"ohmic": 0, "sinh": 1, "table": 2, "polynomial": 3}


def compiled(name: str, kind: int, *, arch: int, side: int, warps: int, single: bool) -> tuple[str, int]:
    """What ptxas says of one kernel, and the shared memory of one program [bytes]."""
    kernel = getattr(gpu_kernel, name)
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
    parser.add_argument("kernel", choices=["resident", "blocked"])
    parser.add_argument("--kind", choices=list(KINDS), help="of cells; all unless given")
    parser.add_argument("--arch", type=int, default=90, help="compute capability, e.g. 80 or 90")
    parser.add_argument("--side", type=int, help="rows and columns of a tile, a power of two")
    parser.add_argument("--warps", type=int)
    parser.add_argument("--single", action="store_true", help="float32 throughout")
    a = parser.parse_args()
    side = a.side or (32 if a.kernel == "resident" else 128)
    warps = a.warps or (4 if a.kernel == "resident" else 8)
    for label in [a.kind] if a.kind else KINDS:
        said, shared = compiled(a.kernel, KINDS[label], arch=a.arch, side=side, warps=warps, single=a.single)
        told = [line.split(":")[-1].strip() for line in said.splitlines() if "spill" in line or "registers" in line]
        print(f"{a.kernel} {side} wide, {label}, {warps} warps: {'; '.join(told)}; {shared} bytes shared", flush=True)


if __name__ == "__main__":
    main()
