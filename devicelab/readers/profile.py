"""Profiles: small TOML files that say how one kind of instrument file is built, so that a new kind needs no code."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import ParameterError, unknown_name
from .source import Source

READERS = ("text", "workbook", "easyexpert", "mdm", "lvm")
SIDE_PROFILE = "devicelab-profile.toml"
"""A file of this name beside the data, or up to three folders above, describes every file below it."""


@dataclass(frozen=True)
class Detect:
    """When a profile applies; every condition given must hold.

    Args:
        head: Regular expression to find in the first 8192 characters.
        path: Regular expression to find in the path, written with `/`; its named groups become metadata.
        kind: `text`, `xlsx` or `xls`.
        sheets: Names of sheets that the workbook has.
        priority: The highest priority among the profiles that apply wins.
    """

    head: str = ""
    path: str = ""
    kind: tuple[str, ...] = ()
    sheets: tuple[str, ...] = ()
    priority: int = 0


@dataclass(frozen=True)
class Layout:
    """How rows and cells are written.

    Args:
        delimiter: `auto`, `tab`, `comma`, `semicolon`, `pipe`, `space` or the character itself.
        decimal: `auto`, `.` or `,`.
        header: `auto`, or `none` when the first row is data already.
        skip: Lines to leave out at the top.
        names: Column names, with units as in `Current [uA]`, in place of the header of the file.
    """

    delimiter: str = "auto"
    decimal: str = "auto"
    header: str = "auto"
    skip: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """One way an instrument writes its files.

    Args:
        name: Short name, also the name of the TOML file.
        title: The instrument or program.
        reader: Which parser takes the file: `text`, `workbook`, `easyexpert`, `mdm` or `lvm`.
        detect: When the profile applies.
        layout: Rows and cells.
        columns: Role (`v`, `i`, `t`, `cycle`) to column name, regular expression, or number counted from 1.
        units: Role to unit, where the file does not say.
        split: Columns that part the rows into traces, or `time`, `voltage` or `none` as in `Options`.
        resistance: Column of resistance [ohm] from which the current follows as v / r, when current is missing.
        shunt: Resistance [ohm] over which the second voltage was measured, when current was.
        periods: Periods of the drive in a trace, for time from a `frequency` [Hz] that the path or the head gives.
        extract: Metadata name to a regular expression with one group, searched in the head.
        meta: Constant metadata.
        origin: Where the profile came from.
    """

    name: str
    title: str = ""
    reader: str = "text"
    detect: Detect = Detect()
    layout: Layout = Layout()
    columns: Mapping[str, str | int] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    split: str | tuple[str, ...] = ""
    resistance: str = ""
    shunt: float | None = None
    periods: float | None = None
    extract: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "built in"

    def applies(self, source: Source) -> str:
        """Why this profile fits the file, or an empty text when it does not."""
        rule, why = self.detect, []
        if rule.kind:
            if source.kind not in rule.kind:
                return ""
            why.append(f"it is {source.kind}")
        elif source.kind != "text":
            return ""
        if rule.sheets:
            if not set(rule.sheets) <= set(source.sheets):
                return ""
            why.append(f"it has the sheet {' and '.join(rule.sheets)}")
        if rule.path:
            found = re.search(rule.path, source.path.absolute().as_posix())
            if not found:
                return ""
            why.append(f"its path ends in {found[0]!r}")
        if rule.head:
            found = re.search(rule.head, source.head, re.MULTILINE)
            if not found:
                return ""
            why.append(f"it says {found[0].strip()[:40]!r}")
        return " and ".join(why)

    def found_meta(self, source: Source) -> dict[str, Any]:
        """Metadata from the constants, the path and the head of the file."""
        found: dict[str, Any] = dict(self.meta)
        if self.detect.path and (match := re.search(self.detect.path, source.path.absolute().as_posix())):
            found.update({k: _plain(v) for k, v in match.groupdict().items() if v is not None})
        for name, pattern in self.extract.items():
            if match := re.search(pattern, source.head, re.MULTILINE):
                found[name] = _plain(match[1])
        return found


def _plain(text: str) -> Any:
    """A number where the text is one."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if re.fullmatch(r"[+-]?\d+", text) else number


