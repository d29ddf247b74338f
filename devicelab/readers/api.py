"""Reading one file: the public edge, where the profile is chosen and the options are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from ..errors import ParameterError, ShapeError
from ..trace import UNITS, Trace
from ..tracefile import CSV_MARK, hdf5_format, read_hdf5, read_own_csv
from .assemble import table_of, traces_of
from .choice import Job
from .delimited import read_blocks
from .easyexpert import read_easyexpert
from .lvm import read_lvm
from .mdm import read_mdm
from .options import Options, ReadOptions
from .profile import Profile, choose_profile
from .source import Source, open_source
from .store import FORMAT as STORE
from .store import open_store
from .table import Block, Table
from .workbook import read_workbook


def read_traces(path: str | Path, **options: Unpack[ReadOptions]) -> list[Trace]:
    """Every trace in an instrument file: its cycles, runs, records and steps, the oldest first.

    Args:
        path: A csv, text, .gz, .xls or .xlsx file, or an HDF5 file or store of devicelab.
        **options: `profile`, `columns`, `units`, `rate`, `duration`, `shunt`, `split`, `drop_nan`; see `Options`.

    Returns:
        Traces in SI units. `meta` holds at least `file`, `path`, `sha256`, `profile`, `profile_why`, `columns`,
        `units` (as written, or assumed) and `time` (measured, uniform or synthetic); and, where the file says,
        `cycle`, `run`, `sheet`, `step`, `compliance` [A].

    Raises:
        FileFormatError: If the file is missing, empty, not data, or its columns, units or numbers cannot be trusted.
        TraceError: If time goes backwards or stands still, or a trace has fewer than two samples.
        ParameterError: If an option or a profile is wrong.
    """
    source, profile, chosen, meta = _open(path, options)
    if source.kind == "hdf5":
        return _own_hdf5(path)
    if source.head.startswith(CSV_MARK):
        return read_own_csv(path)
    return traces_of(_blocks(source, profile), Job(source.path.name, profile, chosen, meta))


def read_trace(path: str | Path, index: int | None = None, **options: Unpack[ReadOptions]) -> Trace:
    """The trace in an instrument file.

    Args:
        path: As for `read_traces`.
        index: Which trace, counted from 0 (from the end when negative), where the file holds several.
        **options: As for `read_traces`.

    Raises:
        ShapeError: If the file holds several traces and no `index` says which, or fewer than `index` needs.
        FileFormatError: As for `read_traces`.
        TraceError: As for `read_traces`.
        ParameterError: As for `read_traces`.
    """
    traces = read_traces(path, **options)
    if index is None and len(traces) == 1:
        return traces[0]
    if index is None or not -len(traces) <= index < len(traces):
        raise ShapeError(
            f"{Path(path).name} holds {len(traces)} trace{'s' * (len(traces) > 1)}",
            got="no index" if index is None else f"index={index}",
            allowed=f"index=0 to index={len(traces) - 1}",
            hint="read_traces(path) returns all of them",
        )
    return traces[index]


def read_tables(path: str | Path, **options: Unpack[ReadOptions]) -> list[Table]:
    """Every column of an instrument file in SI units, whether or not it holds a current and a voltage.

    Args:
        path: A csv, text, .gz, .xls or .xlsx file.
        **options: As for `read_traces`; only `profile` matters here.

    Raises:
        FileFormatError: If the file is missing, empty, not data, or states a unit that is not understood.
        ParameterError: If an option or a profile is wrong.
    """
    source, profile, _, meta = _open(path, options)
    if source.kind == "hdf5":
        return [Table({k: getattr(trace, k) for k in "tvi"}, UNITS, trace.meta) for trace in _own_hdf5(path)]
    return [table_of(block, meta) for block in _blocks(source, profile)]


def _own_hdf5(path: str | Path) -> list[Trace]:
    """The traces in an HDF5 file or store of devicelab."""
    if hdf5_format(path) == STORE:
        with open_store(path) as store:
            return list(store)
    return read_hdf5(path, verify=False)


def _open(path: str | Path, given: ReadOptions) -> tuple[Source, Profile, Options, dict[str, Any]]:
    options = Options.of(given)
    source = open_source(path)
    if source.kind == "hdf5":
        return source, Profile("devicelab"), options, {}
    profile, why = choose_profile(source, options.profile)
    meta: dict[str, Any] = {
        "file": source.path.name,
        "path": str(source.path),
        "sha256": source.sha256,
        "profile": profile.name,
        "profile_why": why,
        **({"encoding": source.decoded[1]} if source.kind == "text" else {}),
        **profile.found_meta(source),
    }
    return source, profile, options, meta


def _blocks(source: Source, profile: Profile) -> list[Block]:
    """What the file holds, by the reader that the profile names."""
    name = source.path.name
    is_workbook = source.kind in {"xlsx", "xls"}
    if is_workbook != (profile.reader == "workbook"):
        raise ParameterError(
            f"profile {profile.name} does not read this kind of file",
            got=f"{name}, which is {source.kind}",
            allowed="workbooks" if profile.reader == "workbook" else "text",
            hint="leave profile out to detect it",
        )
    if is_workbook:
        return read_workbook(source)
    readers = {"easyexpert": read_easyexpert, "mdm": read_mdm, "lvm": read_lvm}
    if profile.reader in readers:
        return readers[profile.reader](source.text, name)
    return read_blocks(source.text, name, profile.layout)
