"""Traces on disk: csv that people and other programs read, HDF5 for many traces; both read back without loss.

CSV, format 1. `# devicelab traces 1`, one line `# trace K SAMPLES {metadata as json}` a trace, a header with units,
then rows. A leading column `trace` numbers the traces where there is more than one.

HDF5, format 1. Root attributes `format` = "devicelab-traces", `version` = 1, `count`. Groups `000000`, `000001`, ...
hold the datasets `t` [s], `v` [V], `i` [A] and, where known, `x` [1] and `y` [1], each with the attributes `unit` and
`description`, and `meta`, a JSON text. A reader refuses other formats and versions. Behind the HDF5 content stand the
eight bytes `DLSHA256` and the SHA-256 of all before them: the HDF5 library can hang or crash on a damaged file, so a
file that does not verify is never given to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .errors import FileFormatError, ParameterError, ShapeError
from .files import replacing, sha256
from .ops import is_tensor
from .trace import UNITS, Trace

FORMAT = "devicelab-traces"
VERSION = 1
CSV_MARK = "# devicelab traces"
DESCRIPTIONS = {
    "t": "time",
    "v": "voltage across the device",
    "i": "current into plus",
    "x": "state, 1 is low resistance",
    "y": "second state",
}
SEAL = b"DLSHA256"
SEAL_SIZE = len(SEAL) + 32
SUFFIXES = {".csv": "csv", ".txt": "csv", ".h5": "hdf5", ".hdf5": "hdf5"}


def write_traces(path: str | Path, traces: Trace | Sequence[Trace], *, force: bool = False) -> Path:
    """Write one or several traces; the suffix decides: .csv or .txt, .h5 or .hdf5.

    Args:
        path: The new file.
        traces: What to write.
        force: Replace a file that exists.

    Returns:
        The path written. The file appears whole or not at all.

    Raises:
        FileFormatError: If the file exists and `force` is false, or its folder does not exist.
        ParameterError: If the suffix is not known.
        ShapeError: If there is nothing to write, or a batch of devices is to go into csv.
    """
    kind = SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        raise ParameterError("unknown kind of trace file", got=str(path), allowed=", ".join(SUFFIXES))
    return (write_csv if kind == "csv" else write_hdf5)(path, traces, force=force)


def write_csv(path: str | Path, traces: Trace | Sequence[Trace], *, force: bool = False) -> Path:
    """Write traces as csv, every number with all its digits; arguments and errors as for `write_traces`."""
    several = _listed(traces)
    columns = [_arrays(trace) for trace in several]
    for arrays in columns:
        if any(array.ndim > 1 for array in arrays.values()):
            raise ShapeError(
                "csv holds one device a trace",
                got=f"current of shape {arrays['i'].shape}",
                allowed="shape [t]",
                hint="write .h5, or one Trace for each device of the batch",
            )
    names = [name for name in UNITS if any(name in arrays for arrays in columns)]
    with replacing(path, force=force) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write(f"{CSV_MARK} {VERSION}\n")
        for k, trace in enumerate(several):
            out.write(f"# trace {k} {len(trace)} {plain_json(trace.meta)}\n")
        head = [f"{name} [{UNITS[name]}]" for name in names]
        out.write(",".join(["trace"] * (len(several) > 1) + head) + "\n")
        for k, arrays in enumerate(columns):
            number = [str(k)] * (len(several) > 1)
            blank = [""] * arrays["t"].size
            cells = [[repr(x) for x in arrays[name].tolist()] if name in arrays else blank for name in names]
            out.writelines(",".join([*number, *row]) + "\n" for row in zip(*cells, strict=True))
    return Path(path)


def write_hdf5(path: str | Path, traces: Trace | Sequence[Trace], *, force: bool = False) -> Path:
    """Write traces as HDF5; arguments and errors as for `write_traces`, batches included."""
    several = _listed(traces)
    with replacing(path, force=force) as part:
        with h5py.File(part, "w") as file:
            file.attrs.update({"format": FORMAT, "version": VERSION, "count": len(several)})
            for k, trace in enumerate(several):
                group = file.create_group(f"{k:06d}")
                for name, array in _arrays(trace).items():
                    data = group.create_dataset(name, data=array)
                    data.attrs.update({"unit": UNITS[name], "description": DESCRIPTIONS[name]})
                group.create_dataset("meta", data=plain_json(trace.meta))
        seal(part)
    return Path(path)


def read_hdf5(path: str | Path, *, verify: bool = True) -> list[Trace]:
    """The traces in an HDF5 file that `write_hdf5` made.

    Args:
        path: The file.
        verify: Check the file's own hash first; turn it off for a file that another program changed on purpose.

    Raises:
        FileFormatError: If the file is missing, cut off, damaged, changed, or of another format or version.
    """
    if verify:
        check_seal(path)
    try:
        with h5py.File(path, "r") as file:
            _check_format(file, Path(path))
            return [_read_group(file[f"{k:06d}"]) for k in range(int(file.attrs["count"]))]
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise FileFormatError(
            f"cannot read {Path(path).name} as HDF5 traces",
            got=f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}",
            allowed="a complete file written by devicelab",
            hint="was the copy or the run that wrote it cut off? write it again from the source files",
        ) from None


def hdf5_format(path: str | Path) -> str:
    """The `format` attribute of an HDF5 file that devicelab wrote.

    Raises:
        FileFormatError: If the file is missing, cut off, damaged or changed.
    """
    check_seal(path)
    with h5py.File(path, "r") as file:
        return str(file.attrs.get("format", ""))


def seal(path: Path) -> None:
    """Append the hash of a file to it; HDF5 ignores what stands behind its content."""
    digest = bytes.fromhex(sha256(path))
    with path.open("ab") as file:
        file.write(SEAL + digest)


def check_seal(path: str | Path) -> None:
    """Raise `FileFormatError` unless a file ends in the hash of what stands before."""
    name = Path(path).name
    try:
        left = Path(path).stat().st_size - SEAL_SIZE
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while left > 0:
                block = file.read(min(left, 1 << 20))
                digest.update(block)
                left -= len(block)
                if not block:
                    break
            end = file.read()
    except OSError as problem:
        raise FileFormatError(f"cannot read {name}", got=str(problem), allowed="an HDF5 file of devicelab") from None
    if end != SEAL + digest.digest():
        raise FileFormatError(
            f"{name} is not as devicelab wrote it",
            got="another hash than the file states" if end.startswith(SEAL) else "no hash at the end of the file",
            allowed="a complete HDF5 file that nobody changed",
            hint="copy it again, or write it again from the source files; read_hdf5(path, verify=False) if it was "
            "changed on purpose",
        )


def read_own_csv(path: str | Path) -> list[Trace]:
    """The traces in a csv file that `write_csv` made, with their metadata.

    Raises:
        FileFormatError: If the file is cut off, damaged, or of another version.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        if lines[0] != f"{CSV_MARK} {VERSION}":
            raise _foreign(Path(path), lines[0])
        heads = [line.split(" ", 4) for line in lines if line.startswith("# trace ")]
        body = lines[1 + len(heads) :]
        samples = sum(int(head[3]) for head in heads)
        if body[-1] != "" or len(body) - 2 != samples:
            raise ValueError(f"{len(body) - 2} of {samples} rows")
        names = _own_names(body[0])
        cells = [[float(x) if x else np.nan for x in line.split(",")] for line in body[1:-1]]
        metas = [json.loads(head[4]) for head in heads]
        data = np.array(cells, dtype=float).reshape(len(cells), len(names))
        number = data[:, 0] if names[0] == "trace" else np.zeros(len(data))
        return [_from_columns(data[number == k], names, meta) for k, meta in enumerate(metas)]
    except (ValueError, IndexError, KeyError, OSError) as problem:
        if isinstance(problem, FileFormatError):
            raise
        raise FileFormatError(
            f"cannot read {Path(path).name} as traces that devicelab wrote",
            got=f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}",
            allowed="a complete csv written by devicelab",
            hint=f"to read it as any other csv, delete its first line ({CSV_MARK} ...)",
        ) from None


