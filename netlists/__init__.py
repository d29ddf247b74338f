"""Memristors in ngspice: sub-circuits made from the models, test benches, array netlists, and running them.

Nothing here imports PySpice; the worker processes do.
"""

from __future__ import annotations

from .bench import Settings, bench
from .conformance import conformance
from .crossbar import crossbar
from .run import NgspiceError, Vectors, available, ngspice_version, run, run_all, run_many
from .simulation import simulate
from .subckt import instance_parameters, subckt

__all__ = [
    "NgspiceError",
    "Settings",
    "Vectors",
    "available",
    "bench",
    "conformance",
    "crossbar",
    "instance_parameters",
    "ngspice_version",
    "run",
    "run_all",
    "run_many",
    "simulate",
    "subckt",
]
