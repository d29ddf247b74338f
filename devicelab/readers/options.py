"""What a caller may say about a file, for all the readers at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ..errors import ParameterError, unknown_name
from .profile import Profile


class ReadOptions(TypedDict, total=False):
    """Keyword arguments of `read_traces`, `read_trace`, `read_tables` and `read_dataset`; see `Options`."""

    profile: str | Path | Profile | None
    columns: Mapping[str, str | int]
    units: Mapping[str, str]
    rate: float | None
    duration: float | None
    shunt: float | None
    split: str | tuple[str, ...]
    drop_nan: bool


@dataclass(frozen=True)
class Options:
    """What the caller says; it wins over the profile and over the file.

    Args:
        profile: Profile, name of one, or path of a TOML file; None to detect it.
        columns: Role (`v`, `i`, `t`, `cycle`) to a column name, a regular expression, or a number counted from 1.
        units: Role to unit, for example `{"i": "uA"}`.
        rate: Samples per second [1/s]; time is then uniform.
        duration: Time from the first to the last sample of each trace [s]; time is then uniform.
        shunt: Resistance [ohm] over which the second voltage was measured; the device current follows from it.
        split: Column (or several) whose value parts the rows into traces, `time` to part where the clock restarts, or
            `voltage` to part where it returns to its first sign, or `none`.
        drop_nan: Leave out rows without a number in place of refusing the file.
    """

    profile: str | Path | Profile | None = None
    columns: Mapping[str, str | int] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None
    duration: float | None = None
    shunt: float | None = None
    split: str | tuple[str, ...] = ""
    drop_nan: bool = False

    @staticmethod
    def of(given: Mapping[str, Any]) -> Options:
        """Options from keyword arguments.

        Raises:
            ParameterError: If an option is unknown or of another type, or a rate, duration or shunt is not positive.
        """
        known = [item.name for item in fields(Options)]
        for key in given:
            if key not in known:
                raise unknown_name("option for reading", key, known)
        options = Options(**given)
        _check_types(options)
        for key in ("rate", "duration", "shunt"):
            value = getattr(options, key)
            if value is not None and not 0 < value < float("inf"):
                raise ParameterError(f"{key} must be positive", got=value, allowed="a positive number")
        if options.rate is not None and options.duration is not None:
            raise ParameterError("rate and duration exclude each other", got="both", allowed="one of them")
        for role in [*options.columns, *options.units]:
            if role not in {"v", "i", "t", "cycle"}:
                raise unknown_name("role of a column", role, ["v", "i", "t", "cycle"])
        return options


def _check_types(options: Options) -> None:
    """Raise `ParameterError` for values of a type that no reader takes."""
    names = (options.split,) if isinstance(options.split, str) else options.split
    wrong = {
        "columns": (options.columns, "{'v': 1, 'i': 'Current'}", _is_map(options.columns, (str, int))),
        "units": (options.units, "{'i': 'uA'}", _is_map(options.units, str)),
        "split": (options.split, "a name, or a tuple of names", _is_names(names)),
        "drop_nan": (options.drop_nan, "True or False", isinstance(options.drop_nan, bool)),
    }
    for key in ("rate", "duration", "shunt"):
        value = getattr(options, key)
        wrong[key] = (value, "a positive number", value is None or isinstance(value, (int, float, np.number)))
    for key, (value, allowed, fits) in wrong.items():
        if not fits:
            raise ParameterError(f"option {key} is of another type", got=repr(value), allowed=allowed)


def _is_map(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, kind) for item in value.values())


def _is_names(value: object) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value)
