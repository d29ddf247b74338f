"""Memristor models checked against ngspice, fitted to measured traces, ready for crossbar networks."""

from __future__ import annotations

__version__ = "0.1.0"
