"""Crossbar arrays with line resistance, sneak paths and non-linear cells, in torch.

`solve(cells, v_in, wires)` gives the output currents of an m x n array, or of a stack of them, with gradients.
"""

from .bias import Bias as Bias
from .calibrate import calibrate as calibrate
from .calibrate import reestimate_batch_norm as reestimate_batch_norm
from .calibrate import tune as tune
from .cells import Cells as Cells
from .cells import ModelCells as ModelCells
from .cells import Ohmic as Ohmic
from .cells import Sinh as Sinh
from .compositions import Faulty as Faulty
from .compositions import Series as Series
from .compositions import Threshold as Threshold
from .compositions import Transistor as Transistor
from .config import ADC as ADC
from .config import DAC as DAC
from .config import NON_IDEALITIES as NON_IDEALITIES
from .config import Config as Config
from .config import Devices as Devices
from .config import Sense as Sense
from .convert import convert as convert
from .convert import floorplans as floorplans
from .convert import placed as placed
from .convert import report as report
from .convert import revert as revert
from .datasets import Data as Data
from .datasets import load_data as load_data
from .engine import solve as solve
from .estimate import estimate as estimate
from .linear import effective_conductance as effective_conductance
from .lut_cells import LutCells as LutCells
from .mapping import TiledMatrix as TiledMatrix
from .solution import Solution as Solution
from .study import layer_errors as layer_errors
from .study import sensitivity as sensitivity
from .sweep import run_sweep as run_sweep
from .wires import Wires as Wires
from .zoo import network as network
