"""Compile the Triton kernels to machine code without a GPU, and say what registers they take.

python tests/crossbar/compile_gpu_kernels.py resident [--kind sinh] [--arch 90] [--side 64] [--warps 8] [--single]
python tests/crossbar/compile_gpu_kernels.py tiled [--kind polynomial] [--arch 90] [--rows 16] [--noise] [--digits 1]
python tests/crossbar/compile_gpu_kernels.py prepared [--kind polynomial] [--noise]
python tests/crossbar/compile_gpu_kernels.py first [--kind polynomial] [--arch 90] [--with PARTS=1 EVEN=0 ...]
python tests/crossbar/compile_gpu_kernels.py swept [--kind polynomial] [--arch 90] [--side 64] [--with FINE=1 ...]

Arrays are taken to begin at multiples of 16 bytes and sizes to be multiples of 16, as Triton finds them at a launch.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[2]))

from crossbar import gpu, gpu_blocked, gpu_expansion_kernel, gpu_kernel, gpu_product, gpu_product_kernel
from crossbar.gpu_packing import MOST_WHOLE_BITS

KINDS = {"ohmic": 0, "sinh": 1, "table": 2, "polynomial": 3}
LAWS = {"linear": 0, "polynomial": 1, "table": 2, "signs": 3}
ALIGNED = {"m", "n", "wl_stride", "bl_stride", "cell_stride", "rank_stride"}
"""Sizes that are multiples of 16 in tiles of 16, 32, 64 and more lines."""


def compiled(name: str, kind: int, launch: gpu.Launch, *, arch: int, side: int, single: bool) -> tuple[str, int]:
    """What ptxas says of one kernel, and the shared memory of one program [bytes]."""
    kernel = gpu_kernel.resident if name == "resident" else gpu_blocked.blocked
    real, acc = ("*fp32", gpu_kernel.tl.float32) if single else ("*fp64", gpu_kernel.tl.float64)
    sums = "v_wl v_bl nodes pieces to_driver to_sense i_out v_out outer"
    types = dict.fromkeys(sums.split(), real) | dict.fromkeys(("g", "b", "extremes", "residual", "inner"), "*fp32")
    types |= {"bins": "*i32", "counts": "*i32", "rtol": "fp32"}
    choices = {
        "KIND": kind,
        "HALVINGS": 2,
        "RANKS": 2,
        "REFINE": 2 if kind != KINDS["polynomial"] else 8,
        "WORDS_ALIKE": True,
        "BITS_ALIKE": True,
        "KEEP": False,
        "ACC": acc,
    } | gpu.blocks(launch, side, side if name == "resident" else None)
    warps, most = launch.warps, launch.registers
    return assembled(kernel, types, choices, arch=arch, warps=warps, even=ALIGNED, registers=most)


def tiled(
    law: int,
    *,
    arch: int,
    rows: int,
    columns: int = 128,
    noise: int = 0,
    digits: int = 0,
    log: bool = False,
    sensed: bool = False,
    images: bool = True,
    dac: int = 7,
    few: bool = False,
) -> tuple[str, int]:
    """The same of the fused product, in the blocks that it would be launched with."""
    kernel = gpu_product_kernel.tiled
    types = dict.fromkeys(["peak", "back", "step", "zero", "limit", "loud", "unit", "base", "out"], "*fp32")
    types |= dict.fromkeys(("weights", "variances"), "*fp16")
    types |= dict.fromkeys(("words", "offsets", "corners", "digits"), "*i32")
    types |= {"noise": "*i64", "thermal": "fp32", "most": "fp32", "decades": "fp32"}
    features = 1 if law == LAWS["linear"] else 2
    noisy = min(noise, 1) if digits == 1 else noise.bit_count()
    on = gpu_product.launch(
        16 if few else 4096, columns, rows, features, noise=noisy, digits=digits > 0, plain=not (log or sensed)
    )
    planes = -(-(dac - 1) // digits) if digits else 1
    ends = digits == 1 and law != LAWS["linear"]
    choices = {
        "KIND": LAWS["signs"] if ends else law,
        "FEATURES": features,
        "CHANNELS": 1,
        "WHOLE": 2 if digits else int(0 < dac <= MOST_WHOLE_BITS and law in (LAWS["linear"], LAWS["signs"])),
        "DAC_STEPS": 2 ** (dac - 1) - 1 if dac else 0,
        "PER_IMAGE": False,
        "LAW": 2 if log else 1,
        "LONG": False,
        "ANALOG": False,
        "SENSED": sensed,
        "NOISE": min(noise, 1) if digits == 1 else noise,
        "SHIFTED": False,
        "PLANES": planes,
        "DIGIT": digits,
        "TOGETHER": min(on.digits, planes),
        "IMAGES": images,
        "PLAIN": not images,
        "WIDE": False,
        "ONE": rows <= on.rows,
        "BM": on.vectors,
        "BN": on.columns,
        "BK": on.rows,
    }
    even = {"width", "half", "quiet", "rows"} | (set() if images else {"image_stride", "idle"})
    return assembled(kernel, types, choices, arch=arch, warps=on.warps, stages=on.stages, even=even)


def prepared(law: int, *, arch: int, noise: int, dac: int = 7) -> tuple[str, int]:
    """The same of the program that makes the inputs of the fused product."""
    reals = dict.fromkeys(["x", "peak", "sizes", "nodes", "coefficients"], "*fp32")
    types = reals | {"bins": "*i32", "words": "*i32", "thermal": "fp32"}
    choices = {
        "KIND": law,
        "FEATURES": 1 if law == LAWS["linear"] else 2,
        "TERMS": 8,
        "REFINE": 2,
        "DAC_STEPS": 2 ** (dac - 1) - 1,
        "WHOLE": int(law in (LAWS["linear"], LAWS["signs"])),
        "CLAMP": True,
        "PER_IMAGE": False,
        "NOISE": noise > 0,
        "SHIFTED": False,
        "BLOCK": gpu_product.BLOCK,
        "WIDE": False,
    }
    return assembled(gpu_product_kernel.prepared, types, choices, arch=arch, warps=4, even={"total"})


def series(name: str, table: bool, *, arch: int, side: int, changes: dict[str, Any]) -> tuple[str, int]:
    """The same of the series: `first` order, or `swept` tiles; sinh cells, no converters unless changed."""
    reals = "x per_unit planes cells word bit step gain zero limit nodes coefficients factor base out"
    wholes = "lines corners to bins sweeps plus minus"
    types = dict.fromkeys(reals.split(), "*fp32") | dict.fromkeys(wholes.split(), "*i32")
    types |= dict.fromkeys(("per_volt", "v_read", "most", "even", "last", "unit"), "fp32")
    choices = {
        "RANKS": 2 if table else 1,
        "TERMS": 4 if table else 6,
        "TABLE": table,
        "REFINE": 2,
        "DAC_STEPS": 0,
        "CLAMP": False,
        "CONVERT": False,
        "ANALOG": True,
        "SENSED": False,
        "SHIFTED": False,
    }
    if name == "first":
        choices |= {"CHANNELS": 1, "PARTS": 2, "EVEN": True, "BM": 128, "BN": 16 if table else 32}
        return assembled(gpu_expansion_kernel.first, types, choices | changes, arch=arch, warps=4, even={"width"})
    choices |= {"SLICES": 1, "ARRAYS": 2, "MINUS": True, "APART": 1, "PICK": False, "ALIKE": True, "EXACT": True}
    choices |= {"FINE": False, "BV": max(1, 64 // side), "RP": side, "CP": side} | changes
    if choices["ALIKE"]:
        types |= dict.fromkeys(("word", "bit"), "*fp16")
    warps = max(4, choices["BV"] * choices["RP"] * choices["CP"] // 1024)
    return assembled(gpu_expansion_kernel.swept, types, choices, arch=arch, warps=warps, even={"width"})


def assembled(
    kernel: Any,
    types: dict[str, str],
    choices: dict[str, Any],
    *,
    arch: int,
    warps: int,
    stages: int = 3,
    even: Iterable[str] = (),
    registers: int | None = None,
) -> tuple[str, int]:
    """What ptxas says of one kernel, and the shared memory of one program [bytes]; arguments are int32 by default.

    Pointers, and numbers that are `even`, are multiples of 16, which a launch would find.
    """
    names = kernel.arg_names
    signature = {arg: types.get(arg, "constexpr" if arg in choices else "i32") for arg in names}
    constants = {(names.index(arg),): value for arg, value in choices.items()}
    whole = {arg for arg in names if signature[arg].startswith("*")} | set(even)
    attributes = {(names.index(arg),): [["tt.divisibility", 16]] for arg in whole}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True} | (
        {"maxnreg": registers} if registers else {}
    )
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
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
    parser.add_argument("kernel", choices=["resident", "blocked", "tiled", "prepared", "first", "swept"])
    parser.add_argument("--kind", choices=list(KINDS | LAWS), help="of cells; all unless given")
    parser.add_argument("--arch", type=int, default=90, help="compute capability, e.g. 80 or 90")
    parser.add_argument("--side", type=int, help="rows and columns of a tile, a power of two")
    parser.add_argument("--warps", type=int, help="those of `gpu.RESIDENT` and `gpu.BLOCKED` unless given")
    parser.add_argument("--registers", type=int, help="most of a thread")
    parser.add_argument("--single", action="store_true", help="float32 throughout")
    parser.add_argument("--rows", type=int, default=16, help="word lines of a tile, for `tiled`")
    parser.add_argument("--noise", action="store_true", help="with noise of reads, for `tiled`")
    parser.add_argument("--columns", type=int, default=128, help="of the matrix, for `tiled`")
    parser.add_argument("--digits", type=int, default=0, help="bits of a read of bit-serial inputs, for `tiled`")
    parser.add_argument("--dac", type=int, default=7, help="bits of an input; 0 without a DAC, for `tiled`")
    parser.add_argument("--log", action="store_true", help="with a logarithmic ADC, for `tiled`")
    parser.add_argument("--sensed", action="store_true", help="with a sense circuit, for `tiled`")
    parser.add_argument("--vectors", action="store_true", help="of vectors and not images, for `tiled`")
    parser.add_argument("--few", action="store_true", help="in blocks for few vectors, for `tiled`")
    parser.add_argument("--with", dest="changes", nargs="+", default=[], metavar="NAME=VALUE", help="of the series")
    parser.add_argument("--count", action="store_true", help="what a vector executes, for `resident` and `blocked`")
    a = parser.parse_args()
    if a.count:
        from ptx_bounds import show_counts

        show_counts(a.kernel, a.side, a.kind or "sinh", double=not a.single)
        return
    if a.kernel in ("first", "swept"):
        changes = {name: int(value) for name, value in (change.split("=") for change in a.changes)}
        for label in [a.kind] if a.kind else ["polynomial", "table"]:
            said, shared = series(a.kernel, label == "table", arch=a.arch, side=a.side or 64, changes=changes)
            show(" ".join([a.kernel, label, *a.changes]), said, shared, warps=4)
        return
    for label in [a.kind] if a.kind else LAWS:
        noise = 1 if a.noise else 0
        if a.kernel == "prepared":
            show(f"prepared, {label}", *prepared(LAWS[label], arch=a.arch, noise=noise), warps=4)
        if a.kernel == "tiled":
            said, shared = tiled(
                LAWS[label], arch=a.arch, rows=a.rows, columns=a.columns, noise=noise, digits=a.digits, log=a.log,
                sensed=a.sensed, images=not a.vectors, dac=a.dac, few=a.few,
            )  # fmt: skip
            show(f"tiled, rows of {a.rows}, {label}", said, shared, warps=4)
    if a.kernel in ("prepared", "tiled"):
        return
    side = a.side or (32 if a.kernel == "resident" else 128)
    launch = (gpu.in_scratch if a.kernel == "blocked" else gpu.on_chip)(side, single=a.single)
    if a.warps or a.registers:
        launch = gpu.Launch(a.warps or launch.warps, a.registers)
    for label in [a.kind] if a.kind else KINDS:
        said, shared = compiled(a.kernel, KINDS[label], launch, arch=a.arch, side=side, single=a.single)
        show(f"{a.kernel} {side} wide, {label}, {launch.warps} warps", said, shared, launch.warps)


def show(name: str, said: str, shared: int, warps: int = 0) -> None:
    """Registers, spills and shared memory in one line; for programs of `warps`, how many fit a multiprocessor."""
    told = [line.split(":")[-1].strip() for line in said.splitlines() if "spill" in line or "registers" in line]
    fit = ""
    if warps and (found := re.search(r"Used (\d+) registers", said)):
        each = -(-int(found[1]) // 8) * 8 * 32 * warps
        fit = f"; {min(65536 // each, 232448 // (shared + 1024), 64 // warps)} programs on a multiprocessor"
    print(f"{name}: {'; '.join(told)}; {shared} bytes shared{fit}", flush=True)


if __name__ == "__main__":
    main()
