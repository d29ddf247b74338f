"""Instrument files to traces, driven by small TOML profiles and auto-detection."""

from __future__ import annotations

from .api import read_tables, read_trace, read_traces
from .branches import join_traces
from .dataset import Dataset, Failure
from .many import Summary, find_files, read_dataset, read_into_store
from .options import Options, ReadOptions
from .profile import Profile, load_profile, profiles
from .store import TraceStore, open_store
from .table import Table

__all__ = [
    "Dataset",
    "Failure",
    "Options",
    "Profile",
    "ReadOptions",
    "Summary",
    "Table",
    "TraceStore",
    "find_files",
    "join_traces",
    "load_profile",
    "open_store",
    "profiles",
    "read_dataset",
    "read_into_store",
    "read_tables",
    "read_trace",
    "read_traces",
]
