"""Fits of device models to measured or simulated traces."""

from __future__ import annotations

from .fit import fit, set_polarity
from .noise import Noise, compliance_mask, estimate_noise
from .result import Estimate, FitResult

__all__ = ["Estimate", "FitResult", "Noise", "compliance_mask", "estimate_noise", "fit", "set_polarity"]
