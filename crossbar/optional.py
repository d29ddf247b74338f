"""Modules of this package whose compiler may be missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

_LOADED: dict[str, ModuleType | None] = {}


def loaded(name: str) -> ModuleType | None:
    """A module with compiled kernels, or None where its compiler is missing or has nowhere to keep what it compiled."""
    if name not in _LOADED:  # no functools.cache: torch.compile would look behind it
        try:
            _LOADED[name] = import_module(f".{name}", __package__)
        except (ImportError, OSError, RuntimeError):
            _LOADED[name] = None
    return _LOADED[name]


F = TypeVar("F", bound=Callable[..., Any])


def on_its_device(operator: F) -> F:
    """An operator that launches kernels of Triton on the device of its first tensor; Triton takes the current one."""

    @wraps(operator)
    def launching(first: Tensor, *rest: Any) -> Any:
        with torch.cuda.device_of(first):
            return operator(first, *rest)

    return cast(F, launching)
