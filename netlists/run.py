"""Running ngspice: a netlist goes in, vectors come out.

The shared library (through PySpice) lives in worker processes: 3 ms a warm run, and a netlist that kills the library
costs a restart. Without the library the executable does the same more slowly. Each thread that runs at the same time
has a worker of its own.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from devicelab.errors import MissingDependencyError, ParameterError, SpiceError

from ._executable import executable, executable_version, run_executable
from ._pool import LibraryUnavailableError, Reply, library_version, run_shared
from ._worker import failures

Backend = Literal["auto", "shared", "executable"]

LOG_LINES = 8
"""Lines of ngspice's log that an error message shows."""

TELLING = re.compile(r"error|undefined|unable|unknown|no such|line no|singular|too small|trouble", re.IGNORECASE)
"""Lines that say what went wrong come first."""

CHATTER = re.compile(r"^(Total|Maximum|Current|Note:|Circuit:|Shared|Text|Stack|Library|Doing)|DRAM|^\s*[*-]+\s*$")


class NgspiceError(SpiceError):
    """ngspice refused a netlist or failed while running it.

    Attributes:
        netlist: The netlist.
        path: Where it was saved, or None.
        log: Everything that ngspice said.
    """

    netlist: str = ""
    path: Path | None = None
    log: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = super().__reduce__()
        return rebuild, arguments, {"netlist": self.netlist, "path": self.path, "log": self.log}


class Vectors(Mapping[str, NDArray[Any]]):
    """Result of one analysis: arrays by lower-case name, ``time``, ``v(node)``, ``i(source)``, ``@device[quantity]``.

    Args:
        plot: ngspice's name of the analysis, such as ``tran1``.
        data: The arrays, each of shape [points]; one point for an operating point.
    """

    def __init__(self, plot: str, data: Mapping[str, NDArray[Any]]) -> None:
        self.plot = plot
        self._data = dict(data)

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._data[name.lower()]
        except KeyError:
            some = ", ".join(list(self._data)[:12])
            raise KeyError(f"no vector {name!r} in {self.plot}; it has {some}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        sizes = {np.size(value) for value in self._data.values()}
        return f"Vectors({self.plot}: {len(self)} vectors of {', '.join(map(str, sorted(sizes)))} points)"


def run(
    netlist: str, *, save: str | os.PathLike[str] | None = None, timeout: float = 600.0, backend: Backend = "auto"
) -> Vectors:
    """The result of the one analysis in `netlist`.

    Args:
        netlist: A complete netlist; its first line is the title, as always in SPICE.
        save: Where to write the netlist before running it.
        timeout: Longest time to wait [s].
        backend: The shared library, the executable, or the library where there is one.

    Returns:
        The vectors of the analysis, by lower-case name; shape [points].

    Raises:
        NgspiceError: If ngspice refuses the netlist, fails, or takes too long (`SpiceError` is its base).
        MissingDependencyError: If there is no ngspice.
        ParameterError: If the netlist asks for more than one analysis (see `run_all`) or `backend` is unknown.
    """
    results = run_all(netlist, save=save, timeout=timeout, backend=backend)
    if len(results) > 1:
        raise ParameterError(
            "the netlist asks for more than one analysis",
            got=", ".join(result.plot for result in results),
            allowed="one .op, .tran, .dc or .ac",
            hint="use netlists.run_all",
        )
    return results[0]


def run_all(
    netlist: str, *, save: str | os.PathLike[str] | None = None, timeout: float = 600.0, backend: Backend = "auto"
) -> list[Vectors]:
    """The results of all analyses in `netlist`, in the order ngspice ran them; arguments and errors as in `run`."""
    path = None
    if save is not None:
        path = Path(save)
        path.write_text(netlist, encoding="utf-8")
    reply = _execute(netlist, timeout, backend)
    if not reply.ok:
        raise _error(netlist, path, reply)
    return [Vectors(name, data) for name, data in reply.plots]


def run_many(
    netlists: Iterable[str], *, workers: int | None = None, timeout: float = 600.0, backend: Backend = "auto"
) -> list[Vectors]:
    """Results of independent netlists with one analysis each, several at a time, in the order given.

    Args:
        netlists: The netlists.
        workers: Processes at a time; the number of CPUs by default.
        timeout: Longest time to wait for one of them [s].
        backend: As in `run`.
    """
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool:
        return list(pool.map(lambda text: run(text, timeout=timeout, backend=backend), netlists))


def available() -> bool:
    """Whether there is an ngspice to run, as a shared library or as a program."""
    return ngspice_version() is not None


@functools.cache
def ngspice_version() -> int | None:
    """Major version of the ngspice that `run` uses; None if there is none."""
    version = library_version()
    return version if version is not None else executable_version()


def _execute(netlist: str, timeout: float, backend: Backend) -> Reply:
    if backend not in ("auto", "shared", "executable"):
        raise ParameterError("unknown backend", got=repr(backend), allowed="auto, shared, executable")
    if backend != "executable":
        try:
            return run_shared(netlist, timeout)
        except LibraryUnavailableError as error:
            if backend == "shared" or executable() is None:
                raise _missing(str(error)) from error
    if executable() is None:
        raise _missing("no ngspice in PATH")
    return run_executable(netlist, timeout)


def _missing(reason: str) -> MissingDependencyError:
    return MissingDependencyError(
        "ngspice is not installed",
        got=reason,
        allowed="libngspice (any version from 34) or the ngspice program",
        hint="apt-get install ngspice libngspice0   (macOS: brew install libngspice)",
    )


def _error(netlist: str, path: Path | None, reply: Reply) -> NgspiceError:
    lines = [line.strip() for line in reply.log if line.strip() and not CHATTER.search(line)]
    telling = [line for line in lines if TELLING.search(line)][:LOG_LINES] or lines[-LOG_LINES:]
    shown = list(dict.fromkeys([*telling, *failures(lines)[-1:]]))  # once each, in order
    idle = not reply.reason and not reply.plots and set(failures(lines)) <= {"run simulation not started"}
    error = NgspiceError(
        "the netlist asks for no analysis" if idle else reply.reason or "ngspice failed",
        got="\n           ".join(shown) if shown else None,
        hint=f"look at {path}"
        if path
        else "the netlist is in the error's .netlist, the whole log in .log; run(..., save=PATH) keeps the netlist",
    )
    error.netlist, error.path, error.log = netlist, path, "\n".join(reply.log)
    return error
