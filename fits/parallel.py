"""Many independent fits over the cores: `devicelab.parallel`, under the name that fits know."""

from devicelab.parallel import AHEAD as AHEAD
from devicelab.parallel import WorkerDied as WorkerDied
from devicelab.parallel import cores as cores
from devicelab.parallel import outcomes as outcomes
