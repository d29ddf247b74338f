"""Folders and globs of files: in parallel, with a progress bar, resumable, a bad file reported and not fatal."""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from ..errors import DevicelabError, FileFormatError, ParameterError
from ..files import replacing
from ..trace import Trace
from .api import read_tables, read_traces
from .choice import NoPairError
from .dataset import Dataset, Failure
from .options import Options, ReadOptions
from .store import StoreWriter, open_store
from .table import Table

SUFFIXES = frozenset(
    [".csv", ".txt", ".tsv", ".dat", ".asc", ".xls", ".xlsx", ".gz", ".lvm", ".mdm", ".qtj", ".h5", ".hdf5"]
)
"""What a folder is searched for; a glob takes whatever it matches."""
IN_A_PART = 256
"""Files after which a store in the making is saved."""


@dataclass(frozen=True)
class Outcome:
    """What came out of one file: traces, or tables, or a failure."""

    path: str
    traces: list[Trace]
    tables: list[Table]
    failure: Failure | None = None


@dataclass(frozen=True)
class Summary:
    """What a run of `read_into_store` did.

    Args:
        path: The store.
        files: Files looked at in all, earlier runs included.
        traces: Traces in the store.
        without_traces: Files that hold tables only.
        failures: Files that could not be read.
        resumed: Files that an earlier, interrupted run had read already.
    """

    path: Path
    files: int
    traces: int
    without_traces: int
    failures: tuple[Failure, ...]
    resumed: int


def find_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files that paths, folders (searched to any depth) and globs stand for, sorted, each once.

    A folder within them that cannot be opened is among them, so that reading reports it.

    Raises:
        FileFormatError: If one of them stands for no file.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not all(str(item).strip() for item in given) or not given:
        raise FileFormatError(
            "no files named", got=repr(paths), allowed="a file, a folder or a glob", hint="'.' is here"
        )
    found: dict[Path, None] = {}
    for item in given:
        path = Path(item)
        if path.is_dir():
            files = _inside(path)
        elif path.exists():
            files = [path]
        else:
            files = [Path(name) for name in glob.glob(str(item), recursive=True) if Path(name).is_file()]
        if not files:
            raise FileFormatError(
                f"no files in {item}",
                got="a folder without instrument files" if path.is_dir() else "nothing by that name",
                allowed=f"a file, a glob, or a folder with files ending in {' '.join(sorted(SUFFIXES))}",
            )
        found.update(dict.fromkeys(sorted(files, key=lambda p: _natural(str(p)))))
    return list(found)


def _inside(folder: Path) -> list[Path]:
    """Instrument files in a folder at any depth, and folders that cannot be opened, which are worth a report."""
    closed: list[Path] = []
    found = [
        Path(root, name)
        for root, _, names in os.walk(folder, onerror=lambda problem: closed.append(Path(problem.filename)))
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and _is_file(Path(root, name))
    ]
    return [path for path in (*found, *closed) if _shown(path, folder)]


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link to nowhere, which is worth a report."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _shown(path: Path, folder: Path) -> bool:
    return not any(part.startswith((".", "~$")) for part in path.relative_to(folder).parts)


