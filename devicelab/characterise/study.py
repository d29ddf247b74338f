"""Many cycles together: one row a cycle, one summary a number, forming told from cycling."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError, TraceError, unknown_name
from ..trace import Trace
from .cycle import Cycle, characterise
from .distributions import DRAWS, MIN_SAMPLES, DistributionFit, rank_distributions
from .sweeps import split_cycles
from .variability import Autocorrelation, Components, Spread, autocorrelation, spread, variance_components

FORMING_VOLTAGE = 1.5
FORMING_RESISTANCE = 10.0
MANY, FEW_DRAWS = 300, 250
COLUMNS = ("file", "device", "cycle", "run", "sheet", "index", "polarity", "forming", "held")


@dataclass(frozen=True)
class Summary:
    """One number over all cycles.

    Args:
        name: Of the number.
        unit: SI unit.
        method: How it is found on a cycle; where methods differ in a value, the first.
        spread: Centre and width.
        fits: Distributions, the best first; empty with fewer than 8 cycles.
        memory: Autocorrelation over cycles of one device, None with fewer than 8 cycles or several devices.
        components: D2D against C2C, None with one device.
        censored: Cycles left out because only a bound is known.
    """

    name: str
    unit: str
    method: str
    spread: Spread
    fits: tuple[DistributionFit, ...] = ()
    memory: Autocorrelation | None = None
    components: Components | None = None
    censored: int = 0


@dataclass(frozen=True, eq=False)
class Study:
    """Characterised cycles.

    Args:
        cycles: In the order of the traces.
        skipped: Traces that could not be characterised: file and reason.
    """

    cycles: Sequence[Cycle]
    skipped: Sequence[tuple[str, str]] = ()
    _made: dict[int, list[Summary]] = field(default_factory=dict, repr=False)

    def names(self) -> list[str]:
        """Names of the numbers that at least one cycle has, in order of appearance."""
        return list(dict.fromkeys(name for cycle in self.cycles for name in cycle))

    def values(self, name: str, *, forming: bool = False) -> NDArray[np.float64]:
        """A number over the cycles, those without it or with only a bound left out; forming only if asked.

        Raises:
            ParameterError: If no cycle has it.
        """
        if name not in self.names():
            raise unknown_name("number", name, self.names())
        return np.array([cycle[name].value for cycle in self._with(name, forming)])

    def groups(self, name: str, key: str = "device") -> dict[Any, list[float]]:
        """Values of a number by device (or other metadata, the file where there is none), in order."""
        found: dict[Any, list[float]] = {}
        for cycle in self._with(name, False):
            found.setdefault(cycle.meta.get(key, cycle.meta.get("file")), []).append(cycle[name].value)
        return found

    def _with(self, name: str, forming: bool) -> Iterator[Cycle]:
        return (c for c in self.cycles if name in c and not c[name].censored and (forming or not c.forming))

    def summary(self, name: str, *, seed: int = 0) -> Summary:
        """Statistics of one number over the cycles, forming left out.

        Raises:
            ParameterError: If no cycle has it or fewer than 3 do.
        """
        values = self.values(name)
        if values.size < 3:
            raise ParameterError(f"too few cycles have {name}", got=values.size, allowed="at least 3")
        first = next(cycle[name] for cycle in self._with(name, False))
        same = all(cycle[name].method == first.method for cycle in self._with(name, False))
        several = values.size >= MIN_SAMPLES and np.ptp(values) > 1e-12 * np.abs(values).max()
        devices = {key: found for key, found in self.groups(name).items() if len(found) >= 2}
        named = any("device" in cycle.meta for cycle in self.cycles)
        return Summary(
            name,
            first.unit,
            first.method if same else f"{first.method}; others differ",
            spread(values, first.unit, seed=seed),
            tuple(rank_distributions(values, seed=seed, draws=FEW_DRAWS if values.size > MANY else DRAWS))
            if several
            else (),
            autocorrelation(values) if several and not (named and len(devices) > 1) else None,
            variance_components(devices, first.unit, seed=seed) if named and len(devices) > 1 else None,
            sum(1 for c in self.cycles if name in c and c[name].censored and not c.forming),
        )

    def summaries(self, *, seed: int = 0) -> list[Summary]:
        """Statistics of every number that at least three cycles have; computed once."""
        if seed not in self._made:
            self._made[seed] = [self.summary(name, seed=seed) for name in self.names() if self.values(name).size >= 3]
        return self._made[seed]

    def polarity(self) -> int:
        """+1 if positive voltage sets in most cycles that tell, -1 if negative does, 0 if none tells."""
        return int(np.sign(sum(cycle.polarity for cycle in self.cycles)))

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain values a cycle; headings carry the unit."""
        units = {name: next(c[name].unit for c in self.cycles if name in c) for name in self.names()}
        rows = []
        for cycle in self.cycles:
            row: dict[str, Any] = {key: cycle.meta.get(key, "") for key in COLUMNS[:6]}
            row |= {"polarity": cycle.polarity, "forming": cycle.forming, "held": cycle.held}
            for name, unit in units.items():
                number = cycle.numbers.get(name)
                row[f"{name} [{unit}]"] = "" if number is None else number.value
                row[f"{name} low"] = "" if number is None or number.low is None else number.low
                row[f"{name} high"] = "" if number is None or number.high is None else number.high
            rows.append(row)
        return rows

    def to_csv(self) -> str:
        """`rows` as text."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def study(traces: Iterable[Trace], *, v_read: float | None = None, threshold: float | None = None) -> Study:
    """Characterise traces one at a time; only the numbers stay in memory.

    A trace with several cycles is parted into them; one that cannot be characterised is reported in `skipped`.

    Args:
        traces: Any iterable: a list, a Dataset, an open store.
        v_read: |Read voltage| [V], see `characterise`.
        threshold: |Current| [A] of the threshold method, see `characterise`.
    """
    cycles, skipped = [], []
    for trace in traces:
        try:
            cycles += [characterise(part, v_read=v_read, threshold=threshold) for part in split_cycles(trace)]
        except (TraceError, ParameterError) as problem:
            skipped.append((str(trace.meta.get("file", "?")), str(problem)))
    if not cycles:
        raise ParameterError(
            "no trace could be characterised",
            got=f"{len(skipped)} traces",
            allowed="current over voltage, one device a trace",
            hint=skipped[0][1].splitlines()[0] if skipped else "give files with sweeps",
        )
    return Study(tell_forming(cycles), skipped)


def tell_forming(cycles: Sequence[Cycle]) -> list[Cycle]:
    """The cycles, with `forming` set on those that formed their device.

    Forming is the first set of a device, where it needed more than 1.5 times the median |V_set| of the other cycles of
    the device, out of a state that resisted more than 10 times their median R_off; or a set whose instrument test or
    file says so.
    """
    v = np.array([abs(cycle.value("v_set.threshold")) for cycle in cycles])
    r = np.array([cycle.value("r_off") for cycle in cycles])
    device = np.array([str(cycle.meta.get("device", "")) for cycle in cycles])
    marked = []
    for k, cycle in enumerate(cycles):
        others = (np.arange(len(cycles)) != k) & (device == device[k]) & np.isfinite(v)
        found = False
        first = np.isfinite(v[k]) and not others[:k].any()
        if first and others.any() and np.isfinite(r[others]).any():
            found = bool(
                v[k] > FORMING_VOLTAGE * np.median(v[others]) and r[k] > FORMING_RESISTANCE * np.nanmedian(r[others])
            )
        said = "forming" in f"{cycle.meta.get('test', '')} {cycle.meta.get('file', '')}".lower()
        marked.append(replace(cycle, forming=found or said))
    return marked
