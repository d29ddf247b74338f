"""Fits of device models to measured or simulated traces."""

from __future__ import annotations

from .batch import Batch, batch
from .bootstrap import Bootstrap, bootstrap
from .compare import compare, held_out, predict
from .comparison import Comparison
from .cycles import Cycles, Population, agreement, cycles
from .design import Advice, Sweep, advise
from .fit import fit, set_polarity
from .noise import Noise, compliance_mask, estimate_noise
from .profile import Profile, plot_profiles, profile, switching_time
from .result import Estimate, FitResult
from .saved import SavedFit, load_fit
from .static import fit_static

__all__ = [
    "Advice",
    "Batch",
    "Bootstrap",
    "Comparison",
    "Cycles",
    "Estimate",
    "FitResult",
    "Noise",
    "Population",
    "Profile",
    "SavedFit",
    "Sweep",
    "advise",
    "agreement",
    "batch",
    "bootstrap",
    "compare",
    "compliance_mask",
    "cycles",
    "estimate_noise",
    "fit",
    "fit_static",
    "held_out",
    "load_fit",
    "plot_profiles",
    "predict",
    "profile",
    "set_polarity",
    "switching_time",
]
