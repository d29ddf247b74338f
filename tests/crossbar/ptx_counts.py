"""What the PTX machine executed, by the units of a multiprocessor, and how long an H100 takes at least to issue it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from ptx_text import Instruction, Kernel

MULTIPROCESSORS, CLOCK = 132, 1.755e9  # of an H100 SXM
LANES = {"fp32": 128, "fp64": 64, "integer": 64, "convert": 16, "special": 16, "shuffle": 32}
"""Results a cycle of one multiprocessor of compute capability 9.0 (CUDA C++ Programming Guide, 8.4.1)."""
ISSUED = 4
"""Instructions that the schedulers of a multiprocessor issue a cycle, each for 32 threads."""
EXPANDED = {
    "div.full.f32": ("fp32 fp32 fp32 fp32 fp32 special", 6),
    "div.approx.f32": ("fp32 fp32 special", 3),
    "sqrt.approx": ("fp32 fp32 special", 3),
    "div.rn.f64": ("fp64 " * 8 + "special", 16),
    "sqrt.rn.f64": ("fp64 " * 8 + "special", 16),
    "max.f64": ("fp64 integer integer", 3),
    "min.f64": ("fp64 integer integer", 3),
    "selp.f64": ("integer integer", 2),
    "div.s32": ("integer " * 12 + "special convert convert", 16),
}
"""Roughly what the assembler makes of instructions that hardware does not have: units used, instructions."""


def unit(i: Instruction) -> str:
    """Which unit executes an instruction."""
    name, kind = i.parts[0], i.parts[-1]
    if name in ("mov", "ret", "exit") or i.parts[:2] == ("ld", "param"):
        return "move"
    if name in ("bra", "trap"):
        return "branch"
    if name in ("bar", "barrier", "fence"):
        return "barrier"
    if name in ("shfl", "vote", "redux"):
        return "shuffle"
    if name in ("mma", "wgmma"):
        return "tensor"
    if name in ("ld", "st", "cp", "ldmatrix", "stmatrix"):
        space = next((p for p in i.parts if p.split("::")[0] in ("global", "shared", "local")), "shared").split("::")[0]
        return "shared and global" if name == "cp" else space
    if name == "cvt":
        return "convert" if {"f32", "f64"} & set(i.parts) and "tf32" not in i.parts else "integer"
    if name in ("ex2", "lg2", "sin", "cos", "tanh", "rcp", "rsqrt", "sqrt"):
        return "special"
    if name in ("min", "max", "selp", "setp") and kind != "f64":
        return "integer"
    return {"f32": "fp32", "f64": "fp64"}.get(kind, "integer")


def counted(kernel: Kernel, executed: Any) -> Counter[str]:
    """Instructions of warps by unit, and `issued`, all of them without moves between registers."""
    total = Counter[str]()
    for block, times in zip(kernel.blocks, executed, strict=True):
        for i in block.instructions:
            units, slots = [unit(i)], 0 if unit(i) == "move" else 1
            for name, (parts, many) in EXPANDED.items():
                if i.opcode.startswith(name):
                    units, slots = parts.split(), many
            if (
                units == ["integer"]
                and "64" in i.parts[-1]
                and i.parts[0] in ("add", "sub", "selp", "and", "or", "shl", "mul", "mad")
            ):
                units, slots = ["integer"] * 2, 2
            for name in units:
                total[name] += int(times)
            total["issued"] += slots * int(times)
    return total


def traffic(space: str, verb: str, address: Any, size: int, threads: Any) -> Counter[str]:
    """Bytes of an access, and how often memory is asked: sectors of 32 bytes, or passes over the banks."""
    warp = (threads >> 5).astype(np.int64)
    first = address.astype(np.int64)
    words = (first[:, None] // 4 + np.arange(-(-size // 4))).ravel()
    of = np.repeat(warp, -(-size // 4))
    if space == "global":
        sectors = len(np.unique((of << 48) + words // 8 % (1 << 48)))
        return Counter({f"global bytes {verb}": size * len(first), f"global sectors {verb}": sectors})
    distinct = np.unique((of << 40) + words)
    banks = np.bincount((distinct >> 40) * 32 + distinct % 32, minlength=32 * (int(warp.max()) + 1)).reshape(-1, 32)
    return Counter({"shared passes": int(banks.max(1).sum())})


@dataclass(frozen=True)
class Bound:
    """Cycles of one multiprocessor that one unit is busy with one vector."""

    cycles: dict[str, float]

    @property
    def by(self) -> str:
        return max(self.cycles, key=lambda name: self.cycles[name])

    @property
    def seconds(self) -> float:
        """A vector, with all multiprocessors at work."""
        return self.cycles[self.by] / MULTIPROCESSORS / CLOCK


def bound(counts: Counter[str], vectors: int) -> Bound:
    """Computed, not measured: as if nothing ever waited for anything."""
    cycles = {"issue": counts["issued"] / ISSUED}
    cycles |= {name: 32 * counts[name] / lanes for name, lanes in LANES.items()}
    cycles["shuffles and shared memory"] = counts["shuffle"] + counts["shared passes"]
    return Bound({name: value / vectors for name, value in cycles.items()})
