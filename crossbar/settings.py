"""Dataclasses from tables of a TOML file, with errors that name the key, what it allows and the nearest valid one."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from devicelab.errors import DevicelabError, FileFormatError, ParameterError, unknown_name

Made = TypeVar("Made")
_PLAIN = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        FileFormatError: If it is not one; says line and column.
    """
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(
            "not a TOML file", got=f"{path}: {error}", hint='text needs quotes: name = "..."'
        ) from error


def from_table(cls: type[Made], table: Mapping[str, Any], where: str) -> Made:
    """A dataclass from a table of a TOML file; dataclasses among its fields are tables within.

    Args:
        cls: A dataclass.
        table: Keys are names of its fields.
        where: Name of the table, for messages.

    Raises:
        ParameterError: For an unknown or missing key, or a value of the wrong kind or out of bounds.
    """
    if not isinstance(table, Mapping):
        raise ParameterError(f"{where} is not a table", got=repr(table), allowed=", ".join(_names(cls)))
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise unknown_name(f"key in {where}", key, list(known))
    missing = [
        name
        for name, field in known.items()
        if name not in table and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ParameterError(f"{where} lacks {' and '.join(missing)}", allowed=", ".join(known))
    values = {key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    try:
        return cls(**values)
    except DevicelabError as error:
        raise ParameterError(f"{where}: {error.what}", got=error.got, allowed=error.allowed, hint=error.hint) from error


def _names(cls: type[Any]) -> list[str]:
    return [field.name for field in fields(cls) if field.init]


def _value(kind: Any, value: Any, where: str) -> Any:
    """A value as `kind`, or an error that says what is allowed."""
    fits, made = _convert(kind, value, where)
    if not fits:
        raise ParameterError(f"{where} has the wrong kind of value", got=repr(value), allowed=_described(kind))
    return made


def _convert(kind: Any, value: Any, where: str) -> tuple[bool, Any]:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        arms = get_args(kind)
        tables = [arm for arm in arms if is_dataclass(arm)]
        if isinstance(value, Mapping) and len(tables) == 1:
            return True, from_table(tables[0], value, where)  # type: ignore[arg-type]
        return next((found for arm in arms if (found := _convert(arm, value, where))[0]), (False, None))
    if origin is Literal:
        return value in get_args(kind), value
    if origin is tuple or origin is list or origin is Sequence:
        return _sequence(kind, value, where)
    if origin is dict or origin is Mapping:
        inner = get_args(kind)[1]
        return isinstance(value, Mapping), {k: _value(inner, v, f"{where}.{k}") for k, v in dict(value).items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return (True, from_table(kind, value, where)) if isinstance(value, Mapping) else (False, None)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return True, float(value)
    if kind is int and isinstance(value, bool):
        return False, None
    if kind is Path and isinstance(value, str):
        return True, Path(value)
    if kind is Any:
        return True, value
    return kind in _PLAIN and isinstance(value, kind), value


def _sequence(kind: Any, value: Any, where: str) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, None
    inner = [arm for arm in get_args(kind) if arm is not Ellipsis]
    if len(inner) > 1 and len(inner) != len(value):
        return False, None
    each = inner if len(inner) > 1 else inner * len(value)
    return True, tuple(_value(arm, v, f"{where}[{k}]") for k, (arm, v) in enumerate(zip(each, value, strict=True)))


def _described(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        arms = [_described(arm) for arm in get_args(kind) if arm is not type(None)]
        return " or ".join(dict.fromkeys(arm for arm in arms if arm))
    if origin is Literal:
        return ", ".join(map(repr, get_args(kind)))
    if origin in (tuple, list, Sequence):
        return f"a list of {_described(get_args(kind)[0])}"
    if is_dataclass(kind) and isinstance(kind, type):
        return f"a table with {', '.join(_names(kind))}"
    return _PLAIN.get(kind, "")
