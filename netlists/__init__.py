"""Memristors in ngspice: sub-circuits made from the models, test benches, and running them."""

from __future__ import annotations

from .run import NgspiceError, Vectors, available, ngspice_version, run, run_all, run_many

__all__ = ["NgspiceError", "Vectors", "available", "ngspice_version", "run", "run_all", "run_many"]
