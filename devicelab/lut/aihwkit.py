"""aihwkit 1.x: arguments of its noise model for inference, and of a pulsed device for training, as JSON.

::

    found = json.load(open("device.json"))
    noise = StateIndependentNoiseModel(**found["noise_model"])
    device = PiecewiseStepDevice(**found["pulsed_device"])

The noise model's conductances are in µS. Its programming noise is a polynomial of second order in g / g_max, here a
least-squares fit to the levels' D2D and C2C spread; `fit_error` is the largest deviation of that fit, in µS. Its read
noise is proportional to g: the scale is the levels' mean, at the time `T_READ_NOISE` after programming.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LutError
from ..files import write_text
from .content import Levels
from .pulses import after_pulse
from .table import Lut

T_READ = 250e-9
T_READ_NOISE = 1.0
NODES = 33


def parameters(lut: Lut, *, v_pulse: tuple[float, float] | None = None, width: float | None = None) -> dict[str, Any]:
    """Arguments for aihwkit's classes.

    Args:
        lut: A table with levels.
        v_pulse: Voltages [V] of the pulses that raise and lower the conductance; None: no pulsed device.
        width: Width of those pulses [s].

    Raises:
        LutError: If the table has no levels, or pulses are asked for and it has no rates.
    """
    if lut.levels is None:
        raise LutError("aihwkit needs levels", hint="Lut.from_stochastic makes a table with levels")
    low, high = (1e6 * g for g in lut.conductance_range(lut.levels.v_read))
    g = 1e6 * lut.levels.conductance
    deviation = lut.levels.spread() * g
    order = min(2, g.size - 1)
    fit = np.polyfit(g / high, deviation, order)[::-1]
    noise = {
        "g_max": high,
        "prog_coeff": [*fit.tolist(), *[0.0] * (2 - order)],
        "drift_nu_mean": 0.0,
        "drift_nu_std": 0.0,
        "read_noise_scale": _read_scale(lut.levels, high),
        "t_read": T_READ,
    }
    fitted = sum(c * (g / high) ** k for k, c in enumerate(fit))
    out: dict[str, Any] = {
        "tool": "aihwkit",
        "unit": "uS",
        "g_min": low,
        "levels": g.tolist(),
        "spread": deviation.tolist(),
        "fit_error": float(np.abs(fitted - deviation).max()),
        "noise_model": noise,
        "v_read": lut.levels.v_read,
    }
    if v_pulse is not None and width is not None:
        out["pulsed_device"] = _pulsed(lut, v_pulse, width)
        out["pulses"] = {"v_up": v_pulse[0], "v_down": v_pulse[1], "width": width}
    return out


def write(lut: Lut, path: str | Path, *, force: bool = False, **options: Any) -> None:
    """Write `parameters` as JSON.

    Raises:
        LutError: As `parameters`.
        FileFormatError: If the file exists and `force` is not set.
    """
    write_text(path, json.dumps(parameters(lut, **options), indent=1) + "\n", force=force)


def read(path: str | Path) -> Levels:
    """The levels and their spread, all of it as D2D, from a file that `write` made.

    Raises:
        LutError: If it is another file.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        g = np.asarray(found["levels"], dtype=np.float64)
        return Levels(float(found["v_read"]), 1e-6 * g, np.asarray(found["spread"]) / g)
    except (KeyError, TypeError, ValueError) as error:
        raise LutError("not an aihwkit file of ours", got=str(path), hint=str(error)) from error


def _read_scale(levels: Levels, g_max: float) -> float:
    """Scale [µS] with which aihwkit's read noise, relative to g, is the levels' mean read noise."""
    if levels.read_noise is None:
        return 0.0
    grown = np.sqrt(np.log((T_READ_NOISE + T_READ) / (2 * T_READ)))
    return float(levels.read_noise.mean() * g_max / grown)


def _pulsed(lut: Lut, v_pulse: tuple[float, float], width: float) -> dict[str, Any]:
    """`PiecewiseStepDevice`: steps on equally spaced nodes of the weight -1..1, the whole conductance range."""
    low, high = lut.mapping()[0][[0, -1]]
    g = np.linspace(low, high, NODES)
    up, down = (2 * (after_pulse(lut, g, v, width) - g) / (high - low) for v in v_pulse)
    middle = max(float(np.median(np.abs(np.concatenate([up, down])))), 1e-12)
    return {
        "w_min": -1.0,
        "w_max": 1.0,
        "w_min_dtod": 0.0,
        "w_max_dtod": 0.0,
        "dw_min": middle,
        "dw_min_dtod": 0.0,
        "dw_min_std": 0.0,
        "up_down_dtod": 0.0,
        "piecewise_up": (np.maximum(up, 0.0) / middle).tolist(),
        "piecewise_down": (np.maximum(-down, 0.0) / middle).tolist(),
    }
