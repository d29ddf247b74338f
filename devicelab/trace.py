"""A trace: what an instrument, a simulation or ngspice saw at the two terminals of a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError, TraceError
from .ops import Value, is_tensor

UNITS: dict[str, str] = {"t": "s", "v": "V", "i": "A", "x": "1", "y": "1"}


@dataclass(frozen=True, eq=False)
class Trace:
    """Time, voltage and current of one device, in SI units.

    Passive sign: `v` is plus minus minus, `i` flows into plus, so v * i >= 0 for a passive device.

    Args:
        t: Time [s], strictly increasing, shape [t].
        v: Voltage across the device [V], shape [t] or [b, t].
        i: Current [A], shape [t] or [b, t]; [b, t] when parameters were batched.
        x: Normalised state (1 = low resistance), same shape as `i`, where it is known.
        meta: Anything worth keeping: source file and its SHA-256, device, instrument, compliance [A], ...
        y: Second state of a device that has two, same shape as `i`, where it is known.

    Raises:
        ShapeError: If the lengths differ.
        TraceError: If a value is not finite or time does not increase.
    """

    t: Value
    v: Value
    i: Value
    x: Value = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    y: Value = None

    def __post_init__(self) -> None:
        if any(is_tensor(value) for value in (self.t, self.v, self.i)):
            return  # tensors come from our own simulation, which checked its drive
        for name in ("t", "v", "i", "x", "y"):
            value = getattr(self, name)
            if value is None and name in ("x", "y"):
                continue
            array = np.asarray(value, dtype=float)
            object.__setattr__(self, name, array)
            bad = ~np.isfinite(array)
            if bad.any():
                where = int(np.argwhere(bad)[0][-1])
                raise TraceError(
                    f"trace column {name} [{UNITS[name]}] holds values that are not finite",
                    got=f"{int(bad.sum())} of {array.size} (first at sample {where})",
                    allowed="finite numbers",
                    hint="drop those rows, or look for overflow markers such as 9.91e37 in the file",
                )
            if array.shape[-1:] != np.shape(self.t)[-1:]:
                raise ShapeError(
                    "trace columns differ in length",
                    got=f"t has shape {np.shape(self.t)}, {name} has shape {array.shape}",
                    allowed="the same number of samples in every column",
                )
        check_time(self.t)

    @classmethod
    def of(cls, t: Value, v: Value, i: Value, x: Value, meta: Mapping[str, Any]) -> Trace:
        """A trace whose t and v come from a checked drive; checked in full only where i or x is not finite."""
        with np.errstate(all="ignore"):
            finite = np.isfinite(i.sum() + x.sum())
        if not finite:
            return cls(t, v, i, x, meta)
        trace = object.__new__(cls)
        for name, value in (("t", t), ("v", v), ("i", i), ("x", x), ("meta", meta)):
            object.__setattr__(trace, name, value)
        return trace

    def __len__(self) -> int:
        return int(self.t.shape[-1])

    @property
    def duration(self) -> float:
        """Time from the first to the last sample [s]."""
        return float(self.t[-1] - self.t[0])

    def window(self, start: int, stop: int) -> Trace:
        """The samples start..stop-1 as a trace of their own; time keeps its origin."""
        x, y = (None if state is None else state[..., start:stop] for state in (self.x, self.y))
        return replace(self, t=self.t[start:stop], v=self.v[..., start:stop], i=self.i[..., start:stop], x=x, y=y)

    def with_meta(self, **more: Any) -> Trace:
        """The same trace with more metadata."""
        return replace(self, meta={**self.meta, **more})


def check_time(t: NDArray[np.float64]) -> None:
    """Raise `TraceError` unless `t` is a strictly increasing vector of at least two finite times."""
    if t.ndim != 1 or t.size < 2:
        raise TraceError("too few samples", got=f"shape {t.shape}", allowed="at least 2 samples in one dimension")
    if not np.isfinite(t).all():
        raise TraceError("time is not finite", got=f"{int((~np.isfinite(t)).sum())} bad values", allowed="finite times")
    steps = np.diff(t)
    if not (steps > 0).all():
        at = int(np.argmin(steps > 0))
        raise TraceError(
            "time does not increase",
            got=f"t[{at}] = {t[at]:.9g} s, t[{at + 1}] = {t[at + 1]:.9g} s",
            allowed="strictly increasing times",
            hint="sort the rows, drop repeated time stamps, or give pulses edges of finite length",
        )
