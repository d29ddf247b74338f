"""Solving an array: which method, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from devicelab.errors import ParameterError, ShapeError, unknown_name

from .analysis import Inside
from .bias import Bias, Drive, fit
from .cells import Cells, Ohmic
from .fast import Fast, solve_fast, suits
from .floating import Floating
from .gpu import solve_gpu
from .gpu import suits as suits_gpu
from .implicit import differentiable, wants_gradients
from .linear import effective_conductance, eliminable
from .lines import Lines
from .memory import in_parts, vectors_at_once
from .newton import Circuit, State, solve_newton
from .solution import Solution
from .wires import Wires

METHODS = ("auto", "ideal", "elimination", "newton")


@runtime_checkable
class HasProduct(Protocol):
    """Cells whose output currents with ideal lines are a few matrix products."""

    def product(self, v_in: Tensor) -> Tensor:
        """Output currents [A], [*tiles, b, n], for word-line voltages [*tiles, b, m] and grounded bit lines."""
        ...


def solve(
    cells: Cells,
    v_in: Tensor | Bias,
    wires: Wires | None = None,
    *,
    rtol: float = 1e-6,
    method: str = "auto",
    memory: float = 2**31,
) -> Solution:
    """Output currents and cell voltages of an array.

    Args:
        cells: What sits at the crossings, [*tiles, m, n]; decides type and device of the computation.
        v_in: Word-line voltages [V], [m] or [b, m] or [*tiles, b, m], with bit lines at virtual ground; or a `Bias`.
        wires: Line resistances; None for ideal lines.
        rtol: Bound on the relative residual of Kirchhoff's current law (see `Solution.residual`).
        method: "ideal" (no lines: matrix products), "elimination" (linear cells: the array as one matrix),
            "newton" (anything), or "auto": ideal without line resistance and floating lines, elimination for `Ohmic`
            cells driven and sensed at one end, else newton.
        memory: Budget [bytes] for the working arrays of "newton"; a larger batch is solved in parts. Gradients and
            cell voltages that are kept come on top.

    Returns:
        The solution; `i_out` is positive when it flows into the sense node. For one vector [m] the batch dimension
        is left out of every result. Differentiable with respect to inputs, cells and wires.

    Raises:
        ParameterError: If a value is out of bounds or the method cannot solve this array.
        ShapeError: If the voltages or wires do not fit the cells.
        ConvergenceError: If the residual stays above `rtol`.
        LutError: If a cell works outside the voltages of its lookup table.
    """
    if not 0 < rtol < 1:
        raise ParameterError("unusable tolerance rtol", got=rtol, allowed="0 < rtol < 1")
    wires = wires if wires is not None else Wires()
    drive = fit(v_in, cells.shape, cells.dtype, cells.device)
    _check_tiles(drive, cells.shape)
    chosen = _choose(method, cells, wires, drive)
    if drive.batch == 0:
        chosen = "ideal"  # nothing is what flows
    solver: dict[str, Callable[[Cells, Drive, Wires, float], Solution]] = {
        "ideal": _ideal,
        "elimination": _elimination,
        "newton": _newton,
    }
    at_once = vectors_at_once(cells, drive, memory)
    if chosen != "newton" or drive.batch <= at_once:
        return solver[chosen](cells, drive, wires, rtol)
    return in_parts(lambda part: _newton(cells, part, wires, rtol), drive, at_once)


def _check_tiles(drive: Drive, shape: torch.Size) -> None:
    for v in (drive.v_wl, drive.v_bl):
        if v is None:
            continue
        try:
            torch.broadcast_shapes(v.shape[:-2], shape[:-2])
        except RuntimeError:
            raise ShapeError(
                "voltages and tiles do not fit", got=tuple(v.shape), allowed=f"tiles {tuple(shape[:-2])}"
            ) from None


def _choose(method: str, cells: Cells, wires: Wires, drive: Drive) -> str:
    if method not in METHODS:
        raise unknown_name("method", method, list(METHODS))
    driven = not bool(drive.floating_wl.any() or drive.floating_bl.any())
    possible = {
        "ideal": wires.ideal and driven,
        "elimination": isinstance(cells, Ohmic) and driven and drive.v_bl is None and eliminable(wires),
        "newton": True,
    }
    if method == "auto":
        return next(name for name, fits in possible.items() if fits)
    if not possible[method]:
        raise ParameterError(
            f"method {method!r} cannot solve this array",
            got=f"{type(cells).__name__}, {wires}",
            allowed="ideal: no line resistance, no floating lines; "
            "elimination: Ohmic cells, one terminal a line, bit lines at virtual ground",
            hint='method="newton" or "auto"',
        )
    return method


def _ideal(cells: Cells, drive: Drive, wires: Wires, rtol: float) -> Solution:
    def inside() -> Inside:
        circuit = _circuit(cells, drive, wires)
        return Inside(circuit, drive.v_wl, drive.v_bl, circuit.drive, cells.current(circuit.drive))

    if drive.v_bl is None and isinstance(cells, HasProduct):
        cells.check(drive.v_wl)
        i_out = cells.product(drive.v_wl)
    else:
        v = _applied(drive, cells.shape, cells.dtype)
        cells.check(v)
        i_out = cells.current(v).sum(-2)
    return Solution(i_out, inside, single=drive.single)


def _elimination(cells: Cells, drive: Drive, wires: Wires, rtol: float) -> Solution:
    if not isinstance(cells, Ohmic):  # `_choose` saw to it; this tells the type checker
        raise TypeError(type(cells).__name__)
    i_out = drive.v_wl @ effective_conductance(cells.g, wires)
    tight = 1e-10 if cells.dtype == torch.float64 else 1e-7
    check = cache(lambda: _newton(cells, drive, wires, tight, voltages=True))

    def residual() -> float:
        error, scale = (a.detach().abs().max().item() for a in (check().batched - i_out, i_out))
        return max(error / scale if scale > 0 else error, check().residual)

    return Solution(i_out, lambda: check().inside(), residual, single=drive.single)


def _newton(cells: Cells, drive: Drive, wires: Wires, rtol: float, *, voltages: bool = False) -> Solution:
    circuit = _circuit(cells, drive, wires)
    voltages = voltages or wants_gradients(circuit)
    found = _compiled(circuit, drive, rtol, voltages=voltages)
    if found is not None and found.v is None and not found.hard.any():
        cells.check(torch.tensor(found.v_range, device="cpu"))
        return Solution(
            found.i_out.to(cells.dtype),
            lambda: _newton(cells, drive, wires, rtol, voltages=True).inside(),
            found.residual,
            found.iterations,
            single=drive.single,
        )
    with torch.no_grad():
        state = _state(circuit, drive, wires, rtol, found)
    cells.check(state.v)
    v, i = differentiable(circuit, state.v, rtol)
    inside = Inside(circuit, drive.v_wl, drive.v_bl, v, i)
    return Solution(i.sum(-2).to(cells.dtype), lambda: inside, state.residual, state.iterations, single=drive.single)


def _compiled(circuit: Circuit, drive: Drive, rtol: float, *, voltages: bool) -> Fast | None:
    """What a compiled kernel finds; None if none suits the circuit, or it is too hard for plain Newton steps."""
    if suits(circuit):
        return solve_fast(circuit, drive.v_wl, drive.v_bl, rtol, voltages=voltages)
    if suits_gpu(circuit):
        return solve_gpu(circuit, drive.v_wl, drive.v_bl, rtol, voltages=voltages, ends=drive.ends)
    return None


def _state(circuit: Circuit, drive: Drive, wires: Wires, rtol: float, found: Fast | None) -> State:
    """Cell voltages: the kernel's where it found them, else by careful steps in torch."""
    if found is None:
        return solve_newton(circuit, rtol)
    if found.v is None:
        found = _compiled(circuit, drive, rtol, voltages=True)
    if found is None or found.v is None:  # for the type checker: what was found is found again
        return solve_newton(circuit, rtol)
    if not found.hard.any():
        return State(found.v, found.residual, found.iterations)
    rest = solve_newton(_circuit(circuit.cells, drive.of(found.hard), wires), rtol)
    found.v[..., found.hard, :, :] = rest.v
    return State(found.v, max(found.residual, rest.residual), max(found.iterations, rest.iterations))


def _circuit(cells: Cells, drive: Drive, wires: Wires) -> Circuit:
    m, n = cells.shape[-2:]
    lines = Lines.build(wires, m, n, drive.floating_wl, drive.floating_bl).to(cells.device)
    floating = Floating(drive.floating_wl, drive.floating_bl).to(cells.device)
    return Circuit(cells, lines, floating, _applied(drive, cells.shape, torch.float64), isinstance(cells, Ohmic))


def _applied(drive: Drive, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Voltages that the drivers put across the cells [V], [*tiles, b, m, n]."""
    v = drive.v_wl.to(dtype).unsqueeze(-1)
    v = v if drive.v_bl is None else v - drive.v_bl.to(dtype).unsqueeze(-2)
    tiles = torch.broadcast_shapes(v.shape[:-3], shape[:-2])
    return v.expand(*tiles, v.shape[-3], *shape[-2:])
