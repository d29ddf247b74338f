"""A file on disk, opened once: its bytes, its hash, and its text in a known encoding."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import FileFormatError

MAX_UNPACKED = 2**30
"""Largest size of an unpacked .gz file [byte]; a compressed bomb must not fill the memory."""

PROGRAM = str(Path(__file__).with_name("_sheets.py"))
LONGEST = 300
"""Time after which a workbook is given up [s]."""
ODD = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd]")
RARE = re.compile("[^\x00-\u2fff\ufeff]")
MAGIC: dict[bytes, str] = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "xlsx",
    b"\xd0\xcf\x11\xe0": "xls",
    b"\x89HDF\r\n\x1a\n": "hdf5",
}
PACKED: dict[bytes, str] = {
    b"\x1f\x8b": "gzip within gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR",
    b"%PDF": "PDF", b"\x28\xb5\x2f\xfd": "Zstandard",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """The content of one file.

    Args:
        path: Where it came from.
        data: Its bytes, unpacked when the file was gzip.
        sha256: Hash of the file as it lies on disk.
    """

    path: Path
    data: bytes
    sha256: str

    @property
    def kind(self) -> str:
        """`xlsx`, `xls`, `hdf5` or `text`, told by the first bytes and not by the name."""
        return next((kind for magic, kind in MAGIC.items() if self.data.startswith(magic)), "text")

    @cached_property
    def decoded(self) -> tuple[str, str]:
        """The text and the encoding it was read with."""
        return decode(self.data, self.path)

    @property
    def text(self) -> str:
        """The text of the file, without a byte order mark."""
        return self.decoded[0]

    @cached_property
    def sheets(self) -> dict[str, list[list[Any]]]:
        """The rows of each sheet of a workbook; empty for any other file.

        Raises:
            FileFormatError: If the workbook is damaged, or claims more cells than fit in memory.
        """
        return load_sheets(self.data, self.path.name) if self.kind in {"xlsx", "xls"} else {}

    @cached_property
    def head(self) -> str:
        """The first 8192 characters; empty for a workbook or HDF5."""
        return self.text[:8192] if self.kind == "text" else ""


def open_source(path: str | Path) -> Source:
    """Read the file at `path`, unpacking gzip.

    Raises:
        FileFormatError: If there is no such file, it is a folder, cannot be read, is empty, or is a broken gzip.
    """
    path = Path(path)
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise FileFormatError(
            f"folder {path} cannot be opened", got="no permission", allowed="a folder that may be listed",
            hint="its files are left out; change its permissions to read them",
        )  # fmt: skip
    if path.is_dir():
        raise FileFormatError(
            f"{path} is a folder, not a file",
            got="a folder",
            allowed="one instrument file",
            hint="read all files in it with devicelab.readers.read_dataset(path)",
        )
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(
            f"no file {path}", got="nothing at this path", allowed="an existing file", hint=_neighbours(path)
        ) from None
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"cannot read {path}", got=str(problem), allowed="a readable file") from None
    if not raw.strip():
        raise FileFormatError(
            f"{path.name} is empty",
            got=f"{len(raw)} bytes",
            allowed="a file with data",
            hint="was the measurement saved, or the copy cut off?",
        )
    data = _gunzip(raw, path) if raw.startswith(b"\x1f\x8b") else raw
    packed = next((name for magic, name in PACKED.items() if data.startswith(magic)), "")
    if zipfile.is_zipfile(io.BytesIO(data)) and data.startswith(b"PK") and b"[Content_Types].xml" not in data:
        packed = "a zip archive"
    if packed:
        raise FileFormatError(
            f"{path.name} is packed", got=packed, allowed="text, .gz of text, .xls, .xlsx, HDF5", hint="unpack it first"
        )
    return Source(path, data, hashlib.sha256(raw).hexdigest())


def load_sheets(data: bytes, name: str) -> dict[str, list[list[Any]]]:
    """The rows of each sheet of a workbook, read in a process of its own; see `_sheets`."""
    try:
        done = subprocess.run([sys.executable, "-P", PROGRAM], input=data, capture_output=True, timeout=LONGEST)
        found = pickle.loads(done.stdout) if done.returncode == 0 else f"the workbook library ended ({done.returncode})"
    except subprocess.TimeoutExpired:
        found = f"the workbook library did not end in {LONGEST} s"
    if isinstance(found, dict):
        return found
    raise FileFormatError(
        f"{name} is a damaged workbook",
        got=found,
        allowed="an .xls or .xlsx that opens in a spreadsheet and fits in memory",
        hint="copy or export it again; a stray cell in the last row or column also makes a sheet too large",
    )


def _neighbours(path: Path) -> str | None:
    import difflib

    try:
        names = [e.name for e in path.parent.iterdir() if e.name != path.name] if path.parent.is_dir() else []
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else None


def _gunzip(raw: bytes, path: Path) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            data = stream.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as problem:
        raise FileFormatError(
            f"{path.name} is a broken gzip file", got=str(problem), allowed="a complete .gz", hint="copy it again"
        ) from None
    if len(data) > MAX_UNPACKED:
        raise FileFormatError(f"{path.name} unpacks to too much", got="over 1 GiB", allowed="up to 1 GiB of text")
    if not data.strip():
        raise FileFormatError(f"{path.name} is empty", got="an empty .gz", allowed="a file with data")
    return data


def decode(data: bytes, path: Path) -> tuple[str, str]:
    """Text of `data` and the encoding used: a byte order mark decides, then UTF-8, then Windows-1252.

    Raises:
        FileFormatError: If the bytes are not text in any of these.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return _strict(data, encoding, path)
    if b"\0" in data[:4096]:
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        return _strict(data, encoding, path)
    try:
        return _checked(data.decode("utf-8"), path), "utf-8"
    except UnicodeDecodeError:
        return _strict(data, "cp1252", path)


def _strict(data: bytes, encoding: str, path: Path) -> tuple[str, str]:
    try:
        return _checked(data.decode(encoding), path), encoding
    except UnicodeDecodeError as problem:
        raise _not_text(path, f"bytes that are not {encoding}: {problem.reason} at byte {problem.start}") from None


def _checked(text: str, path: Path) -> str:
    """`text`, unless it holds control characters or characters that no instrument writes."""
    odd, rare = (len(pattern.findall(text, 0, 65536)) for pattern in (ODD, RARE))
    if odd or rare > 0.3 * min(len(text), 65536):
        raise _not_text(path, f"{odd} control characters" if odd else "mostly characters that are not Latin")
    return text


def _not_text(path: Path, got: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} is not a text file, a workbook or HDF5",
        got=got,
        allowed="text (UTF-8, UTF-16 with a byte order mark, Windows-1252), .xls, .xlsx, .gz of text, HDF5",
        hint="export it again from the instrument's software as csv",
    )
