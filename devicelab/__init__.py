"""Memristor models checked against ngspice, fitted to measured traces, ready for crossbar networks."""

from __future__ import annotations

from . import plot
from .drive import CurrentDrive, Drive, pulses, sine, triangle
from .errors import DevicelabError
from .lut import Lut
from .models import (
    MMS,
    MODELS,
    PKU,
    TEAM,
    VTEAM,
    AsymmetricVTEAM,
    DataDriven,
    DataDriven2021,
    LinearIonDrift,
    Model,
    NonlinearIonDrift,
    SimmonsTunnelBarrier,
    Stanford,
    Yakopcic,
    YakopcicTwoBranch,
)
from .parameter_sets import parameter_set, parameter_sets
from .readers import read_trace, read_traces
from .simulation import simulate
from .trace import Trace
from .windows import (
    WINDOWS,
    Biolek,
    Joglekar,
    Kvatinsky,
    NoWindow,
    Prodromakis,
    Strukov,
    Window,
    Zha,
    window,
)

__version__ = "0.1.0"

__all__ = [
    "MMS",
    "MODELS",
    "PKU",
    "TEAM",
    "VTEAM",
    "WINDOWS",
    "AsymmetricVTEAM",
    "Biolek",
    "CurrentDrive",
    "DataDriven",
    "DataDriven2021",
    "DevicelabError",
    "Drive",
    "Joglekar",
    "Kvatinsky",
    "LinearIonDrift",
    "Lut",
    "Model",
    "NoWindow",
    "NonlinearIonDrift",
    "Prodromakis",
    "SimmonsTunnelBarrier",
    "Stanford",
    "Strukov",
    "Trace",
    "Window",
    "Yakopcic",
    "YakopcicTwoBranch",
    "Zha",
    "__version__",
    "parameter_set",
    "parameter_sets",
    "plot",
    "pulses",
    "read_trace",
    "read_traces",
    "simulate",
    "sine",
    "triangle",
    "window",
]