def _natural(text: str) -> list[Any]:
    """Sort key that puts run_2 before run_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text)]


def read_dataset(
    paths: str | Path | Iterable[str | Path],
    *,
    pattern: str = "",
    workers: int = 1,
    progress: bool = False,
    **options: Unpack[ReadOptions],
) -> Dataset:
    r"""Every trace of many files, in memory.

    Args:
        paths: A file, a folder, a glob, or several of them.
        pattern: Regular expression searched in each path (written with `/`); its named groups become metadata, for
            example `r"(?P<device>M\d+)/(?P<temperature>\d+)K"`.
        workers: Processes. With more than one, a script needs `if __name__ == "__main__":` around what it runs.
        progress: Show a bar on standard error.
        **options: As for `read_traces`.

    Returns:
        Traces; tables of files without current and voltage; and failures, which are not fatal.

    Raises:
        FileFormatError: If a path stands for no file.
        ParameterError: If the pattern, an option or a profile is wrong.
    """
    job = _checked(pattern, workers, options)
    files = find_files(paths)
    outcomes = list(_read_all(files, job, workers, progress))
    return Dataset(
        [trace for outcome in outcomes for trace in outcome.traces],
        [table for outcome in outcomes for table in outcome.tables],
        [outcome.failure for outcome in outcomes if outcome.failure],
    )


def read_into_store(
    paths: str | Path | Iterable[str | Path],
    store: str | Path,
    *,
    pattern: str = "",
    workers: int = 1,
    progress: bool = False,
    force: bool = False,
    **options: Unpack[ReadOptions],
) -> Summary:
    """Read many files into an HDF5 store, in memory that does not grow with their number.

    An interrupted run leaves what it has in `STORE.parts/`; the same call goes on from there. Files that were changed
    meanwhile are read again, and stand last.

    Args:
        paths: A file, a folder, a glob, or several of them.
        store: The new store; `open_store` reads it.
        pattern: As for `read_dataset`.
        workers: As for `read_dataset`.
        progress: As for `read_dataset`.
        force: Replace a store that exists.
        **options: As for `read_traces`.

    Raises:
        FileFormatError: If a path stands for no file, or the store exists and `force` is false.
        ParameterError: If the pattern, an option or a profile is wrong.
    """
    job = _checked(pattern, workers, options)
    target = Path(store)
    with contextlib.ExitStack() as stack:
        final = stack.enter_context(replacing(target, force=force))
        parts = target.with_name(target.name + ".parts")
        parts.mkdir(exist_ok=True)
        files = {_stamp(path): path for path in find_files(paths)}
        done = _usable_parts(parts, set(files), repr(job))
        todo = [path for stamp, path in files.items() if stamp not in done]
        outcomes = stack.enter_context(contextlib.closing(_read_all(todo, job, workers, progress)))
        first = 1 + max((int(part.stem) for part in parts.glob("*.h5")), default=-1)
        for number, group in enumerate(iter(lambda: list(islice(outcomes, IN_A_PART)), []), start=first):
            _save_part(parts / f"{number:06d}.h5", group, repr(job))
        summary = _merge(parts, final, target, len(files), len(done))
    shutil.rmtree(parts)
    return summary


def _checked(pattern: str, workers: int, options: ReadOptions) -> tuple[str, dict[str, Any]]:
    Options.of(options)
    if not isinstance(workers, int) or workers < 1:
        raise ParameterError("too few processes", got=workers, allowed="workers=1 or more")
    try:
        re.compile(pattern)
    except re.error as problem:
        raise ParameterError(
            "the pattern is no regular expression", got=f"{pattern!r}: {problem}", allowed=r"(?P<device>M\d+)"
        ) from None
    return pattern, dict(options)


def _read_all(
    files: Sequence[Path], job: tuple[str, Mapping[str, Any]], workers: int, progress: bool
) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the files."""
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(_bar(len(files), progress))
        outcomes: Iterator[Outcome] = (read_one(path, job) for path in files)
        if workers > 1:
            # Pool ends its processes at once when a run is interrupted; ProcessPoolExecutor may wait for ever.
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers, initializer=_deaf))
            _await_start(pool)
            outcomes = pool.imap(partial(read_one, job=job), files, chunksize=max(1, min(16, len(files) // workers)))
        for outcome in outcomes:
            bar.update(1)
            yield outcome


def _await_start(pool: Any) -> None:
    """Wait for the first process. Where all die at once, as in a script without a guard, a pool goes on starting them.

    Raises:
        ParameterError: If a process ends before it has begun.
    """
    started, first = multiprocessing.active_children(), pool.apply_async(_deaf)
    while not first.ready():
        first.wait(0.1)
        if any(child.exitcode for child in started):
            raise ParameterError(
                "the processes that read files end as soon as they start",
                got=f"exit code {next(child.exitcode for child in started if child.exitcode)}",
                allowed='a script that runs nothing when imported: if __name__ == "__main__": ...',
                hint="put that line around what the script does, or read with workers=1",
            )


def _deaf() -> None:
    """Leave an interrupt from the keyboard, which reaches all processes, to the one that started them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _bar(length: int, progress: bool) -> Any:
    import click

    return click.progressbar(length=length, label="reading", file=sys.stderr, hidden=not progress, show_pos=True)


def read_one(path: Path, job: tuple[str, Mapping[str, Any]]) -> Outcome:
    """What one file holds; an error in it is part of the outcome."""
    pattern, options = job
    found = re.search(pattern, path.absolute().as_posix()) if pattern else None
    more = {key: _plain(text) for key, text in (found.groupdict() if found else {}).items() if text is not None}
    try:
        return Outcome(str(path), [trace.with_meta(**more) for trace in read_traces(path, **options)], [])
    except NoPairError:
        pass
    except DevicelabError as problem:
        return Outcome(str(path), [], [], Failure(str(path), str(problem)))
    try:
        return Outcome(str(path), [], read_tables(path, **options))
    except DevicelabError as problem:
        return Outcome(str(path), [], [], Failure(str(path), str(problem)))


def _plain(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _stamp(path: Path) -> str:
    """Tells whether a file is the one that an earlier run read."""
    try:
        state = path.stat()
    except OSError:
        return f"{path.absolute()} is not there"
    return f"{path.absolute()} {state.st_size} {state.st_mtime_ns}"


def _save_part(path: Path, outcomes: Sequence[Outcome], job: str) -> None:
    with replacing(path) as part:
        writer = StoreWriter(part, job)
        writer.add([trace for outcome in outcomes for trace in outcome.traces])
        writer.failures = [outcome.failure for outcome in outcomes if outcome.failure]
        writer.done = [_stamp(Path(outcome.path)) for outcome in outcomes]
        writer.without_traces = sum(not outcome.traces and outcome.failure is None for outcome in outcomes)
        writer.close()


def _usable_parts(parts: Path, wanted: set[str], job: str) -> set[str]:
    """Stamps of files that earlier parts hold; parts of another job, or with files that changed, are dropped."""
    done: set[str] = set()
    for path in sorted(parts.glob("*.h5")):
        with contextlib.suppress(FileFormatError), open_store(path) as store:
            if store.job == job and set(store.done) <= wanted:
                done.update(store.done)
                continue
        path.unlink()
    return done


def _merge(parts: Path, final: Path, target: Path, files: int, resumed: int) -> Summary:
    writer = StoreWriter(final)
    for path in sorted(parts.glob("*.h5")):
        with open_store(path) as store:
            writer.add_store(store)
    writer.close()
    return Summary(target, files, len(writer.meta), writer.without_traces, tuple(writer.failures), resumed)
