"""What a solved array tells: node voltages, power, and the paths that its currents take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from devicelab.errors import ParameterError

from .floating import Weights
from .newton import Circuit


@dataclass(frozen=True)
class Inside:
    """Cell voltages and currents of a solved circuit, always with a batch dimension, in float64."""

    circuit: Circuit
    v_wl: Tensor  # [*tiles or 1, b, m] V, driven ends of the word lines
    v_bl: Tensor | None  # [*tiles or 1, b, n] V, sense nodes; None for ground
    v: Tensor  # [*tiles, b, m, n] V
    i: Tensor  # [*tiles, b, m, n] A


@dataclass(frozen=True)
class Nodes:
    """Potentials of the lines at every cell [V], [*tiles, b, m, n]."""

    word: Tensor
    bit: Tensor


@dataclass(frozen=True)
class Power:
    """Where the power of an array goes [W]; `supplied` is the sum of the others."""

    cells: Tensor  # [*tiles, b, m, n]
    word_lines: Tensor  # [*tiles, b, m], terminals included
    bit_lines: Tensor  # [*tiles, b, n], terminals included
    supplied: Tensor  # [*tiles, b], by all drivers and sense nodes


@dataclass(frozen=True)
class Sneak:
    """Current that reaches one bit line, by the cells it comes through [A], and the |current| of every class of cells.

    `output = selected + through_column`; the other two classes carry what leaks past the selected bit line.
    """

    output: Tensor  # [*tiles, b] into the selected bit line's sense node
    selected: Tensor  # [*tiles, b] through the selected cell
    through_column: Tensor  # [*tiles, b] through the other cells of the selected bit line
    half_selected_row: Tensor  # [*tiles, b] sum of |current| of the other cells of the selected word line
    half_selected_column: Tensor  # [*tiles, b] sum of |current| of the other cells of the selected bit line
    unselected: Tensor  # [*tiles, b] sum of |current| of all other cells


def nodes(inside: Inside) -> Nodes:
    """Potentials of both lines at every cell."""
    circuit, i = inside.circuit, inside.i
    rise, drop = circuit.lines.bit_rises(i), circuit.lines.word.drops(i)
    word = inside.v_wl.to(i.dtype).unsqueeze(-1) - drop
    bit = rise if inside.v_bl is None else rise + inside.v_bl.to(i.dtype).unsqueeze(-2)
    if not circuit.floating.none:  # the potentials that make up the cell voltages
        _, d = circuit.cells.current_and_conductance(inside.v.detach())
        weights = Weights.build(circuit.floating, d)
        on_word, on_bit = weights.potentials(d * (inside.v - (word - bit)))
        word, bit = word + on_word.unsqueeze(-1), bit + on_bit.unsqueeze(-2)
    return Nodes(word.expand_as(i), bit.expand_as(i))


def power(inside: Inside) -> Power:
    """Dissipation of every cell and line, and what the sources supply."""
    lines, i = inside.circuit.lines, inside.i
    word = (lines.word.segments * lines.word.currents(i).square()).sum(-1)
    bit = (lines.bit.segments * lines.bit_currents(i).square()).sum(-1)
    supplied = (inside.v_wl.to(i.dtype) * i.sum(-1)).sum(-1)
    if inside.v_bl is not None:
        supplied = supplied - (inside.v_bl.to(i.dtype) * i.sum(-2)).sum(-1)
    return Power(inside.v * i, word, bit, supplied)


def sneak(inside: Inside, row: int, column: int) -> Sneak:
    """The currents of a read or write of one cell, by class of cell.

    Raises:
        ParameterError: If there is no such cell.
    """
    i = inside.i
    m, n = i.shape[-2:]
    if not (0 <= row < m and 0 <= column < n):
        raise ParameterError("no such cell", got=(row, column), allowed=f"row 0 to {m - 1}, column 0 to {n - 1}")
    size = i.abs()
    selected, of_row, of_column = size[..., row, column], size[..., row, :].sum(-1), size[..., :, column].sum(-1)
    output = i[..., :, column].sum(-1)
    return Sneak(
        output=output,
        selected=i[..., row, column],
        through_column=output - i[..., row, column],
        half_selected_row=of_row - selected,
        half_selected_column=of_column - selected,
        unselected=size.sum((-1, -2)) - of_row - of_column + selected,
    )


T = TypeVar("T", Nodes, Power, Sneak)

_BATCH = {"cells": -3, "word": -3, "bit": -3, "word_lines": -2, "bit_lines": -2}


def without_batch(result: T) -> T:
    """The same result without its batch dimension of one."""
    return type(result)(**{name: value.squeeze(_BATCH.get(name, -1)) for name, value in vars(result).items()})
