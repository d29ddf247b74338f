"""Fits of device models to measured or simulated traces."""

from __future__ import annotations

from .bootstrap import Bootstrap, bootstrap
from .compare import Comparison, compare, held_out, predict
from .design import Advice, Sweep, advise
from .fit import fit, set_polarity
from .noise import Noise, compliance_mask, estimate_noise
from .profile import Profile, plot_profiles, profile, switching_time
from .result import Estimate, FitResult

__all__ = [
    "Advice",
    "Bootstrap",
    "Comparison",
    "Estimate",
    "FitResult",
    "Noise",
    "Profile",
    "Sweep",
    "advise",
    "bootstrap",
    "compare",
    "compliance_mask",
    "estimate_noise",
    "fit",
    "held_out",
    "plot_profiles",
    "predict",
    "profile",
    "set_polarity",
    "switching_time",
]
