"""A fit read back from its JSON: the same device, the same prediction, and the same fit again from the same traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicelab import WINDOWS, CurrentDrive, Drive, Model, Trace, simulate
from devicelab.errors import FileFormatError
from devicelab.models import model_class
from devicelab.windows import window as make_window

from .fit import fit
from .noise import Noise
from .result import FitResult


@dataclass(frozen=True)
class SavedFit:
    """What the JSON of a fit holds.

    Args:
        model: The fitted device.
        x0: Initial state of each trace.
        noise: Weights that were used.
        names: Parameters that were fitted.
        drive: "voltage" or "current".
        series_resistance: Between source and device [ohm].
        fitted_series: Whether it was fitted.
        periodic: Whether the traces were periods of a repeated loop.
        loss: Of the residuals.
        seed: Of the screen.
        content: All of the file.
    """

    model: Model
    x0: list[float]
    noise: Noise
    names: list[str]
    drive: str
    series_resistance: float
    fitted_series: bool
    periodic: bool
    loss: str
    seed: int
    content: dict[str, Any]

    def simulate(self, traces: Sequence[Trace]) -> list[Trace]:
        """The device under the drive of the traces that it was fitted to, in their order."""
        out = []
        for trace, x0 in zip(traces, self.x0, strict=True):
            if self.drive == "current":
                out.append(simulate(self.model, CurrentDrive(trace.t, trace.i), x0=x0))
                continue
            drive = Drive(trace.t, trace.v)
            out.append(simulate(self.model, drive, x0=x0, series_resistance=self.series_resistance))
        return out

    def repeat(self, traces: Trace | Sequence[Trace], **options: Any) -> FitResult:
        """The same fit, started from its result, to the same or other traces; `options` as for `fits.fit`."""
        own: dict[str, Any] = {
            "vary": self.names,
            "noise": self.noise,
            "drive": self.drive,
            "series_resistance": "fit" if self.fitted_series else self.series_resistance,
            "periodic": self.periodic,
            "loss": self.loss,
            "seed": self.seed,
            "start": self.model,
        }
        return fit(self.model, traces, **{**own, **options})


def load_fit(path: str | Path) -> SavedFit:
    """A fit from the file that `FitResult.to_json`, `fits.batch` or `devicelab fit --out` wrote.

    Raises:
        FileFormatError: If the file is not there, or not such a file.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError("cannot read the fit", got=str(path), hint=error.strerror) from error
    except ValueError as error:
        raise FileFormatError("not a JSON file", got=str(path), hint=str(error)) from error
    if not isinstance(found, dict) or found.get("format") != "devicelab-fit" or found.get("version") != 1:
        raise FileFormatError("not the JSON of a fit", got=str(path), allowed='format "devicelab-fit", version 1')
    device, bench = found["device"], found.get("bench", {})
    fitted = [entry["name"] for entry in found["estimates"] if not entry["name"].startswith("x0_")]
    return SavedFit(
        model=_model(device), x0=[float(value) for value in found["x0"]], noise=Noise(**found["noise"]),
        names=[name for name in fitted if name != "series_resistance"], drive=bench.get("drive", "voltage"),
        series_resistance=float(found.get("series_resistance", 0.0)), fitted_series="series_resistance" in fitted,
        periodic=bool(bench.get("periodic", False)), loss=found.get("loss", "linear"), seed=int(found["seed"]),
        content=found,
    )  # fmt: skip


def _model(device: dict[str, Any]) -> Model:
    """The inverse of `devicelab.lut.describe`."""
    cls = model_class(device["model"])
    values = {entry.name: float(device[entry.name]) for entry in cls.parameters()}
    inner = WINDOWS[device["window"]].parameters() if device["window"] in WINDOWS else []
    window = make_window(device["window"], **{entry.name: float(device[f"window_{entry.name}"]) for entry in inner})
    law = {"resistance": device["resistance"]} if "resistance" in device else {}
    return cls(polarity=int(device["polarity"]), window=window, **values, **law)
