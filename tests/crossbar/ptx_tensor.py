"""Tensor cores, matrices in shared memory and asynchronous copies of the PTX machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from ptx_memory import Buffer, Clock, Findings, Flags, Memory, Whole

KEPT = np.uint32(0xFFFFE000)
"""Bits of a float32 that tensor cores take as TF32."""


class Tensors:
    """The part of a machine that works on matrices."""

    threads: int
    warps: int
    every: Whole
    warp_index: Whole
    lane: Whole
    fences: Whole
    shared: Buffer
    findings: Findings
    clock: Clock
    _global: Memory
    _shared: Memory

    def lanes(self, mask: Flags | None) -> Whole:
        raise NotImplementedError

    def here(self, members: Whole, mask: Flags | None, where: str) -> None:
        raise NotImplementedError

    def begin_copies(self) -> None:
        """No copies and no products are under way."""
        self._open: list[list[Any]] = [[] for _ in range(self.warps)]
        self._groups: list[list[list[Any]]] = [[] for _ in range(self.warps)]
        self._products: list[Whole] = []

    # copies

    def copy(self, to: Whole, of: Whole, size: int, taken: Whole, mask: Flags | None, where: str) -> None:
        """`cp.async`: the first `taken` bytes are copied and the rest are zeros, some time until the threads wait."""
        lanes = self.lanes(mask)
        if not len(lanes):
            return
        grain = self.shared.grain
        values = np.zeros((len(lanes), size // grain), np.uint32 if grain == 4 else np.uint8)
        for count in np.unique(taken[lanes]):
            some = taken[lanes] == count
            if count % 4 or count > size:
                self.findings.add("memcheck", f"an asynchronous copy of {count} bytes", where)
            elif count:
                values[some, : count // grain] = self._global.read(of[lanes][some], int(count), lanes[some], where)
        self._shared.write(to[lanes], values, lanes, where, begins=True)
        for w in np.unique(self.warp_index[lanes]):
            own = self.warp_index[lanes] == w
            self._open[w].append((to[lanes][own], values[own], lanes[own], where))

    def commit(self, mask: Flags | None) -> None:
        for w in self._warps(mask):
            self._groups[w].append(self._open[w])
            self._open[w] = []

    def wait(self, left: int, mask: Flags | None) -> None:
        """Until at most `left` groups of copies are under way."""
        for w in self._warps(mask):
            while len(self._groups[w]) > left:
                for to, values, lanes, where in self._groups[w].pop(0):
                    self._shared.arrive((to[:, None] + np.arange(0, values[0].nbytes, 4, dtype=np.uint64)).ravel())
                    self._shared.write(to, values, lanes, where, self.fences[lanes])

    def _warps(self, mask: Flags | None) -> Whole:
        """Which warps are here; all of their threads have to be."""
        if mask is None:
            return np.arange(self.warps)
        found = np.unique(self.warp_index[mask])
        if mask.sum() != 32 * len(found):
            self.findings.add(
                "sync", "an instruction of a warp without all of the threads that it names", "a copy or matrix"
            )
        return found

    # matrices of 8 x 8 half words in shared memory

    def _rows(self, address: Whole, k: int) -> Whole:
        """Where every thread's word of matrix `k` lies: lanes 8 k to 8 k + 7 have the addresses of its rows."""
        lane = self.lane.astype(np.int64)
        return address[32 * self.warp_index + 8 * k + lane // 4] + (4 * (lane % 4)).astype(np.uint64)

    def load_matrix(self, address: Whole, count: int, turned: bool, mask: Flags | None, where: str) -> list[Whole]:
        self._aligned(address, count, mask, where)
        out = []
        for k in range(count):
            if not turned:
                out.append(self._words(self._rows(address, k), mask, where))
                continue
            halves = []
            for h in range(2):
                lane = self.lane.astype(np.int64)
                at = address[32 * self.warp_index + 8 * k + 2 * (lane % 4) + h] + (2 * (lane // 4)).astype(np.uint64)
                words = self._words(at & ~np.uint64(3), mask, where)
                halves.append(words >> ((at & np.uint64(2)) * np.uint64(8)).astype(np.uint32) & np.uint32(0xFFFF))
            out.append(halves[0] | halves[1] << np.uint32(16))
        return out

    def _words(self, address: Whole, mask: Flags | None, where: str) -> Whole:
        lanes, words = self.lanes(mask), np.zeros(self.threads, np.uint32)
        words[lanes] = self._shared.read(address[lanes], 4, lanes, where).view(np.uint32)[:, 0]
        return words

    def store_matrix(self, address: Whole, values: list[Whole], mask: Flags | None, where: str) -> None:
        self._aligned(address, len(values), mask, where)
        lanes = self.lanes(mask)
        for k, value in enumerate(values):
            words = value[lanes].reshape(-1, 1).copy().view(np.uint8 if self.shared.grain == 1 else np.uint32)
            self._shared.write(self._rows(address, k)[lanes], words, lanes, where, self.fences[lanes])

    def _aligned(self, address: Whole, count: int, mask: Flags | None, where: str) -> None:
        here = np.isin(self.warp_index, self._warps(mask)) & (self.lane < 8 * count)
        if (address[here] % np.uint64(16)).any():
            self.findings.add("memcheck", "rows of a matrix not aligned to 16 bytes", where)

    # products

    def mma(
        self, a: list[Whole], b: list[Whole], c: list[Whole], kind: str, mask: Flags | None, where: str
    ) -> list[Whole]:
        """16 x 8 x k in every warp: A [16, k] in four registers, B [k, 8] in two, C [16, 8] in four; k by the type."""
        self._warps(mask)
        group, four = (self.lane // 4).astype(int), (self.lane % 4).astype(int)
        w, wide = self.warp_index, _wide(kind)
        left, right = np.zeros((self.warps, 16, 8 * wide)), np.zeros((self.warps, 8 * wide, 8))
        for value, row, column in zip(a, (0, 8, 0, 8), (0, 0, 4, 4), strict=True):
            for k, part in enumerate(_numbers(value, kind)):
                left[w, group + row, wide * (four + column) + k] = part
        for value, row in zip(b, (0, 4), strict=True):
            for k, part in enumerate(_numbers(value, kind)):
                right[w, wide * (four + row) + k, group] = part
        made = left @ right
        places = zip(c, (0, 0, 8, 8), (0, 1, 0, 1), strict=True)
        return [(made[w, group + row, 2 * four + k] + value).astype(np.float32) for value, row, k in places]

    def wgmma(
        self,
        sums: list[Whole],
        a: list[Whole] | Whole,
        b: Whole,
        keep: Flags,
        n: int,
        kind: str,
        turned: tuple[int, int],
        where: str,
    ) -> list[Whole]:
        """64 x n x k in every four warps: A in registers or [64, k] in shared memory, B [n, k] there; k by the type.

        `turned`: whether A and B lie in shared memory with their other axis first.
        """
        group, four = (self.lane // 4).astype(int), (self.lane % 4).astype(int)
        w, teams, wide = self.warp_index, self.warps // 4, _wide(kind)
        row = 16 * (w % 4) + group
        left = np.zeros((teams, 64, 8 * wide))
        if isinstance(a, list):
            for value, down, right in zip(a, (0, 8, 0, 8), (0, 0, 4, 4), strict=True):
                for k, part in enumerate(_numbers(value, kind)):
                    left[w // 4, row + down, wide * (four + right) + k] = part
        else:
            left[:] = self._operands(a, 64, kind, turned[0], where)
        made = left @ self._operands(b, n, kind, turned[1], where).transpose(0, 2, 1)
        out = []
        for k, value in enumerate(sums):
            found = made[w // 4, row + 8 * (k // 2 % 2), 8 * (k // 4) + 2 * four + k % 2]
            out.append((found + np.where(keep, value, np.float32(0))).astype(np.float32))
        return out

    def _operands(self, descriptor: Whole, rows: int, kind: str, turned: int, where: str) -> Whole:
        """[teams, rows, k] of four warps each, which have one descriptor."""
        if (descriptor.reshape(-1, 128) != descriptor[::128, None]).any():
            self.findings.add("sync", "warps that work together have different descriptors", where)
        given = [(int(descriptor[k]), k) for k in range(0, self.threads, 128)]
        return np.stack([self._operand(one, rows, kind, turned, k, where) for one, k in given])

    def _operand(self, descriptor: int, rows: int, kind: str, turned: int, thread: int, where: str) -> Whole:
        """[rows, k] numbers, where a descriptor of a matrix in shared memory says; k along the lines, or across."""
        start = (descriptor & 0x3FFF) << 4
        leading, stride = (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
        line = {1: 128, 2: 64, 3: 32}.get(descriptor >> 62)
        if line is None or descriptor >> 49 & 7:
            raise NotImplementedError(f"a matrix descriptor without swizzle, or with a base offset: {descriptor:#x}")
        wide = _wide(kind)
        size = 4 // wide
        row, k = np.arange(rows)[:, None], np.arange(8 * wide)[None, :]
        if turned:
            many = line // size  # rows beside each other in a line
            at = start + k // 8 * stride + k % 8 * line + row // many * leading + row % many * size
        else:
            at = start + row // 8 * stride + row % 8 * line + k * size
        at ^= (at >> 7 & {128: 7, 64: 3, 32: 1}[line]) << 4
        flat = (at.ravel() & ~3).astype(np.uint64)
        self._products.append(flat)
        words = self._shared.read(flat, 4, np.full(len(flat), thread), where, fenced=self.fences).view(np.uint32)[:, 0]
        found: Whole = np.stack(_numbers(words, kind), 1)[np.arange(len(flat)), at.ravel() % 4 // size]
        return found.reshape(rows, 8 * wide)

    def tensor_fence(self) -> None:
        """Registers are ordered before asynchronous products."""

    def tensor_commit_group(self) -> None:
        """Products so far belong together."""

    def tensor_wait_group(self, left: int) -> None:
        """Products have ended: until here they were reading."""
        if left:
            raise NotImplementedError("products that go on beyond a wait")
        for flat in self._products:
            self._shared.read(flat, 4, np.zeros(len(flat), np.int64), "an asynchronous product")
        self._products = []


def _wide(kind: str) -> int:
    """Numbers in 32 bits."""
    return 1 if kind == "tf32" else 2


def _numbers(bits: Whole, kind: str) -> list[Whole]:
    """What registers of 32 bits hold for tensor cores, as float64."""
    if kind == "tf32":
        return [(bits & KEPT).view(np.float32).astype(np.float64)]
    halves = [bits & np.uint32(0xFFFF), bits >> np.uint32(16)]
    if kind == "bf16":
        return [(half << np.uint32(16)).view(np.float32).astype(np.float64) for half in halves]
    return [half.astype(np.uint16).view(np.float16).astype(np.float64) for half in halves]
