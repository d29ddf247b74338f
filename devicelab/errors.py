"""Errors that say four things: what went wrong, what was given, what is allowed, and what to try.

Every error raised on bad input derives from `DevicelabError` and from the builtin a caller would expect, so both
``except DevicelabError`` and ``except ValueError`` work.
"""

from __future__ import annotations

from typing import Any


class DevicelabError(Exception):
    """Root of all errors that this toolkit raises on purpose.

    Args:
        what: One sentence that names the problem.
        got: What was given.
        allowed: What would have been accepted.
        hint: What to try next.
    """

    def __init__(self, what: str, *, got: object = None, allowed: object = None, hint: str | None = None) -> None:
        self.what = what
        self.got = got
        self.allowed = allowed
        self.hint = hint
        rows = [("got", got), ("allowed", allowed), ("try", hint)]
        super().__init__("\n".join([what, *(f"  {name + ':':<9}{text}" for name, text in rows if text is not None)]))

    def __reduce__(self) -> tuple[Any, ...]:  # keyword-only arguments do not survive the default pickling
        return _rebuild, (type(self), self.what, self.got, self.allowed, self.hint)


def _rebuild(cls: type[DevicelabError], what: str, got: object, allowed: object, hint: str | None) -> DevicelabError:
    return cls(what, got=got, allowed=allowed, hint=hint)


class ParameterError(DevicelabError, ValueError):
    """A parameter, option or name is unknown or out of bounds."""


class ShapeError(DevicelabError, ValueError):
    """Arrays do not fit together."""


class TraceError(DevicelabError, ValueError):
    """A trace or a drive is unusable: not finite, unsorted, too short."""


class FileFormatError(DevicelabError, ValueError):
    """A file cannot be read as what it should be."""


class LutError(DevicelabError, ValueError):
    """A lookup table is malformed, unverified, or asked outside its range."""


class ConvergenceError(DevicelabError, RuntimeError):
    """An iteration did not converge; nothing that looks like a result is returned."""


class SpiceError(DevicelabError, RuntimeError):
    """ngspice refused a netlist or failed while running it."""


class MissingDependencyError(DevicelabError, RuntimeError):
    """Something outside Python, or an optional package, is not installed."""


def unknown_name(kind: str, name: str, known: list[str]) -> ParameterError:
    """A `ParameterError` for a misspelt name, with the nearest valid ones."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return ParameterError(
        f"unknown {kind}",
        got=repr(name),
        allowed=", ".join(sorted(known)),
        hint=f"did you mean {' or '.join(near)}?" if near else None,
    )
