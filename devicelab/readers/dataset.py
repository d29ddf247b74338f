"""Many traces with what is known about each: filter, group, tabulate.

A thin class and not an xarray: traces differ in length and in their time points, so a labelled rectangle would be
mostly padding. What is rectangular is the metadata, and `table` gives that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from ..errors import ParameterError, unknown_name
from ..trace import Trace
from .table import Table

USUAL = ("device", "cycle", "temperature", "area", "file", "sheet", "run", "step", "index", "profile", "compliance")


@dataclass(frozen=True)
class Failure:
    """A file that could not be read, and why.

    Args:
        path: The file.
        reason: The whole message: what, got, allowed, what to try.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Traces with their metadata: `device`, `cycle`, `temperature` [K], `area` [m2], provenance, whatever is known.

    Args:
        traces: The traces, in the order of the files and within each file the oldest first.
        tables: What files hold that have no current over voltage: resistance against pulse or cycle, ...
        failures: Files that could not be read.
    """

    traces: Sequence[Trace] = ()
    tables: Sequence[Table] = ()
    failures: Sequence[Failure] = ()

    def __len__(self) -> int:
        return len(self.traces)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Trace | Dataset:
        if isinstance(index, slice):
            return replace(self, traces=self.traces[index])
        return self.traces[index]

    def keys(self) -> list[str]:
        """Names of the metadata that at least one trace has, the usual ones first."""
        found = dict.fromkeys(key for trace in self.traces for key in trace.meta)
        return [key for key in USUAL if key in found] + [key for key in found if key not in USUAL]

    def values(self, key: str) -> list[Any]:
        """One metadata value for each trace; None where a trace has none.

        Raises:
            ParameterError: If no trace has it.
        """
        if self.traces and not any(key in trace.meta for trace in self.traces):
            raise unknown_name("metadata", key, self.keys())
        return [trace.meta.get(key) for trace in self.traces]

    def filter(self, **wanted: Any) -> Dataset:
        """The traces whose metadata fit every condition.

        Args:
            **wanted: Metadata name to a value, to a list, set or range of values, or to a function that says yes.

        Raises:
            ParameterError: If no trace has that metadata.
        """
        kept = list(self.traces)
        for key, condition in wanted.items():
            values = {id(trace): value for trace, value in zip(self.traces, self.values(key), strict=True)}
            kept = [trace for trace in kept if _fits(values[id(trace)], condition)]
        return replace(self, traces=kept)

    def group(self, *keys: str) -> dict[Any, Dataset]:
        """Datasets by the value of one metadata name, or by the tuple of values of several, in order of appearance."""
        if not keys:
            raise ParameterError("group needs a name", got="none", allowed=", ".join(self.keys()))
        columns = [self.values(key) for key in keys]
        groups: dict[Any, list[Trace]] = {}
        for trace, *values in zip(self.traces, *columns, strict=True):
            groups.setdefault(values[0] if len(keys) == 1 else tuple(values), []).append(trace)
        return {key: Dataset(traces) for key, traces in groups.items()}

    def table(self, *keys: str) -> list[dict[str, Any]]:
        """One row of metadata for each trace, with its number of samples; all plain values when no keys are given."""
        names = list(keys) or [
            k for k in self.keys() if not any(isinstance(v, (Mapping, list)) for v in self.values(k))
        ]
        columns = [self.values(name) for name in names]
        rows = zip(self.traces, *columns, strict=True)
        return [{**dict(zip(names, values, strict=True)), "samples": len(trace)} for trace, *values in rows]

    def label(self, **more: Any) -> Dataset:
        """The same traces with more metadata: a value for all of them, or a function of a trace."""
        labelled = [trace.with_meta(**{k: v(trace) if callable(v) else v for k, v in more.items()}) for trace in self]
        return replace(self, traces=labelled)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write an HDF5 store of the traces and failures; see `store`."""
        from .store import write_store

        return write_store(path, self.traces, self.failures, force=force)

    @staticmethod
    def load(path: str | Path) -> Dataset:
        """All traces of an HDF5 store in memory; `open_store` reads them one at a time."""
        from .store import open_store

        with open_store(path) as store:
            return Dataset(list(store), (), store.failures)


def _fits(value: Any, condition: Any) -> bool:
    if isinstance(condition, Callable):  # type: ignore[arg-type]
        return value is not None and bool(condition(value))
    if isinstance(condition, (list, tuple, set, frozenset, range)):
        return value in condition
    return bool(value == condition)
