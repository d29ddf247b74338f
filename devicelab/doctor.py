"""What is installed, what is missing, and whether our packages are still ours."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PACKAGES = ("devicelab", "netlists", "fits", "crossbar")
REQUIRED = ("numpy", "scipy", "lmfit", "h5py", "matplotlib", "click", "torch", "numba", "PySpice", "python-calamine")
OPTIONAL = ("scikit-learn",)


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Args:
        what: What was looked at.
        state: "ok", "note" (works without), or "bad".
        found: What was found.
        advice: What to do, if anything.
    """

    what: str
    state: Literal["ok", "note", "bad"]
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_versions(), _ngspice(), _cuda(), *_owners()]


def _versions() -> list[Finding]:
    out = []
    for name in ("devicelab", *REQUIRED, *OPTIONAL):
        try:
            out.append(Finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            if name in OPTIONAL:
                out.append(Finding(name, "note", "not installed", 'for the digits: pip install "devicelab[examples]"'))
            else:
                out.append(Finding(name, "bad", "not installed", f"pip install {name}"))
    return out


def _ngspice() -> Finding:
    import netlists

    if not netlists.available():
        advice = "SPICE steps are left out; apt-get install ngspice libngspice0, or brew install libngspice"
        return Finding("ngspice", "note", "not found", advice)
    return Finding("ngspice", "ok", f"version {netlists.ngspice_version()}")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("CUDA", "ok", torch.cuda.get_device_name())
    return Finding("CUDA", "note", "no device", "everything runs on the CPU")


def _owners() -> list[Finding]:
    """Whether each package is imported from where our distribution, or this checkout, put it."""
    installed = importlib.metadata.packages_distributions()
    home = Path(importlib.import_module("devicelab").__file__ or "").resolve().parent.parent
    out = []
    for name in PACKAGES:
        advice = "another project installs a package of this name: use a virtual environment for devicelab alone"
        try:
            place = Path(importlib.import_module(name).__file__ or "").resolve()
        except Exception as error:  # whatever a foreign package does on import is the finding
            out.append(Finding(name, "bad", f"cannot be imported: {error}", advice))
            continue
        others = sorted(set(installed.get(name, [])) - {"devicelab"})
        if others:
            out.append(Finding(name, "bad", f"{place.parent}, also installed by {', '.join(others)}", advice))
        elif place.parent != home / name:
            out.append(Finding(name, "bad", f"{place.parent}, outside {home}", advice))
        else:
            out.append(Finding(name, "ok", str(place.parent)))
    return out
