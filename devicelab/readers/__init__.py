"""Instrument files to traces, driven by small TOML profiles and auto-detection."""

from __future__ import annotations

from .api import read_tables, read_trace, read_traces
from .options import Options, ReadOptions
from .profile import Profile, load_profile, profiles
from .table import Table

__all__ = [
    "Options",
    "Profile",
    "ReadOptions",
    "Table",
    "load_profile",
    "profiles",
    "read_tables",
    "read_trace",
    "read_traces",
]
