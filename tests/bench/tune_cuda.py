"""Launches of the kernels tried one after the other, for `bench_cuda.py --tune`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from crossbar import gpu, gpu_product

ON_CHIP = {
    16: [gpu.Launch(w, r) for w, r in ((1, None), (1, 96), (1, 80), (1, 64), (2, None), (2, 64))],
    32: [gpu.Launch(w, r) for w, r in ((1, None), (2, None), (2, 168), (2, 128), (4, None), (4, 128), (4, 96))],
    64: [gpu.Launch(w, r) for w, r in ((4, None), (8, None), (8, 168), (8, 128), (16, None))],
}
IN_SCRATCH = [
    gpu.Launch(w, r, p)
    for w, r, p in ((4, None, 2), (4, None, 4), (8, None, 1), (8, 128, 2), (16, None, 1), (16, 64, 2), (32, None, 1))
]
PRODUCTS = [
    {"vectors": v, "columns": c, "rows": k, "warps": w, "stages": s}
    for v, c, k, w, s in (
        (64, 32, 32, 4, 2), (64, 32, 64, 4, 2), (64, 64, 32, 4, 3), (64, 64, 64, 4, 2), (64, 64, 64, 4, 3),
        (64, 128, 32, 4, 3), (64, 128, 64, 8, 2), (128, 32, 64, 4, 2), (128, 64, 32, 8, 3), (128, 64, 64, 8, 2),
        (128, 128, 32, 8, 3),
    )
]  # fmt: skip


@dataclass(frozen=True)
class Tuning:
    """One entry of a table of launches, what it may be, and work that uses it."""

    where: str  # as it is written in the code
    table: MutableMapping[Any, Any]
    key: Any
    candidates: list[Any]
    work: Callable[[], torch.Tensor]
    vectors: int


def newton(side: int, work: Callable[[], torch.Tensor], vectors: int) -> Tuning:
    """The Newton kernel that takes tiles of a number of lines."""
    side = max(16, 1 << (side - 1).bit_length())
    if side > gpu.LARGEST_RESIDENT:
        return Tuning(f"gpu.BLOCKED[{side}]", gpu.BLOCKED, side, IN_SCRATCH, work, vectors)
    return Tuning(f"gpu.RESIDENT[{side}]", gpu.RESIDENT, side, ON_CHIP[side], work, vectors)


def product(name: str, work: Callable[[], torch.Tensor], vectors: int) -> Tuning:
    """The fused product, in one of its entries."""
    now = gpu_product.LAUNCHES[name]
    candidates = [replace(now, **sizes) for sizes in PRODUCTS]
    return Tuning(f"gpu_product.LAUNCHES[{name!r}]", gpu_product.LAUNCHES, name, candidates, work, vectors)


@contextmanager
def launched(tuning: Tuning, launch: Any) -> Iterator[None]:
    """As many programs as the candidate says, whatever the cache holds."""
    now, share = tuning.table[tuning.key], gpu.CACHED
    tuning.table[tuning.key], gpu.CACHED = launch, float("inf")
    try:
        yield
    finally:
        tuning.table[tuning.key], gpu.CACHED = now, share


def tried(
    tuning: Tuning, seconds: Callable[[Callable[[], Any]], tuple[float, Any]], known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Times a vector [us] of all candidates, the present launch first; those that are `known` are not taken again."""
    now = tuning.table[tuning.key]
    expected: torch.Tensor | None = None
    for launch in [now, *(other for other in tuning.candidates if other != now)]:
        name = str(tuple(asdict(launch).values()))
        found = known.get(name)
        if found is None or (expected is None and launch == now):
            with launched(tuning, launch):
                try:
                    time, answer = seconds(tuning.work)
                except Exception as error:  # a launch that does not fit the chip; the others are worth having
                    found = {"us": None, "error": f"{type(error).__name__}: {error}"[:200]}
                else:
                    expected = answer if expected is None else expected
                    off = ((answer - expected).abs().max() / expected.abs().max()).item()
                    found = {"us": 1e6 * time / tuning.vectors, "off": off}
        yield {"launch": name, "now": launch == now, **found}


def table(tuning: Tuning, found: list[dict[str, Any]]) -> str:
    """Candidates by time, the fastest first, with what to write where."""
    names = ", ".join(asdict(tuning.table[tuning.key]))
    lines = [f"{tuning.where}: ({names})"]
    for row in sorted(found, key=lambda row: row["us"] or float("inf")):
        told = row.get("error") or f"{row['us']:11.4g} us/vector, {row['off']:.1e} from the present one's answer"
        lines.append(f"  {row['launch']:<34}{told}{'  (now)' if row['now'] else ''}")
    return "\n".join(lines)
