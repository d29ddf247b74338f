"""The process that holds ngspice's shared library, run by path: ``python netlists/_worker.py``.

A bad netlist can disable the library for good and an exit can abort, so the library lives here and is thrown away
after an error. Requests come as length-prefixed pickles on standard input, answers go out the same way. Nothing of
devicelab is imported; of PySpice, only the wrapper of the library, with what it lacks for ngspice newer than 34:
notes on standard error are not errors, and types of vectors it has never heard of are kept.
"""

from __future__ import annotations

import ctypes.util
import logging
import os
import pickle
import re
import signal
import struct
import sys
import tempfile
from typing import IO, Any

LENGTH = struct.Struct("<Q")

FAILURE = re.compile(
    r"cannot recover|run simulation\(s\) aborted|simulation not started|circuit not parsed"
    r"|there aren't any circuits loaded|simulation interrupted",
    re.IGNORECASE,
)
"""Lines of ngspice's log that mean that the run failed. Others that say Error may be steps of a solve that succeeds."""

NEWEST = 60
"""Newest ngspice version that is given the table of vector types of version 34."""


def failures(log: list[str]) -> list[str]:
    """The lines of a log that say that the run failed."""
    return [line for line in log if FAILURE.search(line)]


def main() -> None:
    """Answer requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints stays out of the answers
    try:
        library = Library()
    except (ImportError, OSError, NameError, AttributeError) as error:  # no PySpice, no library, or an unusable one
        send(answers, {"ready": False, "error": f"{type(error).__name__}: {error}"})
        return
    send(answers, {"ready": True, "version": library.version, "library": library.path})
    while (netlist := receive(requests)) is not None:
        send(answers, library.run(netlist))
    os._exit(0)  # a normal exit runs the library's destructors, which may abort


class Library:
    """ngspice's shared library through PySpice."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        os.environ["HOME"] = tempfile.gettempdir()  # results must not depend on the user's ~/.spiceinit
        from PySpice.Spice.NgSpice.Shared import NgSpiceShared, ffi_string_utf8
        from PySpice.Spice.NgSpice.SimulationType import SIMULATION_TYPE

        class Shared(NgSpiceShared):  # type: ignore[misc]  # PySpice has no types
            log: list[str]
            left = False

            @staticmethod
            def _send_char(message: Any, ngspice_id: int, user_data: Any) -> int:
                text = ffi_string_utf8(message)
                shared = _from_handle(user_data)
                prefix, _, content = str(text).partition(" ")
                shared.log.append(content)
                (shared._stderr if prefix == "stderr" else shared._stdout).append(content)
                return 0

            @staticmethod
            def _exit(status: int, unload: bool, quitting: bool, ngspice_id: int, user_data: Any) -> int:
                _from_handle(user_data).left = True
                return status

        known = SIMULATION_TYPE["last"]
        padded = (*known, *(f"type_{index}" for index in range(len(known), 64)))
        SIMULATION_TYPE.update({version: padded for version in range(27, NEWEST)})
        SIMULATION_TYPE["last"] = padded
        Shared.log = []
        Shared.LIBRARY_PATH = self.path = library_path()
        self._ng = Shared()
        self.version = self._ng.ngspice_version

    def run(self, netlist: str) -> dict[str, Any]:
        """Run the analyses of a netlist: plots in order, the log, and whether all went well."""
        ng = self._ng
        ng.log.clear()
        error = None
        try:
            ng.load_circuit(netlist)
            if not ng.left and not failures(ng.log):
                ng.exec_command("run")
        except NameError as failed:  # PySpice's errors derive from it
            error = str(failed)
        log = list(ng.log)
        plots = [] if ng.left else self._plots()
        ok = bool(plots) and not ng.left and error is None and not failures(log)
        if ok:
            ng.exec_command("destroy all")
            ng.exec_command("remcirc")  # without it every run leaks
        return {"ok": ok, "log": log, "plots": plots}

    def _plots(self) -> list[tuple[str, dict[str, Any]]]:
        names = [name for name in reversed(self._ng.plot_names) if name != "const"]
        return [(name, self._vectors(name)) for name in names]

    def _vectors(self, plot: str) -> dict[str, Any]:
        voltage, current = self._ng.simulation_type.voltage, self._ng.simulation_type.current
        kinds = {voltage: "v", current: "i"}
        vectors = self._ng.plot(None, plot).items()
        data = {raw_name(name, kinds.get(vector._type)): vector._data for name, vector in vectors if len(vector._data)}
        return real_frequency(data)


def _from_handle(user_data: Any) -> Any:
    from PySpice.Spice.NgSpice.Shared import ffi

    return ffi.from_handle(user_data)


def raw_name(name: str, kind: str | None) -> str:
    """The name of a vector as raw files have it: ``v(out)``, ``i(v1)``, ``@r1[i]``, ``time``."""
    name = name.lower()
    if name.endswith("#branch"):
        return f"i({name.removesuffix('#branch')})"
    if kind is None or name.startswith(("v(", "i(", "@")) or name.endswith("-sweep"):
        return name
    return f"{kind}({name})"


def real_frequency(vectors: dict[str, Any]) -> dict[str, Any]:
    """The same vectors with a real frequency: ngspice stores a complex one, in raw files with a random second part."""
    if "frequency" in vectors:
        vectors["frequency"] = vectors["frequency"].real.copy()
    return vectors


def library_path() -> str:
    """Where the shared library is; Debian ships only ``libngspice.so.0``, which PySpice does not look for."""
    path = os.environ.get("NGSPICE_LIBRARY_PATH") or ctypes.util.find_library("ngspice")
    if path is None:
        raise FileNotFoundError("libngspice is not installed")
    return path


def send(stream: IO[bytes], message: object) -> None:
    """Write one length-prefixed pickle."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one length-prefixed pickle; None where the stream ends."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    data = stream.read(size)
    return pickle.loads(data) if len(data) == size else None


if __name__ == "__main__":
    main()
