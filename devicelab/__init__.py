"""Memristor models checked against ngspice, fitted to measured traces, ready for crossbar networks."""

from __future__ import annotations

from .drive import Drive, pulses, sine, triangle
from .errors import DevicelabError
from .lut import Lut
from .models import MODELS, VTEAM, LinearIonDrift, Model
from .parameter_sets import parameter_set, parameter_sets
from .simulation import simulate
from .trace import Trace
from .windows import WINDOWS, Biolek, Joglekar, NoWindow, Prodromakis, Window, window

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "VTEAM",
    "WINDOWS",
    "Biolek",
    "DevicelabError",
    "Drive",
    "Joglekar",
    "LinearIonDrift",
    "Lut",
    "Model",
    "NoWindow",
    "Prodromakis",
    "Trace",
    "Window",
    "__version__",
    "parameter_set",
    "parameter_sets",
    "pulses",
    "simulate",
    "sine",
    "triangle",
    "window",
]