def load_profile(path: str | Path) -> Profile:
    """The profile in a TOML file.

    Raises:
        ParameterError: If the file is missing, is not TOML, or holds a key, reader or pattern that is not known.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ParameterError(f"cannot read the profile {path}", got=str(problem), allowed="a TOML file") from None
    return parse_profile(content, path.stem, str(path))


def parse_profile(content: str, name: str, origin: str) -> Profile:
    """The profile that `content` (TOML) describes."""
    try:
        given = tomllib.loads(content)
    except tomllib.TOMLDecodeError as problem:
        raise ParameterError(
            f"profile {origin} is not valid TOML",
            got=str(problem),
            allowed="TOML",
            hint=r"write regular expressions in single quotes: '^Time\s'",
        ) from None
    _known_keys(given, Profile, f"key of profile {name}")
    for part, kind in (("detect", Detect), ("layout", Layout)):
        if part in given:
            _known_keys(given[part], kind, f"key of [{part}] in profile {name}")
            keys: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given[part].items()}
            given[part] = kind(**keys)
    if isinstance(given.get("split"), list):
        given["split"] = tuple(given["split"])
    given.pop("origin", None)
    profile = Profile(**{"name": name, **given}, origin=origin)
    if profile.reader not in READERS:
        raise unknown_name("reader in a profile", profile.reader, list(READERS))
    for pattern in [profile.detect.head, profile.detect.path, *profile.extract.values()]:
        try:
            re.compile(pattern)
        except re.error as problem:
            raise ParameterError(
                f"profile {name} holds a broken pattern",
                got=f"{pattern!r}: {problem}",
                allowed="a Python regular expression",
            ) from None
    return profile


def _known_keys(given: object, kind: type, what: str) -> None:
    if not isinstance(given, dict):
        raise ParameterError(f"{what} must be a table", got=repr(given), allowed="[name] with keys below")
    known = [item.name for item in fields(kind)]
    for key in given:
        if key not in known:
            raise unknown_name(what, key, known)


@cache
def builtin_profiles() -> tuple[Profile, ...]:
    """The profiles that come with devicelab."""
    folder = resources.files(__package__) / "profiles"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=lambda item: item.name)
    return tuple(parse_profile(f.read_text(encoding="utf-8"), f.name.removesuffix(".toml"), "built in") for f in files)


def profiles() -> list[Profile]:
    """Every profile in use: those in the folder `$DEVICELAB_PROFILES` first, then those built in."""
    folder = os.environ.get("DEVICELAB_PROFILES")
    own = [load_profile(path) for path in sorted(Path(folder).glob("*.toml"))] if folder else []
    return own + list(builtin_profiles())


def choose_profile(source: Source, wanted: str | Path | Profile | None) -> tuple[Profile, str]:
    """The profile to read a file with, and why.

    Args:
        source: The file.
        wanted: A profile, the name of one, or the path of a TOML file; None to find it.
    """
    if isinstance(wanted, Profile):
        return wanted, "given by the caller"
    if wanted is not None:
        if str(wanted).endswith(".toml"):
            return load_profile(wanted), "given by the caller"
        by_name = {profile.name: profile for profile in profiles()}
        if str(wanted) not in by_name:
            raise unknown_name("profile", str(wanted), list(by_name))
        return by_name[str(wanted)], "given by the caller"
    for folder in list(source.path.absolute().parents)[:4]:
        if (folder / SIDE_PROFILE).is_file():
            return load_profile(folder / SIDE_PROFILE), f"{SIDE_PROFILE} lies in {folder.name}/"
    able = [(profile, why) for profile in profiles() if (why := profile.applies(source))]
    return max(able, key=lambda item: item[0].detect.priority)
