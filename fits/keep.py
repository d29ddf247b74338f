"""What a long run has done so far, kept in a folder, so that the same call goes on where it was stopped."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from devicelab import Model, Trace, __version__
from devicelab.errors import DevicelabError, FileFormatError
from devicelab.files import replacing
from devicelab.lut import describe

from .parallel import outcomes

Task = TypeVar("Task")
Result = TypeVar("Result")

PLAIN = {"builtins": {"set", "frozenset", "complex", "range", "slice", "bytearray", "object"}}
NUMPY = {"_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer", "float64", "int64", "bool_"}
OWN = ("devicelab", "fits")


def digest(*parts: Any) -> str:
    """A hash of values: samples of traces, parameters of models, fields of dataclasses; the version is in it."""
    state = sha256(__version__.encode())
    _feed(state.update, parts)
    return state.hexdigest()


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    update(f"<{type(value).__name__}>".encode())
    if isinstance(value, np.ndarray):
        update(f"{value.dtype.str}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Trace):
        for part in (value.t, value.v, value.i, value.meta.get("compliance")):
            _feed(update, part)
    elif isinstance(value, Model):
        _feed(update, describe(value))
    elif isinstance(value, np.random.SeedSequence):
        update(f"{value.entropy} {value.spawn_key}".encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            update(str(key).encode())
            _feed(update, value[key])
    elif isinstance(value, (list, tuple)):
        for part in value:
            _feed(update, part)
    elif is_dataclass(value):
        for entry in fields(value):
            update(entry.name.encode())
            _feed(update, getattr(value, entry.name))
    elif type(value).__module__.partition(".")[0] in OWN:
        _feed(update, vars(value))
    else:
        update(repr(value).encode())


def kept_outcomes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int | None = None,
    folder: str | Path | None = None,
) -> Iterator[tuple[int, Result | BaseException]]:
    """`outcomes`, written to a folder as they come; those that lie there are not computed again.

    A file belongs to its task by a hash of all that is in the task, so nothing stale is taken up. What a task was
    refused for (`DevicelabError`) is kept too. Files are read without running code from them: only arrays and this
    library's own classes; one that holds anything else, or is damaged, counts as absent.

    Args:
        function: At the top level of a module.
        tasks: Its arguments.
        workers: As for `outcomes`.
        folder: Made if missing; None keeps nothing.

    Raises:
        FileFormatError: If the folder cannot be made.
    """
    if folder is None:
        yield from outcomes(function, tasks, workers)
        return
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError("cannot make the folder of results", got=str(folder), hint=str(error)) from error
    paths = [place / f"{digest(function.__module__, function.__qualname__, task)[:32]}.part" for task in tasks]
    todo = []
    for k, path in enumerate(paths):
        found = _load(path)
        if found is None:
            todo.append(k)
        else:
            yield k, found[0]
    for n, outcome in outcomes(function, [tasks[k] for k in todo], workers):
        k = todo[n]
        if not isinstance(outcome, BaseException) or isinstance(outcome, DevicelabError):
            with replacing(paths[k], force=True) as temporary:
                temporary.write_bytes(pickle.dumps((outcome,)))
        yield k, outcome


class _Reader(pickle.Unpickler):
    """Finds arrays and this library's classes only."""

    def find_class(self, module: str, name: str) -> Any:
        root = module.partition(".")[0]
        found = super().find_class(module, name) if root in (*OWN, "numpy", "builtins") else None
        own = root in OWN and isinstance(found, type) and found.__module__.partition(".")[0] in OWN
        own |= (module, name) == ("devicelab.errors", "_rebuild")
        if own or (root == "numpy" and name in NUMPY) or name in PLAIN.get(module, ()):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a kept result")


def _load(path: Path) -> tuple[Any] | None:
    try:
        found = _Reader(BytesIO(path.read_bytes())).load()
    except OSError:
        return None
    except Exception:  # damaged in whatever way: it is computed again
        return None
    return found if isinstance(found, tuple) and len(found) == 1 else None
