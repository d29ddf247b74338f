"""Figures of measured traces, fit to print; `devicelab.plot` has those of models and fits."""

from .loops import band as band
from .loops import loops as loops
from .mechanism import mechanism as mechanism
from .statistics import box as box
from .statistics import cdf as cdf
from .statistics import correlation as correlation
from .statistics import endurance as endurance
from .statistics import wafer as wafer
from .styles import STYLES as STYLES
from .styles import style as style
