"""Layers whose arrays are solved on a GPU, without a look at what was found until the whole network is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from . import gpu
from .bias import fit
from .lut_cells import LutCells

if TYPE_CHECKING:
    from .mapping import TiledMatrix

MARGIN = 1e-6
"""Of a table's range, by which a voltage may lie beyond it; as in `LutCells.check`."""

_ACTIVE: list[list[Tensor]] = []
_KEPT: WeakKeyDictionary[TiledMatrix, tuple[LutCells, gpu.Packed | None, tuple[float, float]]] = WeakKeyDictionary()


@contextmanager
def deferred() -> Iterator[list[Tensor]]:
    """Solves of layers inside do not wait; the list gathers flags, true where a pass has to be made again."""
    flags: list[Tensor] = []
    _ACTIVE.append(flags)
    try:
        yield flags
    finally:
        _ACTIVE.remove(flags)


def solver(chip: TiledMatrix, cells: LutCells) -> Callable[[Tensor], Tensor] | None:
    """From voltages [*tiles, b, rows] to currents [*tiles, b, columns]; None unless solves are `deferred`."""
    if not _ACTIVE or cells.x.requires_grad or torch.is_grad_enabled():
        return None
    kept = _KEPT.get(chip)
    if kept is None or kept[0] is not cells:
        kept = cells, _prepared(chip, cells), _ends(chip)
        _KEPT[chip] = kept
    pack, (first, last) = kept[1:]
    if pack is None:
        return None
    margin = MARGIN * (last - first)
    low, high = first - margin, last + margin

    def solved(v: Tensor) -> Tensor:
        i, _, reached, _, counts = pack.run(v, None, voltages=False)
        hard = (counts[..., 0] != gpu.CONVERGED).any()
        _ACTIVE[-1].append(hard | (reached.amin() < low) | (reached.amax() > high))
        return pack.flip.columns(i, -1).reshape(*pack.tiles, *i.shape[-2:])

    return solved


def _ends(chip: TiledMatrix) -> tuple[float, float]:
    """Ends of the table that cells between lines have [V], read on the CPU."""
    nodes = chip._basis(torch.device("cpu"), 2 * chip.config.v_read).nodes
    return float(nodes[0]), float(nodes[-1])


def _prepared(chip: TiledMatrix, cells: LutCells) -> gpu.Packed | None:
    """The arrays packed for every voltage that drivers can put on them."""
    from .engine import _circuit  # which imports `gpu`

    c = chip.config
    if c.wires is None:
        return None
    drive = fit(cells.x.new_zeros(1, cells.shape[-2]), cells.shape, cells.dtype, cells.device)
    circuit = _circuit(cells, drive, c.wires)
    if not gpu.suits(circuit):
        return None
    reach = 2 * c.v_read  # between drivers of either sign
    return gpu.packed(circuit, -reach, reach, c.rtol)
