"""Writing files so that a reader, or a crash, sees the old content or the new one and nothing in between."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileFormatError


def check_target(path: str | Path, *, force: bool = False) -> Path:
    """The path of a file that may be written; long work asks before it begins.

    Raises:
        FileFormatError: If `path` exists and `force` is not set, is a folder, or its folder does not exist or is
            read-only.
    """
    target = Path(path)
    if target.is_dir():
        raise FileFormatError("a folder stands where the file should go", got=str(target), hint="give another name")
    if target.exists() and not force:
        raise FileFormatError(
            "file exists already", got=str(target), hint="give another name, or --force to replace it"
        )
    if not target.parent.is_dir():
        raise FileFormatError("folder does not exist", got=str(target.parent), hint="create it first")
    if not os.access(target.parent, os.W_OK):
        raise FileFormatError("folder is read-only", got=str(target.parent), hint="give another folder")
    return target


@contextmanager
def replacing(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, synced to disk, if the block succeeds.

    Raises:
        FileFormatError: As `check_target`.
    """
    target = check_target(path, force=force)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str, *, force: bool = False) -> None:
    """Write a text file as `replacing` does."""
    with replacing(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
