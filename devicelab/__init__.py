"""Memristor models checked against ngspice, fitted to measured traces, ready for crossbar networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .drive import CurrentDrive, Drive, pulses, sine, triangle
from .errors import DevicelabError
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

if TYPE_CHECKING:
    from . import plot
    from .lut import Lut
    from .readers import read_trace, read_traces
    from .simulation import simulate

__version__ = "0.1.0"

_LATER = {
    "Lut": ".lut",
    "read_trace": ".readers",
    "read_traces": ".readers",
    "simulate": ".simulation",
}
"""What needs scipy, h5py or matplotlib, imported when first used."""


def __getattr__(name: str) -> Any:
    if name == "plot":
        return importlib.import_module(".plot", __name__)
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name], __name__), name)
    globals()[name] = value
    return value


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
