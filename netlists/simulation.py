"""The same as `devicelab.simulate`, by ngspice."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from devicelab import Drive, Trace
from devicelab.models import Model

from .bench import Settings, bench, device_node
from .run import ngspice_version, run


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

    Returns:
        Trace with t, v (across the device), i and x, each of shape [t], and in `meta` the voltage of the source
        (``v_applied`` [V], shape [t]), the circuit, the settings and the version of ngspice.

    Raises:
        NgspiceError: If ngspice fails (`devicelab.errors.SpiceError` is its base).
        MissingDependencyError: If there is no ngspice.
        ParameterError: If an argument is out of bounds or the model is a batch.
        ShapeError: If the drive is a batch.
    """
    settings = Settings(reltol=reltol, max_step=max_step, method=method)
    circuit: dict[str, Any] = {"x0": x0, "series_resistance": series_resistance, "compliance": compliance}
    netlist = bench(model, drive, settings=settings, **circuit)
    result = run(netlist, save=save, timeout=timeout)
    time = result["time"]
    keep = np.concatenate([[True], np.diff(time) > 0])
    node = device_node(series_resistance, compliance)
    v, x, i = (result[name][keep] for name in (f"v({node})", "v(x)", "i(v1)"))
    meta = {
        "source": "ngspice",
        "ngspice": ngspice_version(),
        "model": model.name,
        **{name: value for name, value in circuit.items() if value is not None},
        "method": method,
        "reltol": reltol,
        "max_step": settings.step(drive),
        "v_applied": result["v(a)"][keep],
    }
    x = np.clip(x, 0.0, 1.0)  # Newton's method leaves 1e-9 beyond the bound
    return Trace(t=time[keep] + drive.t[0], v=v, i=-i, x=x, meta=meta)
