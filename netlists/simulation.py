"""The same as `devicelab.simulate`, by ngspice."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from devicelab import Drive, Trace
from devicelab.models import Model, TwoStateModel

from .bench import Settings, bench, device_node
from .run import NgspiceError, Vectors, ngspice_version, run

LOOSEST = 1e-3
"""ngspice's own default for reltol."""


def simulate(
    model: Model,
    drive: Drive,
    *,
    x0: float = 0.0,
    series_resistance: float = 0.0,
    compliance: float | None = None,
    reltol: float = Settings.reltol,
    max_step: float | None = None,
    method: str = Settings.method,
    save: str | os.PathLike[str] | None = None,
    timeout: float = 600.0,
    y0: float | None = None,
) -> Trace:
    """Current and state of a device under a voltage drive, by ngspice, at ngspice's own time points.

    Args:
        model: The device, with single numbers as parameters.
        drive: The voltage of the source over time, shape [t].
        x0: State at the first time (1 = low resistance).
        series_resistance: Between source and device [ohm].
        compliance: Largest current of the source, of either sign [A].
        reltol: ngspice's relative tolerance; see `netlists.Settings`.
        max_step: Longest time step [s]; by default the mean sampling interval of the drive, at least 1000 steps.
        method: Integration method, ``trap`` or ``gear``.
        save: Where to keep the netlist.
        timeout: Longest time to wait [s].
        y0: Second state at the first time, of a device that has two; 0 by default.

    Returns:
        Trace with t, v (across the device), i and x, and y of a device with two states, each of shape [t], and in
        `meta` the voltage of the source (``v_applied`` [V], shape [t]), the circuit, the settings that were used and
        the version of ngspice.

    Where ngspice cannot follow (its time step becomes too small, mostly at the corner of a compliance limit) the run is
    repeated with other settings: the other method, then a `reltol` ten times as large. `meta` says which.

    Raises:
        NgspiceError: If ngspice fails (`devicelab.errors.SpiceError` is its base).
        MissingDependencyError: If there is no ngspice.
        ParameterError: If an argument is out of bounds or the model is a batch.
        ShapeError: If the drive is a batch.
    """
    settings = Settings(reltol=reltol, max_step=max_step, method=method)
    circuit: dict[str, Any] = {"x0": x0, "series_resistance": series_resistance, "compliance": compliance}
    circuit["y0"] = y0
    result, settings = _run(model, drive, settings, circuit, save, timeout)
    time = result["time"]
    keep = np.concatenate([[True], np.diff(time) > 0])
    node = device_node(series_resistance, compliance)
    v, x, i = (result[name][keep] for name in (f"v({node})", "v(x)", "i(v1)"))
    meta = {
        "source": "ngspice",
        "ngspice": ngspice_version(),
        "model": model.name,
        **{name: value for name, value in circuit.items() if value is not None},
        "method": settings.method,
        "reltol": settings.reltol,
        "max_step": settings.step(drive),
        "v_applied": result["v(a)"][keep],
    }
    x = np.clip(x, 0.0, 1.0)  # Newton's method leaves 1e-9 beyond the bound
    y = np.clip(result["v(y)"][keep], 0.0, 1.0) if isinstance(model, TwoStateModel) else None
    return Trace(t=time[keep] + drive.t[0], v=v, i=-i, x=x, y=y, meta=meta)


def _run(
    model: Model,
    drive: Drive,
    settings: Settings,
    circuit: dict[str, Any],
    save: str | os.PathLike[str] | None,
    timeout: float,
) -> tuple[Vectors, Settings]:
    """The result, and the settings with which ngspice got through."""
    other = "gear" if settings.method == "trap" else "trap"
    looser = min(10 * settings.reltol, LOOSEST)
    changes: list[dict[str, Any]] = [{}, {"method": other}, {"reltol": looser}, {"reltol": looser, "method": other}]
    *most, last = [replace(settings, **change) for change in changes]
    for tried in most:
        try:
            return run(bench(model, drive, settings=tried, **circuit), save=save, timeout=timeout), tried
        except NgspiceError as error:
            if "timestep too small" not in error.log.lower():
                raise
    return run(bench(model, drive, settings=last, **circuit), save=save, timeout=timeout), last
