"""Mutates a lookup table many times and tallies what `Lut.load` makes of it. Run as a program, so that a hang or a
crash of the HDF5 library ends this process and not the tests."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from devicelab import Lut
from devicelab.errors import LutError
from devicelab.lut import store
from devicelab.lut.compare import diff

SECONDS = 10


def mutated(rng: np.random.Generator, data: bytes, first: int) -> bytes:
    """Truncated, with flipped or random bytes, absurd sizes, moved pieces, or longer than it was."""
    b, kind = bytearray(data), rng.integers(7)
    at = int(rng.integers(first, len(b) - 256))
    n = int(rng.integers(1, 256))
    if kind == 0:
        del b[at:]
    elif kind == 1:
        for place in rng.integers(first, len(b), rng.integers(1, 4)):
            b[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        for place in rng.integers(first, len(b), rng.integers(1, 20)):
            b[place] = rng.integers(256)
    elif kind == 3:
        b[at : at + 8] = b"\xff" * 8
    elif kind == 4:
        b[at : at + 8] = int(rng.integers(1 << 62)).to_bytes(8, "little")
    elif kind == 5:
        b[at : at + n] = b[first : first + n]
    else:
        b[at:at] = rng.bytes(n)
    return bytes(b)


def outcome(path: Path, original: Lut) -> str:
    """`refused`, `same` content, or `different` content accepted; anything else is an error of its own name."""
    try:
        return "same" if diff(original, Lut.load(path))["same"] else "different"
    except LutError:
        return "refused"


def main(source: str, kind: str, start: int, count: int) -> None:
    data, original = Path(source).read_bytes(), Lut.load(source)
    target = Path(source).with_suffix(f".{kind}.{start}.h5")
    tally: Counter[str] = Counter()
    for seed in range(start, start + count):
        changed = mutated(np.random.default_rng(seed), data, 0 if kind == "sealed" else store.SEAL)
        if kind == "unsealed":
            changed = b"\0" * store.SEAL + changed[store.SEAL :]
        target.write_bytes(changed)
        if kind == "resealed":
            store.seal(target)
        signal.alarm(SECONDS)
        tally[outcome(target, original)] += changed != data or kind != "sealed"
    print(json.dumps(tally))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
