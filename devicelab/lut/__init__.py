"""Lookup tables: the contract between a characterised device and an array simulation.

The file format, LUT format 1, is specified in docs/lut.md and checked by `devicelab.lut.schema`.
"""

from __future__ import annotations

from .content import Curves, Factors, Levels, Rate
from .make import describe
from .store import check
from .table import Lut

__all__ = ["Curves", "Factors", "Levels", "Lut", "Rate", "check", "describe"]
