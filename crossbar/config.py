"""What arrays a network is put on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from devicelab.errors import ParameterError

from .wires import Wires


@dataclass(frozen=True, kw_only=True)
class Config:
    """Arrays for `convert`.

    Args:
        rows: Word lines of a tile, one for each input.
        columns: Bit lines of a tile, one for each output; a weight takes a cell in each of two tiles, plus and minus.
        v_read: Word-line voltage of the largest input [V], also the voltage at which cells are programmed.
        nonlinear: Whether cells follow the table's I(V); otherwise they are ohmic with the conductance at `v_read`.
        wires: Line resistances; None for ideal lines.
        rtol: Relative residual to which an array is solved.
        digital: Leave the network as it is, to compare with.
        budget: Memory for one solve [bytes]; more vectors are solved in several goes.
    """

    rows: int = 64
    columns: int = 64
    v_read: float = 0.2
    nonlinear: bool = True
    wires: Wires | None = None
    rtol: float = 1e-3
    digital: bool = False
    budget: float = 1e9

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "v_read", "rtol", "budget"):
            value = getattr(self, name)
            if not value > 0:
                raise ParameterError(f"{name} must be positive", got=value)

    @classmethod
    def ideal(cls) -> Self:
        """No array at all: the network in floating point."""
        return cls(digital=True)

    def but(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return replace(self, **changes)
