"""Modules of this package whose compiler may be missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

_LOADED: dict[str, ModuleType | None] = {}


def loaded(name: str) -> ModuleType | None:
    """A module with compiled kernels, or None where its compiler is missing or has nowhere to keep what it compiled."""
    if name not in _LOADED:  # no functools.cache: torch.compile would look behind it
        try:
            _LOADED[name] = import_module(f".{name}", __package__)
        except (ImportError, OSError, RuntimeError):
            _LOADED[name] = None
    return _LOADED[name]
