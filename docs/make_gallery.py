"""Draws the figures of docs/gallery.md into docs/images.

python docs/make_gallery.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from devicelab import Drive, Trace, parameter_set, simulate, sine
from devicelab.events import EventSpread, simulate_events
from devicelab.noise import levels
from devicelab.parameter_sets import parameter_set_info
from devicelab.variability import truncated_normal

IMAGES = Path(__file__).parent / "images"
SHOWN = (
    "strukov_2008_team",
    "biolek_knowm",
    "nonlinear_drift_mladenov",
    "team_fit_to_simmons",
    "vteam_pt_hf_ti",
    "vteam_asymmetric_example",
    "yakopcic_oblea",
    "yakopcic_two_branch_example",
    "stanford_default",
    "pku_default",
    "pku_growing",
    "data_driven_tiox_dut2",
    "data_driven_2021",
    "mms_knowm",
    "simmons_pickett",
    "jart_vcm_v1b",
)


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure and close it."""
    figure.savefig(IMAGES / name, dpi=110)
    plt.close(figure)


def scaled(current: np.ndarray) -> tuple[np.ndarray, str]:
    """Current in the unit that suits it."""
    top = np.abs(current).max()
    power, unit = next((p, u) for p, u in ((1, "A"), (1e-3, "mA"), (1e-6, "uA"), (0, "nA")) if top >= 0.5 * p)
    return (current / power, unit) if power else (current * 1e9, unit)


def loops() -> None:
    """One loop of each model."""
    figure, grid = plt.subplots(4, 4, figsize=(14, 12), layout="constrained")
    for ax, name in zip(grid.flat, SHOWN, strict=True):
        info = parameter_set_info(name)
        drive = sine(info["drive"]["amplitude"], info["drive"]["frequency"], periods=2)
        options = {"series_resistance": 215.0} if name.startswith("simmons") else {}
        trace = simulate(parameter_set(name), drive, x0=info["drive"]["x0"], **options)
        current, unit = scaled(trace.i)
        ax.plot(drive.v, current, color="0.8", lw=0.6, zorder=0)
        points = ax.scatter(drive.v, current, c=drive.t * info["drive"]["frequency"], s=2, cmap="viridis")
        ax.set(title=f"{name}\n{info['drive']['frequency']:g} Hz", xlabel="voltage [V]", ylabel=f"current [{unit}]")
        ax.title.set_fontsize(9)
        ax.grid(alpha=0.3)
    figure.colorbar(points, ax=grid, label="period", shrink=0.5)
    save(figure, "gallery_models.png")


def frequencies() -> None:
    """VTEAM with the TEAM set at 50 MHz and above (MemTorch, Fig. 3)."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    model = parameter_set("vteam_memtorch")
    for frequency in (50e6, 100e6, 200e6):
        drive = sine(1.0, frequency, periods=4, points=2000)
        trace = simulate(model, drive, x0=0.0)
        last = slice(-2001, None)
        axes[0].plot(drive.v[last], 1e3 * trace.i[last], label=f"{frequency / 1e6:g} MHz")
        axes[1].plot(drive.t * frequency, trace.x, label=f"{frequency / 1e6:g} MHz")
    axes[0].set(xlabel="voltage [V]", ylabel="current [mA]", title="VTEAM, MemTorch's default set")
    axes[1].set(xlabel="period", ylabel="state x (1 = low resistance)", title="its state")
    for ax in axes:
        ax.legend()
        ax.grid(alpha=0.3)
    save(figure, "gallery_vteam_50mhz.png")


def devices() -> None:
    """A hundred devices, with any conductance and with ten levels (MemTorch, Fig. 4)."""
    rng = np.random.default_rng(1)
    count = 100
    r_on = np.asarray(truncated_normal(50.0, 25.0, 1.0, 500.0, count, rng))
    r_off = np.asarray(truncated_normal(1000.0, 50.0, 600.0, np.inf, count, rng))
    model = parameter_set("vteam_memtorch").replace(r_on=r_on, r_off=r_off)
    drive = sine(1.0, 50e6, periods=2, points=1000)
    trace = simulate(model, drive, x0=0.0)
    last = slice(-1001, None)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
    for k in range(count):
        g = np.asarray(model.bind(r_on=r_on[k], r_off=r_off[k]).current(1.0, trace.x[k]))
        coarse = np.asarray(levels(g, 10, 1.0 / r_off[k], 1.0 / r_on[k]))
        axes[0].plot(drive.v[last], 1e3 * trace.i[k, last], color="C0", lw=0.4, alpha=0.5)
        axes[1].plot(drive.v[last], 1e3 * (coarse * drive.v)[last], color="C3", lw=0.4, alpha=0.5)
    axes[0].set(xlabel="voltage [V]", ylabel="current [mA]", title="100 devices, R_on ~ N(50, 25), R_off ~ N(1000, 50)")
    axes[1].set(xlabel="voltage [V]", title="the same with 10 conductance levels each")
    for ax in axes:
        ax.set_ylim(-60, 60)
        ax.grid(alpha=0.3)
    save(figure, "gallery_hundred_devices.png")


def cycles() -> None:
    """Pt/Hf/Ti over ten cycles that differ (MemTorch, Fig. 8)."""
    base, count = parameter_set("vteam_pt_hf_ti"), 10
    drive = sine(1.0, 0.5, points=2000)
    differ = EventSpread(set={"r_on": 0.1}, reset={"r_off": 0.1})
    long = sine(1.0, 0.5, periods=count, points=2000)
    varied, _ = simulate_events(base, long, differ, np.random.default_rng(3), x0=1.0)
    plain = simulate(base, drive, x0=1.0)
    rows = np.stack([varied.i[2000 * k : 2000 * k + 2001] for k in range(count)])
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
    _cycle(axes[0], drive, plain.i[None], "Pt/Hf/Ti, 0.5 Hz")
    _cycle(axes[1], drive, rows, "ten cycles: R_on by SET, R_off by RESET")
    save(figure, "gallery_pt_hf_ti.png")


def _cycle(ax: plt.Axes, drive: Drive | Trace, currents: np.ndarray, title: str) -> None:
    for k, current in enumerate(currents):
        ax.plot(drive.v, 1e3 * current, color=plt.get_cmap("viridis")(k / max(1, len(currents))), lw=1)
    ax.set(xlabel="voltage [V]", ylabel="current [mA]", title=title)
    ax.grid(alpha=0.3)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    loops()
    frequencies()
    devices()
    cycles()
