"""Layers whose arrays are solved on a GPU: packed once, and without a look at what was found until a pass is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from . import gpu
from .bias import Bias, fit
from .lut_cells import LutCells

if TYPE_CHECKING:
    from .mapping import TiledMatrix

MARGIN = 1e-6
"""Of a table's range, by which a voltage may lie beyond it; as in `LutCells.check`."""

_KEPT: WeakKeyDictionary[TiledMatrix, tuple[LutCells, gpu.Packed | None]] = WeakKeyDictionary()
_STEEP: WeakSet[TiledMatrix] = WeakSet()  # had hard vectors, and are solved with care on the device from then on


@dataclass(eq=False)
class Pass:
    """A forward pass whose solves do not wait, or, within one that does not, a part whose solves do.

    Args:
        frame: The Python frame with which it ends, however that ends; None: it is ended by whoever began it.
        waits: Whether its solves look at what was found.
        before: What the network was before it.
    """

    frame: FrameType | None
    waits: bool = False
    before: Any = None
    flags: list[Tensor] = field(default_factory=list)  # true where the pass has to be made again
    looking: set[TiledMatrix] = field(default_factory=set)  # looked at values on the way: packed, or solved in torch


_PASS: ContextVar[Pass | None] = ContextVar("pass", default=None)  # each thread has its own


def current() -> Pass | None:
    """The pass that runs. One that an interrupt has left without its end is none."""
    now = _PASS.get()
    if now is None or now.frame is None:
        return now
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not now.frame:
        frame = frame.f_back
    return None if frame is None else now


def begin(now: Pass | None) -> None:
    """Set the pass that runs in this thread; None: none does."""
    _PASS.set(now)


def steep(chip: TiledMatrix) -> bool:
    """Whether the matrix is solved with care on the device, because some vector was too hard before."""
    return chip in _STEEP


@contextmanager
def running(now: Pass) -> Iterator[Pass]:
    """The pass runs inside."""
    token = _PASS.set(now)
    try:
        yield now
    finally:
        _PASS.reset(token)


@contextmanager
def deferred() -> Iterator[list[Tensor]]:
    """Solves of layers inside do not wait; the list gathers flags, true where a pass has to be made again."""
    with running(Pass(None)) as now:
        yield now.flags


def _looks(chip: TiledMatrix) -> None:
    """Note that a matrix looks at values in the pass that runs, if one does."""
    if not torch.compiler.is_compiling() and (now := current()) is not None:
        now.looking.add(chip)


def by_engine(chip: TiledMatrix, cells: LutCells, drive: Tensor | Bias) -> Tensor:
    """Currents of arrays that the kernels do not take."""
    from .engine import solve  # which imports `gpu`

    _looks(chip)
    return solve(cells, drive, chip.config.wires, rtol=chip.config.rtol).i_out


@contextmanager
def at_once() -> Iterator[None]:
    """Solves of layers inside look at what was found, each on its own, and are made again with care where needed."""
    with running(Pass(None, waits=True)):
        yield


def any_hard(flags: list[Tensor]) -> bool:
    """Whether a pass has to be made again: one wait for each device; tensors without values have no hard vectors."""
    real = [flag for flag in flags if not (flag.is_meta or isinstance(flag, FakeTensor))]
    devices = dict.fromkeys(flag.device for flag in real)
    each = [torch.stack([flag for flag in real if flag.device == device]).any() for device in devices]
    return any(bool(one) for one in each)


def there(a: LutCells | Tensor) -> bool:
    """Whether arrays lie where the kernels may take them."""
    return a.device.type == "cuda"


def solver(chip: TiledMatrix, cells: LutCells) -> Callable[[Tensor], Tensor] | None:
    """From voltages [*tiles, b, rows] to currents [*tiles, b, columns]; None where the engine has to be asked.

    Vectors too hard for the kernels, or beyond the table, are flagged in a pass that does not wait, and otherwise
    solved at once with care; the others' currents are the same either way.
    """
    if not there(cells) or cells.x.requires_grad or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    kept = _KEPT.get(chip)
    if kept is None or kept[0] is not cells:
        _looks(chip)
        kept = cells, _prepared(chip, cells)
        _KEPT[chip] = kept
    pack, (first, last) = kept[1], cells.ends
    if pack is None:
        return None
    margin = MARGIN * (last - first)
    low, high = first - margin, last + margin

    def found(v: Tensor) -> tuple[Tensor, Tensor]:
        i, _, reached, _, counts = pack.run(v, None, voltages=False, careful=chip in _STEEP)
        hard = (counts[..., 0] != gpu.CONVERGED) | (reached[..., 0] < low) | (reached[..., 1] > high)
        return pack.flip.columns(i, -1).reshape(*pack.tiles, *i.shape[-2:]), hard

    def solved(v: Tensor) -> Tensor:
        out, hard = found(v)
        now = current()
        if now is not None and not now.waits:
            now.flags.append(hard.any())
            return out.masked_fill_(hard.view(*out.shape[:-1], 1), 0.0)  # what follows is not to stumble over them
        if chip not in _STEEP and any_hard([hard.any()]):
            _STEEP.add(chip)
            out, hard = found(v)
        if chip in _STEEP and any_hard([hard.any()]):
            _with_care(chip, cells, v, hard.any(0), out)
        return out

    return solved


def _with_care(chip: TiledMatrix, cells: LutCells, v: Tensor, hard: Tensor, out: Tensor) -> None:
    """Put the currents of hard vectors [b] right, by the engine."""
    which = hard.nonzero()[:, 0]
    out[..., which, :] = by_engine(chip, cells, v[..., which, :]).to(out)


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
