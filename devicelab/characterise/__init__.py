"""From traces to the numbers that a paper reports: cycles, statistics, mechanisms."""

from .conduction import CAVEAT as CAVEAT
from .conduction import MechanismFit as MechanismFit
from .conduction import mechanisms as mechanisms
from .cycle import Cycle as Cycle
from .cycle import characterise as characterise
from .distributions import fit_distribution as fit_distribution
from .distributions import rank_distributions as rank_distributions
from .instrument import free as free
from .instrument import plateaus as plateaus
from .number import Number as Number
from .pulses import asymmetry as asymmetry
from .pulses import pulse_response as pulse_response
from .reading import noise_spectrum as noise_spectrum
from .reading import retention as retention
from .reading import telegraph_levels as telegraph_levels
from .study import Study as Study
from .study import Summary as Summary
from .study import study as study
from .sweeps import excursions as excursions
from .sweeps import split_cycles as split_cycles
from .variability import autocorrelation as autocorrelation
from .variability import curve_band as curve_band
from .variability import spread as spread
from .variability import variance_components as variance_components
