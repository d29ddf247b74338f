"""HDF5 store for big sets: all traces end to end in one array each of t, v and i, read back one at a time.

Format 1. Root attributes `format` = "devicelab-store", `version` = 1. Datasets `t` [s], `v` [V], `i` [A], all traces
end to end; `start`, shape [traces + 1], where each begins; `meta`, one JSON text a trace; `failures` and `done`, JSON
texts that name the files that could not be read, and all files that were; a hash at the end as in `tracefile`. A state
`x` and batches are not kept: a store holds measurements.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from ..errors import FileFormatError, ShapeError
from ..files import replacing
from ..trace import UNITS, Trace
from ..tracefile import check_seal, plain_json, seal
from .dataset import Failure

FORMAT = "devicelab-store"
VERSION = 1
SIGNALS = ("t", "v", "i")
CHUNK = 1 << 14
"""Samples in a compressed piece; a read unpacks at least one."""


class StoreWriter:
    """Appends traces to a new store; give it the temporary path of `replacing`."""

    def __init__(self, path: Path, job: str = "") -> None:
        self.path = path
        self.file = h5py.File(path, "w")
        self.file.attrs.update({"format": FORMAT, "version": VERSION, "job": job})
        self.data: dict[str, Any] = {}
        self.without_traces = 0
        for name in SIGNALS:
            data = self.file.create_dataset(
                name,
                (0,),
                "f8",
                maxshape=(None,),
                chunks=(CHUNK,),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
            data.attrs["unit"] = UNITS[name]
            self.data[name] = data
        self.start = [0]
        self.meta: list[str] = []
        self.failures: list[Failure] = []
        self.done: list[str] = []

    def add(self, traces: Sequence[Trace]) -> None:
        """Append traces.

        Raises:
            ShapeError: If one is a batch of devices.
        """
        for trace in traces:
            if np.ndim(trace.i) != 1 or np.ndim(trace.v) != 1:
                raise ShapeError("a store holds one device a trace", got=f"shape {np.shape(trace.i)}", allowed="[t]")
            self.start.append(self.start[-1] + len(trace))
            self.meta.append(plain_json(trace.meta))
        for name in SIGNALS:
            self._append(name, [getattr(trace, name) for trace in traces])

    def _append(self, name: str, arrays: list[Any]) -> None:
        at = self.data[name].shape[0]
        self.data[name].resize((self.start[-1],))
        if arrays:
            self.data[name][at:] = np.concatenate(arrays)

    def add_store(self, store: TraceStore) -> None:
        """Append all that another store holds."""
        self.start += (self.start[-1] + store.start[1:]).tolist()
        self.meta += store.texts
        for name in SIGNALS:
            self._append(name, [store.data[name][()]])
        self.failures += store.failures
        self.done += store.done
        self.without_traces += store.without_traces

    def close(self) -> None:
        """Write the index, close the file, and append its hash."""
        self.file["start"] = np.array(self.start, dtype=np.int64)
        self.file.create_dataset("meta", data=self.meta, dtype=h5py.string_dtype())
        self.file["failures"] = json.dumps([[failure.path, failure.reason] for failure in self.failures])
        self.file["done"] = json.dumps(self.done)
        self.file.attrs["without_traces"] = self.without_traces
        self.file.close()
        seal(self.path)


def write_store(
    path: str | Path, traces: Sequence[Trace], failures: Sequence[Failure] = (), *, force: bool = False
) -> Path:
    """Write traces to a new store, whole or not at all.

    Raises:
        FileFormatError: If the file exists and `force` is false, or its folder does not exist.
        ShapeError: If a trace is a batch of devices.
    """
    with replacing(path, force=force) as part:
        writer = StoreWriter(part)
        try:
            writer.add(traces)
            writer.failures = list(failures)
        finally:
            writer.close()
    return Path(path)


class TraceStore:
    """Traces on disk, read one at a time: `len(store)`, `store[k]`, `for trace in store`; `metas` are in memory."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_seal(path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as problem:
            raise self._damaged(problem) from None
        try:
            if self._file.attrs.get("format") != FORMAT or self._file.attrs.get("version") != VERSION:
                raise KeyError(f"format {self._file.attrs.get('format')!r}")
            self.data = {name: self._file[name] for name in SIGNALS}
            self.start = self._file["start"][()]
            self.texts: list[str] = self._file["meta"].asstr()[()].tolist()
            self.metas: list[dict[str, Any]] = [json.loads(text) for text in self.texts]
            self.failures = tuple(Failure(*pair) for pair in json.loads(self._file["failures"].asstr()[()]))
            self.done: list[str] = json.loads(self._file["done"].asstr()[()])
            self.job = str(self._file.attrs.get("job", ""))
            self.without_traces = int(self._file.attrs.get("without_traces", 0))
        except (OSError, KeyError, ValueError, TypeError) as problem:
            self._file.close()
            raise self._damaged(problem) from None

    def _damaged(self, problem: Exception) -> FileFormatError:
        return FileFormatError(
            f"cannot read {self.path.name} as a store of traces",
            got=f"{type(problem).__name__}: {str(problem)[:120]}",
            allowed=f"a complete {FORMAT}, version {VERSION}",
            hint="read the folder into it again",
        )

    def __len__(self) -> int:
        return len(self.metas)

    def __getitem__(self, index: int) -> Trace:
        k = range(len(self))[index]
        rows = slice(int(self.start[k]), int(self.start[k + 1]))
        try:
            t, v, i = (self.data[name][rows] for name in SIGNALS)
        except (OSError, KeyError) as problem:
            raise self._damaged(problem) from None
        return Trace(t, v, i, meta=self.metas[k])

    def __iter__(self) -> Iterator[Trace]:
        return (self[k] for k in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()


def open_store(path: str | Path) -> TraceStore:
    """Open a store to read traces one at a time; use it in a `with` block.

    Raises:
        FileFormatError: If the file is missing, cut off, damaged, or of another format or version.
    """
    return TraceStore(path)
