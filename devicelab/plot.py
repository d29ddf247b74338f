"""Figures of models, fits, tables and arrays; those of measured sets are in `plots`.

Every function draws on the axes it is given, or on new ones, and returns them; none calls ``show``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .lut import Lut
from .ops import Value, is_tensor
from .plots.arrows import arrow
from .plots.styles import ACCENT as ACCENT
from .plots.styles import FITTED as FITTED
from .plots.styles import MEASURED as MEASURED
from .plots.styles import new_axes
from .trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (5.4, 4.0)
"""Width and height of new axes [inch]."""
_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def hysteresis(
    traces: Trace | Sequence[Trace],
    ax: Axes | None = None,
    *,
    log: bool = False,
    color: str = MEASURED,
    label: str | None = None,
    arrows: bool = True,
) -> Axes:
    """Current against voltage, with arrows along the sweep; |I| on a logarithmic axis if `log`."""
    ax = new_axes(ax, SIZE)
    listed = [traces] if isinstance(traces, Trace) else list(traces)
    drawn = re.fullmatch(r"current \[(.?)A\]", ax.get_ylabel())  # a second call keeps the unit of the first
    if log:
        unit, scale = "A", 1.0
    elif drawn is not None:
        unit, scale = f"{drawn[1]}A", next(10.0**-power for power, prefix in _PREFIXES.items() if prefix == drawn[1])
    else:
        unit, scale = _prefix(max(float(np.abs(_array(trace.i)).max()) for trace in listed), "A")
    for k, trace in enumerate(listed):
        v, i = _array(trace.v), _array(trace.i) * scale
        y = np.abs(i) if log else i
        y = np.where(y > 0, y, np.nan) if log else y
        ax.plot(v, y, color=color, lw=1.1, alpha=1.0 if len(listed) == 1 else 0.6, label=label if k == 0 else None)
        if arrows and k == 0:
            _arrows(ax, v, y, color)
    if log:
        ax.set_yscale("log")
    ax.set_xlabel("voltage [V]")
    ax.set_ylabel(f"|current| [{unit}]" if log else f"current [{unit}]")
    if not log:
        ax.axhline(0, color="0.85", lw=0.8, zorder=0)
    ax.axvline(0, color="0.85", lw=0.8, zorder=0)
    if label is not None:
        ax.legend(frameon=False)
    return ax


def fit(measured: Trace, fitted: Trace, masked: Value = None) -> Figure:
    """A measured loop and its fit, linear and logarithmic, with the residual below.

    Args:
        measured: The trace.
        fitted: The model under the same voltage.
        masked: Boolean [t], False where a sample took no part in the fit.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 5.6), height_ratios=[3, 1], sharex=True, layout="constrained")
    unit, scale = _prefix(float(np.abs(measured.i).max()), "A")
    for ax, log in zip(axes[0], (False, True), strict=True):
        hysteresis(measured, ax, log=log, label="trace")
        hysteresis(fitted, ax, log=log, color=FITTED, label="fit", arrows=False)
        ax.set_xlabel("")
        _limit(ax, measured, log, scale)
    keep = np.ones(len(measured), dtype=bool) if masked is None else masked
    residual = np.where(keep, fitted.i - measured.i, np.nan)
    axes[1, 0].plot(measured.v, residual * scale, color=FITTED, lw=0.9)
    axes[1, 0].set_ylabel(f"fit - trace\n[{unit}]")
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.where(keep & (fitted.i * measured.i > 0), np.log10(np.abs(fitted.i / measured.i)), np.nan)
    axes[1, 1].plot(measured.v, decades, color=FITTED, lw=0.9)
    axes[1, 1].set_ylabel("log10 ratio\n[decades]")
    finite = decades[np.isfinite(decades)]
    reach = max(0.1, 1.3 * float(np.quantile(np.abs(finite), 0.98))) if finite.size else 1.0
    axes[1, 1].set_ylim(-reach, reach)
    for ax in axes[1]:
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        ax.set_xlabel("voltage [V]")
    if not keep.all():
        figure.text(
            0.5,
            -0.03,
            f"{100 * (1 - keep.mean()):.2g} % of the samples, held by compliance, took no part",
            ha="center",
            color=ACCENT,
            fontsize=9,
        )
    return figure


