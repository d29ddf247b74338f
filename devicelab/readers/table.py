"""What a file holds before anyone says which column is the voltage: named columns with their unit as written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Column:
    """One column as it stands in the file.

    Args:
        name: Header without the unit.
        unit: Unit text as written, or None.
        values: Numbers as written, not scaled; NaN where a cell holds none, shape [t].
        text: Row number to text, for cells that are neither numbers nor blank nor a marker for a missing value.
        origin: The first date of a column of dates; `values` are seconds after it.
    """

    name: str
    unit: str | None
    values: NDArray[np.float64]
    text: Mapping[int, str] = field(default_factory=dict)
    origin: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether most cells are words, so that this is a label and not a measurement."""
        return len(self.text) > 0.5 * self.values.size


@dataclass(frozen=True, eq=False)
class Block:
    """One rectangular piece of a file: a sheet, a record, or everything below one header.

    Args:
        columns: Its columns, all of one length.
        lines: Line (or sheet row) of each data row, counted from 1, shape [t].
        named: False when the file had no header and the names are only `column 1`, `column 2`, ...
        meta: What the file says about this piece.
        pairs: Column names that belong together as (voltage, current), where the file says so.
        compliance: Name of the voltage column to the current limit of its channel [A].
        groups: For each column the group that stands above its name, and before a dot within it; empty for none.
    """

    columns: tuple[Column, ...]
    lines: NDArray[np.int64]
    named: bool = True
    meta: Mapping[str, Any] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    compliance: Mapping[str, float] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.lines.size)

    def rows(self, keep: NDArray[Any]) -> Block:
        """The block with only the rows in `keep` (indices or a mask)."""
        index = np.arange(len(self))[keep]
        position = {int(old): new for new, old in enumerate(index)}
        columns = tuple(
            replace(c, values=c.values[index], text={position[r]: s for r, s in c.text.items() if r in position})
            for c in self.columns
        )
        return replace(self, columns=columns, lines=self.lines[index])


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one piece of a file in SI units, for files that are more, or less, than current over voltage.

    Args:
        values: Name to numbers (or words), shape [t]; blanks are NaN.
        units: Name to SI unit; empty text when the file states none.
        meta: Source file, SHA-256, profile, sheet, ...
    """

    values: Mapping[str, NDArray[Any]]
    units: Mapping[str, str]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return next((int(column.size) for column in self.values.values()), 0)
