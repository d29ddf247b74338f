"""Memory of the PTX machine, which looks at every access: its bounds, what was written before, what races.

Two accesses to one address, one of them a write, race unless something orders them: within a block of threads its
barrier (`bar.sync`), within a warp `bar.warp.sync` too, and nothing else: neither a shuffle nor that the threads of a
warp go in step, as PTX promises no order of memory for either. Two threads that write the same value do not race, as
the compiler lets copies of a value be stored by all threads that have it. Nothing orders two programs of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[Any]
Flags = NDArray[np.bool_]
POISON = 0xFFFFFFFF  # not a number, as float32 and float64
SHARED_BASE = 1024


@dataclass(frozen=True)
class Finding:
    """Something that must not happen on a GPU."""

    kind: str  # "memcheck", "initcheck", "racecheck" or "sync"
    what: str
    where: str  # line of the source and of the PTX

    def __str__(self) -> str:
        return f"{self.kind}: {self.what} at {self.where}"


@dataclass
class Findings:
    """What was found, one for each place in the code."""

    found: dict[tuple[str, str, str], Finding] = field(default_factory=dict)

    def add(self, kind: str, what: str, where: str, detail: str = "") -> None:
        self.found.setdefault((kind, what, where), Finding(kind, f"{what}{detail}", where))

    def __iter__(self) -> Any:
        return iter(self.found.values())


@dataclass
class Clock:
    """How many barriers the threads have passed."""

    warps: int
    block: int = 0
    program: int = 0

    def __post_init__(self) -> None:
        self.warp = np.zeros(self.warps, np.int64)

    def barrier(self) -> None:
        self.block += 1
        self.warp += 1


class Buffer:
    """A stretch of memory and what is known of every grain of it, 4 bytes or 1."""

    def __init__(self, name: str, base: int, data: NDArray[np.uint8], grain: int, *, written: bool) -> None:
        self.name, self.base, self.size, self.grain = name, base, len(data), grain
        whole = len(data) // grain
        self.data = data[: whole * grain].view(np.uint32 if grain == 4 else np.uint8)
        self.known = np.full(whole, written)
        self.w_block, self.r_block = np.full(whole, -1, np.int64), np.full(whole, -1, np.int64)
        self.w_warp, self.r_warp = np.zeros(whole, np.int64), np.zeros(whole, np.int64)  # clocks of the warps
        self.w_thread, self.r_thread = np.full(whole, -1, np.int64), np.full(whole, -1, np.int64)  # -1: several
        self.r_of = np.full(whole, -1, np.int64)  # warp that has read; -1: several
        self.w_program, self.r_program = np.full(whole, -1, np.int64), np.full(whole, -1, np.int64)
        self.pending = np.zeros(whole, np.bool_)  # a copy into it is under way
        self.fences = np.zeros(whole, np.int64)  # of the writing thread, for asynchronous readers

    def forget(self) -> None:
        """As at the start of a program."""
        self.known[:] = False
        self.data[:] = POISON if self.grain == 4 else 0xFF
        self.pending[:] = False


class Memory:
    """Buffers in one address space."""

    def __init__(self, buffers: list[Buffer], findings: Findings, clock: Clock, *, between_programs: bool) -> None:
        self.buffers = sorted(buffers, key=lambda b: b.base)
        self.findings, self.clock, self._between = findings, clock, between_programs
        self._bases = np.array([b.base for b in self.buffers], np.uint64)
        self._ends = np.array([b.base + b.size for b in self.buffers], np.uint64)

    def _split(self, address: Whole, size: int, where: str, verb: str) -> list[tuple[Buffer, Flags | slice]]:
        """Which lanes fall into which buffer; those that miss, or are not aligned, are reported and left out."""
        address = address.astype(np.uint64)
        crooked = (address % np.uint64(size)) != 0
        if crooked.any():
            self.findings.add("memcheck", f"{verb} of {size} bytes not aligned", where)
        which = np.searchsorted(self._bases, address, side="right") - 1
        inside = (which >= 0) & ~crooked
        if len(self.buffers):
            inside &= address + np.uint64(size) <= self._ends[which]
        if not inside.all():
            off = address[~inside & ~crooked]
            if len(off):
                near = self._near(int(off[0]))
                self.findings.add("memcheck", f"{verb} of {size} bytes out of bounds", where, f" ({near})")
        elif (which == which[0]).all():
            return [(self.buffers[which[0]], slice(None))]
        return [(self.buffers[k], inside & (which == k)) for k in np.unique(which[inside])]

    def _near(self, address: int) -> str:
        if not self.buffers:
            return "there is no such memory"
        near = min(self.buffers, key=lambda b: min(abs(address - b.base), abs(address - b.base - b.size)))
        return f"byte {address - near.base} of {near.name}, which has {near.size}"

    def read(self, address: Whole, size: int, threads: Whole, where: str, *, fenced: Whole | None = None) -> Whole:
        """[lanes, size / grain]; `fenced` has the fences of all threads where the reader is asynchronous."""
        grain = self.buffers[0].grain if self.buffers else 4
        out = np.full((len(address), size // grain), POISON if grain == 4 else 0xFF, np.uint32 if grain == 4 else "u1")
        for buffer, lanes in self._split(address, size, where, "read"):
            at = _grains(buffer, address[lanes], size)
            out[lanes] = buffer.data[at]
            if not buffer.known[at].all():
                first = int(at[~buffer.known[at]][0])
                self.findings.add(
                    "initcheck", f"read of what nobody has written in {buffer.name}", where, f" [{first}]"
                )
            self._reading(buffer, at.ravel(), np.repeat(threads[lanes], at.shape[1]), where, fenced)
        return out

    def _reading(self, buffer: Buffer, at: Whole, threads: Whole, where: str, fenced: Whole | None) -> None:
        now, warps = self.clock.block, threads >> 5
        times = self.clock.warp[warps]
        self._pending(buffer, at, where, "read")
        written = buffer.w_block[at] == now
        if written.any():
            writer = buffer.w_thread[at]
            ordered = (writer == threads) | ((writer >> 5 == warps) & (buffer.w_warp[at] < times))
            race = written & ~ordered
            if race.any():
                k = int(race.argmax())
                self._race(buffer, f"thread {threads[k]} reads what thread {writer[k]} writes", at[k], where)
        if fenced is not None:
            writer = buffer.w_thread[at]
            late = (writer >= 0) & (buffer.fences[at] >= fenced[writer]) & (buffer.fences[at] >= 0)
            if late.any():
                self.findings.add(
                    "racecheck", f"asynchronous read of {buffer.name} without a fence of the writer", where
                )
        # whoever has read since the last barrier; a later read of a warp stands for its earlier ones
        kept = (buffer.r_block[at] == now) & ~((buffer.r_of[at] == warps) & (buffer.r_warp[at] < times))
        new = at[~kept]
        buffer.r_block[new], buffer.r_thread[new], buffer.r_of[new] = now, threads[~kept], warps[~kept]
        buffer.r_warp[at] = times
        others = buffer.r_thread[at] != threads
        if others.any():
            shared = at[others]
            buffer.r_thread[shared] = -1
            buffer.r_of[shared[buffer.r_of[shared] != warps[others]]] = -1
        if self._between:
            writer = buffer.w_program[at]
            foreign = (writer >= 0) & (writer != self.clock.program)
            if foreign.any():
                self._race(buffer, "a program reads what another one writes", at[foreign.argmax()], where)
            reader = buffer.r_program[at]
            buffer.r_program[at] = np.where((reader == -1) | (reader == self.clock.program), self.clock.program, -2)

    def write(
        self,
        address: Whole,
        values: Whole,
        threads: Whole,
        where: str,
        fences: Whole | None = None,
        *,
        begins: bool = False,
    ) -> None:
        """`values` [lanes, grains]; `begins`: an asynchronous copy that will arrive later, so nothing is stored yet."""
        if not self.buffers:
            self.findings.add("memcheck", "write to memory that is not there", where)
            return
        size = values.shape[1] * self.buffers[0].grain
        for buffer, lanes in self._split(address, size, where, "write"):
            at = _grains(buffer, address[lanes], size).ravel()
            who, new = np.repeat(threads[lanes], values.shape[1]), values[lanes].ravel()
            self._writing(buffer, at, who, new, where)
            if begins:
                buffer.pending[at] = True
                continue
            buffer.data[at] = new
            buffer.known[at] = True
            if (buffer.data[at] != new).any():
                k = int((buffer.data[at] != new).argmax())
                self._race(buffer, "two threads write different values at once", at[k], where)
            buffer.fences[at] = -1 if fences is None else np.repeat(fences[lanes], values.shape[1])

    def _writing(self, buffer: Buffer, at: Whole, threads: Whole, values: Whole, where: str) -> None:
        now, warps = self.clock.block, threads >> 5
        times = self.clock.warp[warps]
        self._pending(buffer, at, where, "write")
        written = buffer.w_block[at] == now
        if written.any():
            writer = buffer.w_thread[at]
            ordered = (writer == threads) | ((writer >> 5 == warps) & (buffer.w_warp[at] < times))
            race = written & ~ordered & (buffer.data[at] != values)
            if race.any():
                k = int(race.argmax())
                self._race(buffer, f"thread {threads[k]} writes where thread {writer[k]} writes", at[k], where)
        read = buffer.r_block[at] == now
        if read.any():
            reader = buffer.r_thread[at]
            ordered = (reader == threads) | ((buffer.r_of[at] == warps) & (buffer.r_warp[at] < times))
            race = read & ~ordered
            if race.any():
                k = int(race.argmax())
                self._race(buffer, f"thread {threads[k]} writes what others read", at[k], where)
        if self._between:
            writer, reader = buffer.w_program[at], buffer.r_program[at]
            mine = self.clock.program
            foreign = ((writer != -1) & (writer != mine)) | ((reader != -1) & (reader != mine))
            if foreign.any():
                self._race(buffer, "a program writes where another one reads or writes", at[foreign.argmax()], where)
            buffer.w_program[at] = mine
        buffer.w_block[at], buffer.w_thread[at], buffer.w_warp[at] = now, threads, times

    def arrive(self, address: Whole) -> None:
        """Asynchronous copies have ended."""
        for buffer, lanes in self._split(address, 4, "", "copy"):
            buffer.pending[_grains(buffer, address[lanes], 4)] = False

    def _pending(self, buffer: Buffer, at: Whole, where: str, verb: str) -> None:
        if buffer.pending[at].any():
            self.findings.add("racecheck", f"{verb} of {buffer.name} while a copy into it is under way", where)

    def _race(self, buffer: Buffer, what: str, at: Any, where: str) -> None:
        self.findings.add("racecheck", f"race in {buffer.name}", where, f" [{int(at)}]: {what}")


def _grains(buffer: Buffer, address: Whole, size: int) -> Whole:
    first = (address.astype(np.int64) - buffer.base) // buffer.grain
    return first[:, None] + np.arange(size // buffer.grain)
