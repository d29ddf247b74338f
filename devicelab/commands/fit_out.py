"""The folder of `devicelab fit --out`: what a stopped run left there is its own, everything else is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from ..errors import FileFormatError
from ..files import replacing, sha256, write_text

UNFINISHED = ".unfinished"
"""Folder in --out with the fits of a run that was stopped, and the list of the files that it wrote."""

LIST = "run.json"


def fingerprint(options: Mapping[str, Any]) -> str:
    """What a command is known by: two with the same options go on from one another."""
    return hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()


class Out:
    """The folder that a command writes to.

    A file is replaced with --force only, but for one that a stopped run of the same command wrote and nobody has
    changed since. Until `done`, the names and hashes of what was written lie in OUT/.unfinished.

    Args:
        path: The folder; made when something is written.
        force: Replace files that exist.
        command: `fingerprint` of the command.
        names: Files that it will write.

    Raises:
        FileFormatError: If `path` is a file, holds one of the files, or what another command left unfinished.
    """

    def __init__(self, path: Path, force: bool, command: str, names: Iterable[str]) -> None:
        self.path, self.force, self.command = path, force, command
        if path.exists() and not path.is_dir():
            raise FileFormatError("--out is a file", got=str(path), allowed="a folder, made if it does not exist")
        found = self._read()
        self._mine: dict[str, list[str]] = found.get("files", {}) if found.get("command") == command else {}
        if found.get("command", command) != command and not force:
            raise FileFormatError(
                "another command was stopped in this folder, and can go on from there",
                got=str(path / UNFINISHED),
                hint="the same command to finish it, another --out, or --force to replace its results",
            )
        taken = [name for name in names if (path / name).exists() and not self._may(name)]
        if taken:
            raise FileFormatError(
                "the folder holds a fit already: a file exists",
                got=", ".join(str(path / name) for name in taken),
                hint="another --out, or --force to replace them",
            )

    @property
    def parts(self) -> Path:
        """The folder of finished fits of a run that is not done; made with the list in it."""
        self._note()
        return self.path / UNFINISHED

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        with self.replacing(name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """`devicelab.files.replacing` for a file of the folder."""
        self._note()
        with replacing(self.path / name, force=self._may(name)) as temporary:
            yield temporary
            self._mine.setdefault(name, []).append(sha256(temporary))
            self._note()  # before the file takes its place: a stop in between leaves nothing that is not in the list

    def done(self) -> None:
        """All is written: what a stopped run would need goes."""
        rmtree(self.path / UNFINISHED, ignore_errors=True)

    def _may(self, name: str) -> bool:
        """Whether a file that exists may be replaced."""
        path = self.path / name
        return self.force or (name in self._mine and path.is_file() and sha256(path) in self._mine[name])

    def _note(self) -> None:
        try:
            (self.path / UNFINISHED).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileFormatError("cannot make the folder of results", got=str(self.path), hint=str(error)) from error
        text = json.dumps({"command": self.command, "files": self._mine}, indent=1)
        write_text(self.path / UNFINISHED / LIST, text + "\n", force=True)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads((self.path / UNFINISHED / LIST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        good = isinstance(found, dict) and isinstance(found.get("files"), dict)
        return found if good else {}
