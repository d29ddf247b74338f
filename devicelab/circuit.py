"""What surrounds a device on the bench: a voltage or current source, a series resistance, a compliance limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import ParameterError
from .ops import Value, is_tensor
from .parameters import numbers


@dataclass(frozen=True)
class Circuit:
    """A source and what stands between it and the device.

    Args:
        kind: "voltage" or "current": what the drive prescribes.
        series_resistance: Between source and device [ohm], scalar or [b]; for a current source it changes nothing.
        compliance: Largest current of a voltage source [A], or largest voltage of a current source [V]; None: no limit.

    Raises:
        ParameterError: If a value is negative, not finite, or a compliance is zero.
    """

    kind: str = "voltage"
    series_resistance: Value = 0.0
    compliance: Value = None

    def __post_init__(self) -> None:
        if self.kind not in ("voltage", "current"):
            raise ParameterError("unknown kind of source", got=repr(self.kind), allowed="voltage, current")
        for name in ("series_resistance", "compliance"):
            value = getattr(self, name)
            if not (is_tensor(value) or numbers(value) is not None or (name == "compliance" and value is None)):
                raise ParameterError(f"{name} is not a number", got=repr(value), allowed="a number, array or tensor")
        resistance = plain(self.series_resistance)
        if not (np.isfinite(resistance) & (resistance >= 0)).all():
            raise ParameterError(
                "series_resistance must not be negative", got=self.series_resistance, allowed=">= 0 ohm"
            )
        if self.compliance is not None:
            limit = plain(self.compliance)
            if not (np.isfinite(limit) & (limit > 0)).all():
                unit = "A" if self.kind == "voltage" else "V"
                raise ParameterError("compliance must be positive", got=self.compliance, allowed=f"> 0 {unit}, or None")

    @property
    def trivial(self) -> bool:
        """Whether the device sees the source voltage itself."""
        bare = not is_tensor(self.series_resistance) and not np.any(self.series_resistance)
        return self.kind == "voltage" and bare and self.compliance is None

    @property
    def limit(self) -> Value:
        """The compliance, infinite where there is none."""
        return np.inf if self.compliance is None else self.compliance


def plain(value: Value) -> np.ndarray:
    """A number, array or tensor as a numpy array."""
    return np.asarray(value.detach().cpu() if is_tensor(value) else value, dtype=float)
