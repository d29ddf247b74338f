"""What a comparison of models found: its table, as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from devicelab.errors import ConvergenceError

from .result import FitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """One candidate.

    Args:
        name: Its label.
        result: The fit to all traces; None if it failed.
        aicc: Akaike's criterion, inf if the fit failed.
        cycles: Metrics on held-out cycles, if any were held out.
        amplitudes: Metrics on held-out amplitudes, if any were held out.
        problem: Why the fit or a held-out fit failed, or why it was not made, or empty.
        seconds: CPU time of all its fits.
    """

    name: str
    result: FitResult | None
    aicc: float
    cycles: Mapping[str, float] | None = None
    amplitudes: Mapping[str, float] | None = None
    problem: str = ""
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Mean of the held-out scores; nan without any."""
        parts = [part["score"] for part in (self.cycles, self.amplitudes) if part is not None]
        return float(np.mean(parts)) if parts else float("nan")


@dataclass(frozen=True)
class Comparison:
    """What `fits.compare` found, the best candidate first.

    Args:
        rows: One a candidate.
        by: What decided: "held-out error" or "AICc".
    """

    rows: list[Row]
    by: str

    @property
    def best(self) -> FitResult:
        """The fit of the best candidate to all traces."""
        result = self.rows[0].result
        if result is None:
            raise ConvergenceError("no candidate could be fitted", got=self.rows[0].problem)
        return result

    def table(self) -> list[dict[str, Any]]:
        """One dict a candidate: parameters, NRMSE and log RMSE in sample and held out, AICc above the least."""
        least = min(row.aicc for row in self.rows)
        out: list[dict[str, Any]] = []
        for row in self.rows:
            line: dict[str, Any] = {"model": row.name, "CPU time [s]": row.seconds}
            if row.result is None:
                out.append({**line, "problem": row.problem})
                continue
            line["parameters"] = len(row.result.estimates)
            sets = {"": row.result.metrics, " held-out cycles": row.cycles, " held-out amplitudes": row.amplitudes}
            for words, found in sets.items():
                if found is not None:
                    line[f"NRMSE{words} [%]"] = 100 * found["nrmse"]
                    line[f"log RMSE{words} [decades]"] = found["log_rmse"]
            line["AICc above least"] = row.aicc - least
            if np.isfinite(row.score):
                line["held-out error [sd of the noise]"] = row.score
            if row.problem:
                line["problem"] = row.problem
            out.append(line)
        return out

    def report(self) -> str:
        """The table as text, and what decided."""
        head = f"{'model':<34}{'p':>4}{'NRMSE %':>10}{'log RMSE':>10}"
        names = {"cycles": "cycles", "amplitudes": "amplitudes"}
        shown = [name for name in names if any(getattr(row, name) is not None for row in self.rows)]
        head += "".join(f"{'NRMSE % held-out ' + name:>29}" for name in shown) + f"{'AICc':>12}{'CPU s':>9}"
        lines = [head]
        least = min(row.aicc for row in self.rows)
        for row in self.rows:
            if row.result is None:
                lines.append(f"{row.name:<34}  {row.problem.splitlines()[0]} ({row.seconds:.1f} CPU s)")
                continue
            m = row.result.metrics
            line = f"{row.name:<34}{len(row.result.estimates):>4}{100 * m['nrmse']:>10.2f}{m['log_rmse']:>10.3f}"
            for name in shown:
                part = getattr(row, name)
                line += f"{'-':>29}" if part is None else f"{100 * part['nrmse']:>29.2f}"
            line += f"{row.aicc - least:>+12.1f}{row.seconds:>9.1f}"
            lines.append(line + (f"  {row.problem.splitlines()[0]}" if row.problem else ""))
        lines.append(f"ordered by {self.by}; AICc above the least")
        by_aicc = min(self.rows, key=lambda row: row.aicc)
        if by_aicc is not self.rows[0]:
            lines.append(
                f"AICc alone would take {by_aicc.name}; it counts residuals as independent, as no misfit leaves them."
            )
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Error of each candidate, in sample and held out, and AICc above the least."""
        import matplotlib.pyplot as plt

        from devicelab.plot import ACCENT, FITTED, MEASURED

        good = [row for row in self.rows if row.result is not None]
        figure, axes = plt.subplots(
            1, 2, figsize=(9, 0.5 * len(good) + 1.6), sharey=True, width_ratios=[2, 1], layout="constrained"
        )
        y = np.arange(len(good))
        marks = [
            ("all traces fitted", "o", MEASURED),
            ("held-out cycles", "s", FITTED),
            ("held-out amplitudes", "D", ACCENT),
        ]
        for words, marker, color in marks:
            found = [
                {"all traces fitted": row.result.metrics if row.result else None, "held-out cycles": row.cycles}.get(
                    words, row.amplitudes
                )
                for row in good
            ]
            if any(part is not None for part in found):
                values = [np.nan if part is None else 100 * part["nrmse"] for part in found]
                axes[0].plot(values, y, marker, color=color, label=words, ms=6)
        axes[0].set_yticks(y, [row.name for row in good])
        axes[0].set_xlabel("NRMSE [%]")
        axes[0].legend(frameon=False, fontsize=8)
        axes[0].grid(axis="x", color="0.9")
        delta = np.array([row.aicc for row in good])
        axes[1].barh(y, delta - delta.min(), color=MEASURED, height=0.5)
        axes[1].set_xscale("symlog", linthresh=10)
        axes[1].set_xlabel("AICc above the least")
        axes[0].invert_yaxis()
        return figure