def lut(table: Lut, ax: Axes | None = None) -> Axes:
    """The current of a lookup table over voltage and state."""
    ax = new_axes(ax, SIZE)
    conductance = np.divide(
        table.table, table.voltage, out=table.slope.copy(), where=np.broadcast_to(table.voltage != 0, table.table.shape)
    )
    unit, scale = _prefix(float(conductance.max()), "S")
    mesh = ax.pcolormesh(table.voltage, table.state, conductance * scale, shading="gouraud", cmap="viridis")
    lines = ax.contour(table.voltage, table.state, np.abs(table.table) * 1e6, levels=7, colors="w", linewidths=0.7)
    ax.clabel(lines, fmt=lambda level: f"{level:g} µA", fontsize=7)
    ax.set_xlabel("voltage [V]")
    ax.set_ylabel("state (1 = low resistance)")
    ax.figure.colorbar(mesh, ax=ax, label=f"I / V [{unit}]")
    return ax


def cell_voltages(v_cell: Value, applied: float, ax: Axes | None = None) -> Axes:
    """Voltage across every cell of an array, shape [m, n], as a share of the `applied` voltage [V]."""
    ax = new_axes(ax, SIZE)
    v = _array(v_cell)
    image = ax.imshow(100 * v / applied, cmap="magma", aspect="auto", origin="upper")
    ax.set_xlabel("bit line")
    ax.set_ylabel("word line (driven from the left)")
    ax.figure.colorbar(image, ax=ax, label="share of the applied voltage [%]")
    return ax


def accuracy(accuracies: Mapping[str, float], errors: Mapping[str, float]) -> Figure:
    """Accuracy of a network and error of its outputs, shares of 1, under the same named conditions, as bars."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 0.5 * len(accuracies) + 1.2), sharey=True, layout="constrained")
    titles = ("test accuracy [%]", "error of the outputs [%]")
    for ax, rows, title in zip(axes, (accuracies, errors), titles, strict=True):
        values = [100 * value for value in rows.values()]
        bars = ax.barh(list(rows), values, color=[ACCENT] + [MEASURED] * (len(values) - 1), height=0.6)
        ax.bar_label(bars, labels=[f"{value:.3g}" for value in values], padding=3, fontsize=9)
        ax.set_xlim(0, 1.14 * max([*values, 1e-9]))
        ax.set_xlabel(title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    return figure


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if is_tensor(value) else np.asarray(value)


def _prefix(largest: float, unit: str) -> tuple[str, float]:
    """Unit with the prefix that suits the largest value, and the factor to it."""
    power = int(np.clip(3 * np.floor(np.log10(largest) / 3), -12, 9)) if largest > 0 else 0
    return _PREFIXES[power] + unit, 10.0**-power


def _limit(ax: Axes, measured: Trace, log: bool, scale: float) -> None:
    """Axis limits by the measurement: an unlimited model beside a compliance would dwarf it."""
    top = float(np.abs(measured.i).max())
    if log:
        low = float(np.quantile(np.abs(measured.i[measured.i != 0]), 0.02))
        ax.set_ylim(low / 2, top * 2)
    else:
        ax.set_ylim(scale * min(1.25 * float(measured.i.min()), 0), scale * max(1.25 * float(measured.i.max()), 0))


def _arrows(ax: Axes, v: Any, y: Any, color: str) -> None:
    for share in (0.12, 0.38, 0.62, 0.88):
        arrow(ax, v, y, int(share * (len(v) - 2)), max(1, len(v) // 100), color)
