"""NeuroSim: the cell parameters of `Param.cpp` (DNN+NeuroSim V2.1), as assignments to paste there."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ..errors import LutError
from ..files import write_text
from .table import Lut

NAMES = ("resistanceOn", "resistanceOff", "maxNumLevelLTP", "maxNumLevelLTD", "cellBit", "readVoltage", "writeVoltage")
NAMES_BOOL = ("nonlinearIV",)


def parameters(lut: Lut, v_read: float | None = None) -> dict[str, float | int | bool]:
    """The cell as NeuroSim describes it.

    Its `nonlinearity` is the current ratio at the write voltage and half of it, in the low-resistance state; the write
    voltage is the largest of the table.

    Args:
        lut: The table.
        v_read: Read voltage [V]; the table's own unless given.
    """
    read_at = lut._read_voltage(v_read)
    low, high = lut.conductance_range(read_at)
    count = lut.levels.conductance.size if lut.levels is not None else 32
    v_write = float(lut.voltage[-1])
    ratio = float(lut.current(v_write, lut.state[-1]) / lut.current(v_write / 2, lut.state[-1]))
    return {
        "memcelltype": 2,
        "accesstype": 4,
        "resistanceOn": 1.0 / high,
        "resistanceOff": 1.0 / low,
        "maxNumLevelLTP": count,
        "maxNumLevelLTD": count,
        "cellBit": max(1, int(math.log2(count))),
        "readVoltage": read_at,
        "writeVoltage": v_write,
        "nonlinearIV": abs(ratio - 2.0) > 0.02,
        "nonlinearity": ratio,
    }


def write(lut: Lut, path: str | Path, *, force: bool = False) -> None:
    """Write the block, one C++ assignment a line, with the spread of the levels as comments.

    Raises:
        LutError: If no read voltage is known.
        FileFormatError: If the file exists and `force` is not set.
    """
    lines = ["// cell parameters for Param.cpp of DNN+NeuroSim, from a devicelab lookup table"]
    for name, value in parameters(lut).items():
        text = str(value).lower() if isinstance(value, bool) else repr(value)
        lines.append(f"{name} = {text};")
    lines += ["maxConductance = (double) 1/resistanceOn;", "minConductance = (double) 1/resistanceOff;"]
    if lut.levels is not None:
        full = np.ptp(lut.levels.conductance) or 1.0
        for name, option in (("d2d", "--d2dVari"), ("c2c", "--c2cVari")):
            deviation = getattr(lut.levels, name)
            if deviation is not None:  # NeuroSim's c2cVari is a share of the whole range of conductance
                share = float((deviation * lut.levels.conductance).mean() / full)
                lines.append(f"// train.py {option} {share!r}  (mean over the levels, share of the conductance range)")
    write_text(path, "\n".join([*lines, ""]), force=force)


def read(path: str | Path) -> dict[str, float | bool]:
    """The assignments of a block that `write` made, or of a whole `Param.cpp`: what a cell is made of.

    Raises:
        LutError: If one of them is missing.
    """
    text = re.sub(r"//[^\n]*", "", Path(path).read_text(encoding="utf-8", errors="replace"))
    found: dict[str, float | bool] = {}
    for name in (*NAMES, *NAMES_BOOL, "nonlinearity"):
        match = re.search(rf"\b{name}\s*=\s*([^;]+);", text)
        if match is None:
            raise LutError(f"{name} is missing", got=str(path), allowed=", ".join(NAMES))
        word = match[1].strip()
        found[name] = (
            word == "true" if word in ("true", "false") else math.prod(float(part) for part in word.split("*"))
        )
    return found
