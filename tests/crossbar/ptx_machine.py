"""A machine for tests that executes PTX, what Triton compiles for an H100, on a CPU, and looks for faults.

All threads of one program (block) go as vectors of numpy; those that have parted at a branch go one after the other
until they meet again. It is memcheck (bounds, alignment), initcheck (reads of what nobody has written, in shared memory
and in buffers that torch has left empty) and racecheck (see `ptx_memory`) in one, and counts what it executes.

Arithmetic is exact as the standard has it (numpy's, and fused products rounded once); approximate instructions give the
right number rounded, where hardware may be off by a unit or two in the last place; products on tensor cores take TF32
inputs and add in float64, then round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import ptx_counts
from ptx_code import Translator
from ptx_memory import POISON, SHARED_BASE, Buffer, Clock, Findings, Flags, Memory, Whole
from ptx_tensor import Tensors
from ptx_text import REAL, Block, Kernel

CONSTANTS_BASE = 1 << 56
MOST_STEPS = 20_000_000


@dataclass
class Report:
    """What a launch did."""

    findings: list[Any]
    counts: Counter[str]  # instructions of warps, of all programs together
    programs: int


@dataclass
class _Path:
    """Threads that go together, from a block until they meet the others."""

    at: int
    until: int
    mask: Flags


class _Team:
    """Threads that are advanced in turn: all, or a warp; those that have parted go one after the other."""

    def __init__(self, mask: Flags) -> None:
        self.mask, self.paths = mask, [_Path(0, -1, mask.copy())]


class Machine(Tensors):
    """Runs one launch.

    Args:
        kernel: What to run.
        grid: Number of programs along three axes.
        arguments: Values of the kernel's parameters, pointers as addresses.
        buffers: Global memory.
        shared: Bytes of shared memory of a program.
        schedule: "together", or whose turn it is: "forwards" runs every warp as far as it goes before the next one,
            "backwards" begins with the last.
        counting: Whether sectors of memory and conflicts of banks are counted too.
        uniform: Whether to complain if threads of one program decide on a branch by numbers that are not the same in
            all of them, as they are wherever a sum over an array ends a loop.
    """

    def __init__(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        arguments: Sequence[float],
        buffers: list[Buffer],
        shared: int,
        *,
        schedule: str = "together",
        counting: bool = False,
        uniform: bool = True,
    ) -> None:
        self.kernel, self.grid, self.counting = kernel, (*grid, 1, 1)[:3], counting
        if len(arguments) != len(kernel.parameters):
            raise ValueError(f"{kernel.name} takes {len(kernel.parameters)} arguments, not {len(arguments)}")
        self._arguments = dict(zip((name for name, _ in kernel.parameters), arguments, strict=True))
        self.threads, self.warps = kernel.threads, kernel.threads // 32
        self.findings, self.clock = Findings(), Clock(self.warps)
        grain = 1 if kernel.small else 4
        symbols, constants = dict[str, int](), list[Buffer]()
        for k, (name, value) in enumerate(kernel.constants.items()):
            symbols[name] = CONSTANTS_BASE + (k << 32)
            data = np.frombuffer(value + bytes(-len(value) % 4), np.uint8).copy()
            constants.append(Buffer(name, symbols[name], data, grain, written=True))
        self._local_size, offset = -(-sum(kernel.local.values()) // 4) + 8, 0
        for name, size in kernel.local.items():
            symbols[name], offset = offset, offset + -(-size // 16) * 16
        symbols["global_smem"] = SHARED_BASE
        self._global = Memory([*buffers, *constants], self.findings, self.clock, between_programs=True)
        own = np.zeros(shared + -shared % 4, np.uint8)
        self.shared = Buffer("shared memory", SHARED_BASE, own, grain, written=False)
        self._shared = Memory([self.shared] if shared else [], self.findings, self.clock, between_programs=False)
        self._translator, self._functions = Translator(kernel, symbols, uniform=uniform), dict[tuple[int, bool], Any]()
        self._ends = [_end(kernel, k) for k in range(len(kernel.blocks))]
        self._meets = _meeting(self._ends)
        self.executed, self.extra = np.zeros(len(kernel.blocks), np.int64), Counter[str]()
        self._parameters, self._lanes = dict[Any, Whole](), dict[Any, Any]()
        order = {"together": None, "forwards": range(self.warps), "backwards": range(self.warps)[::-1]}[schedule]
        self._order = None if order is None else list(order)
        every = np.arange(self.threads)
        self.every, self.warp_index = every, every >> 5
        self.tid_x, self.lane, self.warp_of = (a.astype(np.uint32) for a in (every, every & 31, every >> 5))
        none = np.zeros(self.threads, np.uint32)
        self.tid_y = self.tid_z = none
        self.ntid_x, self.ntid_y, self.ntid_z = none + np.uint32(self.threads), none + np.uint32(1), none + np.uint32(1)
        self.nctaid_x, self.nctaid_y, self.nctaid_z = (none + np.uint32(size) for size in self.grid)

    def run(self) -> Report:
        """All programs, one after the other."""
        with np.errstate(all="ignore"):
            for z, y, x in product(*(range(size) for size in reversed(self.grid))):
                self._program((x, y, z))
        counts = ptx_counts.counted(self.kernel, self.executed) + self.extra
        return Report(list(self.findings), counts, int(np.prod(self.grid)))

    def _program(self, place: tuple[int, int, int]) -> None:
        self.clock.program = (place[2] * self.grid[1] + place[1]) * self.grid[0] + place[0]
        self.clock.barrier()
        for name, k in zip("xyz", place, strict=True):
            setattr(self, f"ctaid_{name}", np.full(self.threads, k, np.uint32))
        self.shared.forget()
        self.carry = np.zeros(self.threads, np.bool_)
        self.fences = np.zeros(self.threads, np.int64)
        self.local = np.full((self.threads, self._local_size), POISON, np.uint32)
        self.local_known = np.zeros(self.local.shape, np.bool_)
        self.begin_copies()
        dtypes = {"p": {1: "?"}, REAL: {4: "f4", 8: "f8"}, "u": {1: "u1", 2: "u2", 4: "u4", 8: "u8"}}
        fresh = {key: np.full(self.threads, np.array(-1).astype(f"i{key[1]}").view(dtypes[key[0]][key[1]]))
                 for key in set(self.kernel.registers.values())}  # fmt: skip
        self._registers = [fresh[home] for home in self.kernel.registers.values()]
        self._alive = np.ones(self.threads, np.bool_)
        teams = [_Team(self.every >= 0)] if self._order is None else [_Team(self.warp_index == w) for w in self._order]
        while teams:
            teams = [team for team in teams if self._advance(team)]
            self.clock.barrier()

    def _function(self, k: int, masked: bool) -> Any:
        if (k, masked) not in self._functions:
            self._functions[k, masked] = self._translator.function(k, masked=masked)
        return self._functions[k, masked]

    def _advance(self, team: _Team) -> bool:
        """Execute until the next barrier of the block; whether there is one, or the threads have ended."""
        end = len(self.kernel.blocks)
        for _ in range(MOST_STEPS):
            if not team.paths:
                return False
            path = team.paths[-1]
            path.mask &= self._alive
            if path.at in (path.until, end) or not path.mask.any():
                if path.at == end:
                    self._alive &= ~path.mask
                team.paths.pop()
                continue
            k, whole = path.at, bool(path.mask.all())
            flag = self._function(k, not whole)(self._registers, self, None if whole else path.mask)
            self.executed[k] += self.warps if whole else len(np.unique(self.warp_index[path.mask]))
            kind, target = self._ends[k]
            path.at = target if kind == "jump" else k + 1
            if kind == "barrier":
                if (path.mask != (team.mask & self._alive)).any():
                    self.findings.add("sync", "only some threads come to a barrier", self.kernel.where(k))
                return True
            if kind == "branch":
                taken = flag & path.mask
                if not (path.mask & ~taken).any():
                    path.at = target
                elif taken.any():
                    path.at = self._meets[k]
                    team.paths += [_Path(k + 1, path.at, path.mask & ~taken), _Path(target, path.at, taken)]
        raise RuntimeError(f"{self.kernel.name} does not end")

    # what instructions ask for

    def parameter(self, name: str, dtype: Any) -> Whole:
        if (name, dtype) not in self._parameters:
            value = self._arguments[name]
            if isinstance(value, float):
                made = np.array(value, np.float32 if np.dtype(dtype).itemsize == 4 else np.float64).view(dtype)
            else:
                made = np.array(value & (1 << 8 * np.dtype(dtype).itemsize) - 1, np.uint64).astype(dtype)
            self._parameters[name, dtype] = np.full(self.threads, made)
        return self._parameters[name, dtype]

    def lanes(self, mask: Flags | None) -> Whole:
        return self.every if mask is None else np.flatnonzero(mask)

    def load(self, memory: Memory, address: Whole, size: int, mask: Flags | None, where: str, name: str) -> Whole:
        grain = 1 if self.kernel.small else 4
        lanes = self.lanes(mask)
        if not len(lanes):
            return np.zeros((self.threads, size // grain), np.uint32 if grain == 4 else np.uint8)
        if self.counting:
            self.extra.update(ptx_counts.traffic(name, "read", address[lanes], size, lanes))
        found = memory.read(address[lanes], size, lanes, where)
        if mask is None:
            return found
        out = np.zeros((self.threads, found.shape[1]), found.dtype)
        out[lanes] = found
        return out

    def store(
        self, memory: Memory, address: Whole, values: list[Whole], mask: Flags | None, where: str, name: str
    ) -> None:
        lanes = self.lanes(mask)
        if not len(lanes):
            return
        grain = np.dtype(np.uint8 if self.kernel.small else np.uint32)
        flat = np.stack(values, 1)[lanes].view(grain)
        if self.counting:
            self.extra.update(ptx_counts.traffic(name, "written", address[lanes], flat.nbytes // len(lanes), lanes))
        memory.write(address[lanes], flat, lanes, where, self.fences[lanes])

    def load_global(self, address: Whole, size: int, mask: Flags | None, where: str) -> Whole:
        return self.load(self._global, address, size, mask, where, "global")

    def load_shared(self, address: Whole, size: int, mask: Flags | None, where: str) -> Whole:
        return self.load(self._shared, address, size, mask, where, "shared")

    def store_global(self, address: Whole, values: list[Whole], mask: Flags | None, where: str) -> None:
        self.store(self._global, address, values, mask, where, "global")

    def store_shared(self, address: Whole, values: list[Whole], mask: Flags | None, where: str) -> None:
        self.store(self._shared, address, values, mask, where, "shared")

    def _in_local(self, address: Whole, size: int, lanes: Whole, where: str) -> tuple[Whole, Whole]:
        at = (address[lanes].astype(np.int64) // 4)[:, None] + np.arange(size // 4)
        if (at < 0).any() or (at >= self._local_size - 8).any() or (address[lanes] % np.uint64(size)).any():
            self.findings.add("memcheck", "local memory out of bounds or not aligned", where)
        return lanes[:, None], np.clip(at, 0, self._local_size - 1)

    def load_local(self, address: Whole, size: int, mask: Flags | None, where: str) -> Whole:
        at = self._in_local(address, size, self.lanes(mask), where)
        if not self.local_known[at].all():
            self.findings.add("initcheck", "read of local memory that nobody has written", where)
        out = np.zeros((self.threads, size // 4), np.uint32)
        out[self.lanes(mask)] = self.local[at]
        return out

    def store_local(self, address: Whole, values: list[Whole], mask: Flags | None, where: str) -> None:
        lanes = self.lanes(mask)
        flat = np.stack(values, 1)[lanes].view(np.uint32)
        at = self._in_local(address, 4 * flat.shape[1], lanes, where)
        self.local[at], self.local_known[at] = flat, True

    def here(self, members: Whole, mask: Flags | None, where: str) -> None:
        """Complain if threads that an instruction of a warp names are not at it."""
        if mask is None and (members == POISON).all():
            return
        present = np.ones(self.threads, np.bool_) if mask is None else mask
        bits = (present.reshape(-1, 32) * (1 << np.arange(32, dtype=np.int64))).sum(1)[self.warp_index]
        named = members.astype(np.int64)
        if (named & ~bits)[present].any() or not ((named >> self.lane) & 1)[present].all():
            self.findings.add("sync", "an instruction of a warp without all of the threads that it names", where)

    def uniform(self, numbers: list[Whole], mask: Flags | None, where: str) -> None:
        """Complain if numbers on which threads branch differ between them."""
        for number in numbers:
            bits = (number if mask is None else number[mask]).view(f"u{number.itemsize}")
            if (bits != bits[0]).any():
                values = np.unique(bits).view(number.dtype)[:2]
                self.findings.add("sync", "threads branch on numbers that are not the same", where, f": {values}")

    def shuffled(
        self, mode: str, by: Whole, clamp: Whole, members: Whole, mask: Flags | None, where: str, key: Any
    ) -> tuple[Whole, Flags]:
        """From which thread every thread takes a value, and whether that was in range."""
        self.here(members, mask, where)
        if key is not None and (mode, key) in self._lanes:
            found: tuple[Whole, Flags] = self._lanes[mode, key]
            return found
        lane, segment = self.lane.astype(np.int64), (clamp.astype(np.int64) >> 8) & 31
        step, most = by.astype(np.int64) & 31, (lane & segment) | (clamp.astype(np.int64) & 31 & ~segment)
        if mode == "up":
            source = lane - step
            inside = source >= most
        else:
            source = {"down": lane + step, "bfly": lane ^ step, "idx": (lane & segment) | (step & ~segment)}[mode]
            inside = source <= most
        found = np.where(inside, source, lane) + 32 * self.warp_index, inside
        if key is not None:
            self._lanes[mode, key] = found
        return found

    def reduced(self, how: str, a: Whole, members: Whole, mask: Flags | None, where: str) -> Whole:
        """One number of all threads of a warp; all of them have to be there."""
        self.here(members, mask, where)
        if (members != POISON).any():
            raise NotImplementedError(f"a reduction over some threads of a warp: {where}")
        ufunc = {"add": np.add, "min": np.minimum, "max": np.maximum}.get(how) or getattr(np, f"bitwise_{how}")
        found: Whole = np.repeat(ufunc.reduce(a.reshape(-1, 32), 1, dtype=a.dtype), 32)
        return found

    def warp_barrier(self, members: Whole, mask: Flags | None, where: str) -> None:
        self.here(members, mask, where)
        self.clock.warp[np.unique(self.warp_index[self.lanes(mask)])] += 1

    def fence(self, mask: Flags | None) -> None:
        self.fences[self.lanes(mask)] += 1


def _end(kernel: Kernel, k: int) -> tuple[str, int]:
    block: Block = kernel.blocks[k]
    last = block.instructions[-1] if block.instructions else None
    if last is None or last.parts[0] not in ("bra", "ret", "exit", "trap", "bar", "barrier"):
        return "fall", k + 1
    if last.parts[0] in ("bar", "barrier"):
        return ("fall" if last.opcode == "bar.warp.sync" else "barrier"), k + 1
    target = kernel.labels[str(last.operands[0])] if last.parts[0] == "bra" else len(kernel.blocks)
    return ("branch" if last.guard else "jump"), target


def _meeting(ends: list[tuple[str, int]]) -> list[int]:
    """Where threads that part at the end of a block meet again: the first block that all ways to the end go through."""
    last = len(ends)
    after = [{"branch": [k + 1, target], "jump": [target]}.get(kind, [k + 1]) for k, (kind, target) in enumerate(ends)]
    through = [(1 << last + 1) - 1] * last + [1 << last]  # sets of blocks, as bits
    changed = True
    while changed:
        changed = False
        for k in reversed(range(last)):
            common = (1 << last + 1) - 1
            for j in after[k]:
                common &= through[j]
            changed |= through[k] != common | 1 << k
            through[k] = common | 1 << k
    found = []
    for k in range(last):
        others = through[k] & ~(1 << k)
        found.append(max((j for j in range(last + 1) if others >> j & 1), key=lambda j: through[j].bit_count()))
    return found
