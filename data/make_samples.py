"""Make the sample traces: a virtual instrument sweeps a device that ngspice simulates.

    python data/make_samples.py [folder]

The device, the circuit around it, the noise and the seed of every file are in the JSON beside it, so a fit can be held
against the truth. Nothing here was measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import netlists
from devicelab import VTEAM, Biolek, Drive, Joglekar, LinearIonDrift, Model, sine, triangle
from devicelab.windows import window_name

Array = NDArray[np.float64]

OXIDE = VTEAM(
    r_on=1e4,
    r_off=2e5,
    v_on=-0.9,
    v_off=0.8,
    k_on=60.0,
    k_off=12.0,
    a_on=3.0,
    a_off=2.0,
    b_on=0.5,
    b_off=2.5,
    resistance="exponential",
    window=Biolek(p=1.0),
)
"""A filamentary oxide device that switches gradually enough for a sweep to show its exponents."""

DRIFT = LinearIonDrift(r_on=1e3, r_off=16e3, k=1.7e4, window=Joglekar(p=2.0))

SPREAD = {"v_on": 0.03, "v_off": 0.03, "r_on": 0.05, "r_off": 0.10}
"""Relative standard deviation from cycle to cycle: normal for thresholds, lognormal for resistances."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A source-measure unit: what it adds to a perfect measurement.

    Args:
        relative_noise: Standard deviation of the current as a fraction of it.
        noise_floor: Standard deviation of the current at 0 [A].
        current_resolution: Step of the current's converter [A].
        voltage_resolution: Step of the recorded source voltage [V].
    """

    relative_noise: float = 0.005
    noise_floor: float = 5e-9
    current_resolution: float = 1e-9
    voltage_resolution: float = 1e-4

    def read(self, v: Array, i: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """What it records for source voltages `v` [V] and currents `i` [A], both of shape [t]."""
        noisy = i + np.hypot(self.relative_noise * i, self.noise_floor) * rng.standard_normal(i.size)
        return _steps(v, self.voltage_resolution), _steps(noisy, self.current_resolution)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample file: a device, a drive made of equal cycles, what lies between them, and a seed."""

    name: str
    title: str
    device: Model
    cycle: Drive
    cycles: int
    seed: int
    x0: float
    series_resistance: float = 300.0
    compliance: float | None = None
    spread: bool = False

    def run(self, instrument: Instrument) -> tuple[Array, list[dict[str, float]]]:
        """Rows of t [s], v [V], i [A], shape [n, 3], and the parameters of each cycle that differ from the device's."""
        rng = np.random.default_rng(self.seed)
        x, parts, drawn = self.x0, [], []
        for k in range(self.cycles):
            changes = draw(self.device, rng) if self.spread else {}
            trace = netlists.simulate(
                self.device.replace(**changes),
                self.cycle,
                x0=x,
                series_resistance=self.series_resistance,
                compliance=self.compliance,
            )
            first = 0 if k == 0 else 1  # the last sample of a cycle is the first of the next
            t, v = self.cycle.t[first:], self.cycle.v[first:]
            v, i = instrument.read(v, np.interp(t, trace.t, trace.i), rng)
            parts.append(np.stack([t + k * self.cycle.t[-1], v, i], axis=1))
            drawn.append(changes)
            x = float(trace.x[-1])
        return np.concatenate(parts), drawn if self.spread else []


def draw(device: Model, rng: np.random.Generator) -> dict[str, float]:
    """Parameters of one cycle."""
    out = {}
    for name, spread in SPREAD.items():
        z = rng.standard_normal()
        factor = np.exp(spread * z) if name.startswith("r_") else 1.0 + spread * z
        out[name] = float(f"{getattr(device, name) * factor:.6g}")
    return out


def samples() -> list[Sample]:
    """All sample files."""
    slow = triangle(1.7, 2.0, negative=-1.6, points=400)
    small = triangle(1.4, 2.0, negative=-1.35, points=400)
    fast = triangle(1.9, 0.4, negative=-1.75, points=400)
    coarse = triangle(1.7, 2.0, negative=-1.6, points=200)
    spread = _oxide("oxide_cycles", "20 cycles with cycle-to-cycle spread, compliance 120 uA", coarse, 20, 4)
    drift = Sample(
        name="drift_loop",
        title="linear ion drift with a Joglekar window, 3 periods of a 1 Hz sine",
        device=DRIFT,
        cycle=sine(1.0, 1.0, points=300),
        cycles=3,
        seed=5,
        x0=0.2,
        series_resistance=0.0,
    )
    return [
        _oxide("oxide_small", "small sweeps, 2 cycles of 2 s", small, 2, 1),
        _oxide("oxide_large", "large sweeps, 2 cycles of 2 s", slow, 2, 2),
        _oxide("oxide_fast", "ramps five times as fast, 2 cycles of 0.4 s", fast, 2, 3),
        replace(spread, compliance=120e-6, spread=True),
        drift,
    ]


def _oxide(name: str, title: str, cycle: Drive, cycles: int, seed: int) -> Sample:
    title = f"oxide device (VTEAM): {title}"
    return Sample(name=name, title=title, device=OXIDE, cycle=cycle, cycles=cycles, seed=seed, x0=0.9)


def write(sample: Sample, folder: Path, instrument: Instrument | None = None) -> Path:
    """Write a sample's csv and the JSON with its truth; returns the path of the csv."""
    instrument = instrument or Instrument()
    rows, drawn = sample.run(instrument)
    head = [
        f"# {sample.title}",
        "# origin: SIMULATED by data/make_samples.py (ngspice device, virtual instrument); not a measurement",
        f"# truth: {sample.name}.json",
        "# voltage: at the source, series resistance included",
        f"# series resistance [ohm]: {sample.series_resistance:g}",
        f"# compliance [A]: {'none' if sample.compliance is None else f'{sample.compliance:g}'}",
        "t [s],v [V],i [A]",
    ]
    lines = [f"{t:.7g},{v:.4f},{i:.4e}" for t, v, i in rows]
    path = folder / f"{sample.name}.csv"
    path.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8", newline="\n")
    info = truth(sample, instrument, drawn, path)
    path.with_suffix(".json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8", newline="\n")
    return path


def truth(sample: Sample, instrument: Instrument, drawn: list[dict[str, float]], path: Path) -> dict[str, Any]:
    """Everything that went into a file; `device` is a parameter set as `devicelab.parameter_sets` reads it."""
    device = sample.device
    return {
        "format": "devicelab-sample",
        "version": 1,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "origin": "simulated",
        "title": sample.title,
        "device": {
            "model": device.name,
            "parameters": device.values(),
            "polarity": device.polarity,
            **({"resistance": device.resistance} if isinstance(device, VTEAM) else {}),
            "window": {"name": window_name(device.window), **device.window.values()},
        },
        "x0": sample.x0,
        "cycles": sample.cycles,
        "cycle_parameters": drawn,
        "spread": SPREAD if sample.spread else {},
        "series_resistance": sample.series_resistance,
        "compliance": sample.compliance,
        "instrument": asdict(instrument),
        "seed": sample.seed,
    }


def _steps(values: Array, step: float) -> Array:
    return np.round(values / step) * step


def main() -> None:
    """Write every sample into the folder named on the command line, or beside this script; print rows for README.md."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for sample in samples():
        path = write(sample, folder)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        origin = f"simulated by make_samples.py, seed {sample.seed}"
        print(f"| {path.name} | {sample.title} | {origin} | CC0-1.0 | `{digest}` |")


if __name__ == "__main__":
    main()