def _listed(traces: Trace | Sequence[Trace]) -> list[Trace]:
    several = [traces] if isinstance(traces, Trace) else list(traces)
    if not several:
        raise ShapeError("no trace to write", got="an empty list", allowed="one or more traces")
    return several


def _arrays(trace: Trace) -> dict[str, NDArray[np.float64]]:
    found = {}
    for name in UNITS:
        value = getattr(trace, name)
        if value is not None:
            found[name] = np.asarray(value.detach().cpu() if is_tensor(value) else value, dtype=float)
    return found


def plain_json(meta: Any) -> str:
    """Metadata as one line of JSON; numpy values become plain ones, and what JSON cannot hold becomes text."""
    text = json.dumps(dict(meta), default=_plain, ensure_ascii=False)
    return text if text.isascii() or _is_unicode(text) else json.dumps(dict(meta), default=_plain)


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text; a file name in another code page is escaped instead."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """What JSON can hold, for numpy scalars and arrays; anything else as its text."""
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _own_names(header: str) -> list[str]:
    """Column names of our own csv; another unit or order than we write means that somebody changed the file."""
    known = {f"{name} [{unit}]": name for name, unit in UNITS.items()}
    names = [known.get(cell, cell) for cell in header.split(",")]
    signals = names[1:] if names[0] == "trace" else names
    if signals not in (["t", "v", "i"], ["t", "v", "i", "x"], ["t", "v", "i", "x", "y"]):
        raise ValueError(f"a header that devicelab does not write: {header[:60]!r}")
    return names


def _check_format(file: Any, path: Path) -> None:
    if file.attrs.get("format") != FORMAT or int(file.attrs.get("version", 0)) != VERSION:
        raise _foreign(path, f"format {file.attrs.get('format')!r}, version {file.attrs.get('version')!r}")


def _foreign(path: Path, got: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} does not hold traces of a known format", got=got, allowed=f"{FORMAT} version {VERSION}"
    )


def _read_group(group: Any) -> Trace:
    arrays = {}
    for name, unit in UNITS.items():
        if name in group:
            if group[name].attrs.get("unit") != unit:
                raise FileFormatError(
                    f"dataset {name} has another unit", got=group[name].attrs.get("unit"), allowed=unit
                )
            arrays[name] = group[name][()]
    return Trace(**arrays, meta=json.loads(group["meta"].asstr()[()]))


def _from_columns(rows: NDArray[np.float64], names: list[str], meta: dict[str, Any]) -> Trace:
    columns = {name: rows[:, k] for k, name in enumerate(names) if name in UNITS}
    for name in ("x", "y"):
        if name in columns and np.isnan(columns[name]).all():
            del columns[name]
    return Trace(**columns, meta=meta)
