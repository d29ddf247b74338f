"""A folder of 1000 traces characterised: time a trace, and memory that does not grow with their number.

Run: python tests/bench/bench_characterise.py [COUNT]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from devicelab import Trace
from devicelab.characterise import study
from devicelab.readers import find_files, read_traces

SAMPLES = 600


def write(folder: Path, count: int) -> None:
    """Loops of an abrupt device with scattered thresholds, one a file."""
    rng = np.random.default_rng(0)
    v = np.interp(np.linspace(0, 4, SAMPLES), [0, 1, 3, 4], [0, 1.2, -1.2, 0])
    for k in range(count):
        set_at, reset_at = 0.8 + 0.05 * rng.standard_normal(), -0.6 + 0.05 * rng.standard_normal()
        first = int(np.argmax(v > set_at))
        last = int(np.argmax(v < reset_at))
        on = (np.arange(SAMPLES) >= first) & (np.arange(SAMPLES) < last)
        i = np.minimum(v / np.where(on, 1e3, 1e5), 5e-4) + 1e-7 * rng.standard_normal(SAMPLES)
        np.savetxt(folder / f"d{k:04d}.csv", np.c_[np.arange(SAMPLES) * 1e-3, v, i], delimiter=",",
                   header="Time (s),Voltage (V),Current (A)", comments="")  # fmt: skip


def stream(folder: Path, peaks: list[float]) -> Iterator[Trace]:
    for k, path in enumerate(find_files(folder)):
        yield from read_traces(path)
        if k % 100 == 99:
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, count)
        peaks: list[float] = []
        start, spent = time.perf_counter(), time.process_time()
        found = study(stream(folder, peaks))
        read_and_found, used = time.perf_counter() - start, time.process_time() - spent
        traces = [trace for path in find_files(folder)[:100] for trace in read_traces(path)]
        spent = time.process_time()
        study(traces)
        only = (time.process_time() - spent) / len(traces)
        spent = time.process_time()
        found.summaries()
        print(f"{len(found.cycles)} cycles: {1e3 * used / count:.2f} ms of processor a trace with reading "
              f"({1e3 * read_and_found / count:.2f} ms on the clock), {1e3 * only:.2f} ms without; "
              f"statistics {time.process_time() - spent:.1f} s")  # fmt: skip
        print("peak memory after each 100 traces [MB]:", " ".join(f"{peak:.0f}" for peak in peaks))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
