"""A measured number that can explain itself: value, unit, method, interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """A number with what a paper must say beside it.

    Args:
        value: The number, in `unit`.
        unit: SI unit, "1" for a ratio.
        method: How it was found, in words.
        low: Lower end of the interval, None where none can be given.
        high: Upper end.
        interval: What the interval is: "95 % of the fit", "half a sampling step", ...
        censored: True where the truth lies beyond `value` (a current below the noise), so it joins no statistics.
    """

    value: float
    unit: str
    method: str
    low: float | None = None
    high: float | None = None
    interval: str = "none given"
    censored: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data; None for what is not finite, which JSON does not know."""
        fields = asdict(self)
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in fields.items()}

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return engineering(self.value, self.unit)
        if self.high is None and self.low is not None:
            return f"{engineering(self.value, self.unit)} (at least {engineering(self.low, self.unit)})"
        if self.low is None or self.high is None:
            return f"{engineering(self.value, self.unit)} (at most {engineering(self.high or 0.0, self.unit)})"
        ends = f"{engineering(self.low, self.unit)} to {engineering(self.high, self.unit)}"
        return f"{engineering(self.value, self.unit)} ({ends})"


_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def engineering(value: float, unit: str, digits: int = 4) -> str:
    """A value with the prefix that suits it: 3.02e-4 A is 302 µA; none for a unit such as A2/Hz."""
    plain = not unit.isalpha() or not 1e-18 <= abs(value) < 1e15
    if unit in ("1", "") or plain or value == 0 or not math.isfinite(value):
        return f"{value:.{digits}g}" + ("" if unit in ("1", "") else f" {unit}")
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 999.99 mV is 1 V
    power = min(12, max(-18, 3 * (exponent // 3)))
    return f"{value / 10.0**power:.{digits}g} {_PREFIXES[power]}{unit}"
