"""Figures of measured traces, fit to print; `devicelab.plot` has those of models and fits."""

from .loops import band as band
from .loops import loops as loops
from .measurements import arrhenius as arrhenius
from .measurements import pulses as pulses
from .measurements import retention as retention
from .measurements import spectrum as spectrum
from .measurements import states as states
from .measurements import telegraph as telegraph
from .measurements import wear as wear
from .measurements import windows as windows
from .mechanism import mechanism as mechanism
from .statistics import box as box
from .statistics import cdf as cdf
from .statistics import correlation as correlation
from .statistics import endurance as endurance
from .styles import STYLES as STYLES
from .styles import style as style
from .wafer import position as position
from .wafer import positions_of as positions_of
from .wafer import wafer as wafer
