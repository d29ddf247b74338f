"""Worker processes with ngspice's shared library: started when needed, kept warm, thrown away after an error."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from ._worker import receive, send

WORKER = Path(__file__).with_name("_worker.py")
START_TIMEOUT = 60.0
"""Longest time for a worker to start [s]; 0.3 s on an idle machine, but other jobs may have the disk and the cores."""


class LibraryUnavailableError(Exception):
    """The shared library, or PySpice, cannot be loaded."""


@dataclass
class Reply:
    """What came back from a run: plots in order as (name, vectors), the log, and why it failed."""

    ok: bool
    log: list[str] = field(default_factory=list)
    plots: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reason: str = ""


class Worker:
    """One process with the library.

    It is started by path, not by multiprocessing: a caller's script needs no ``if __name__ == "__main__"``.
    """

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        path = [os.path.abspath(entry) for entry in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        )
        hello = self._answer(START_TIMEOUT)
        if hello is None or not hello["ready"]:
            said = hello["error"] if hello else " ".join(self._said()[-3:]) or "the process ended"
            self.close()
            raise LibraryUnavailableError(said)
        self.version: int = hello["version"]

    def run(self, netlist: str, timeout: float) -> Reply:
        """Run a netlist; a worker whose reply is not ok is spent and closed."""
        try:
            send(cast(IO[bytes], self._process.stdin), netlist)
            answer = self._answer(timeout)
        except BrokenPipeError:
            answer = None
        except BaseException:  # interrupted between question and answer: they would no longer match
            self.close()
            raise
        reply = Reply(**answer) if answer else Reply(ok=False, log=self._said(), reason=self._ending(timeout))
        if not reply.ok:
            self.close()
        return reply

    def _answer(self, timeout: float) -> Any:
        """The next answer; None if the process ended, or was ended after `timeout` seconds."""
        self._late = False
        timer = threading.Timer(timeout, self._give_up)
        timer.start()
        try:
            return receive(cast(IO[bytes], self._process.stdout))
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _ending(self, timeout: float) -> str:
        if self._late:
            return f"ngspice took longer than {timeout:g} s"
        return f"ngspice's process ended with status {self._process.wait()}"

    def _said(self) -> list[str]:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").splitlines()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:  # a request that the process did not live to read
                    continue


_lock = threading.Lock()
_idle: list[Worker] = []
_unavailable: str | None = None


def run_shared(netlist: str, timeout: float) -> Reply:
    """Run a netlist in a warm worker, or in a new one.

    Raises:
        LibraryUnavailableError: If the library cannot be loaded.
    """
    worker = _take()
    reply = worker.run(netlist, timeout)
    if reply.ok:
        with _lock:
            _idle.append(worker)
    return reply


def library_version() -> int | None:
    """Major version of the shared library; None if it cannot be loaded."""
    try:
        worker = _take()
    except LibraryUnavailableError:
        return None
    with _lock:
        _idle.append(worker)
    return worker.version


def _take() -> Worker:
    global _unavailable
    with _lock:
        if _idle:
            return _idle.pop()
    if _unavailable is not None:
        raise LibraryUnavailableError(_unavailable)
    try:
        return Worker()
    except LibraryUnavailableError as error:
        _unavailable = str(error)
        raise


def close_workers() -> None:
    """End all idle workers; the next run starts a new one."""
    with _lock:
        workers = list(_idle)
        _idle.clear()
    for worker in workers:
        worker.close()


def _forget() -> None:
    """In a forked child: the parent's workers answer the parent."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


atexit.register(close_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
