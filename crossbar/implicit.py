"""Gradients through a solved array by the implicit function theorem: one linear solve, whatever the iterations were."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .newton import Circuit, System


def wants_gradients(circuit: Circuit) -> bool:
    """Whether anything that the solution depends on requires gradients."""
    if not torch.is_grad_enabled():
        return False
    shape = *circuit.drive.shape[:-3], 1, *circuit.drive.shape[-2:]
    i = circuit.cells.current(torch.zeros(shape, dtype=torch.float64, device=circuit.drive.device))
    return circuit.drive.requires_grad or circuit.lines.drops(i).requires_grad


def differentiable(circuit: Circuit, v: Tensor, rtol: float) -> tuple[Tensor, Tensor]:
    """Cell voltages [V] and currents [A], [*tiles, b, m, n], with gradients to drive, cells and wires.

    Args:
        circuit: The circuit, whose tensors may require gradients.
        v: Its solution, without gradients.
        rtol: Accuracy of the solution; the gradient's linear solve is ten times finer.
    """
    i = circuit.cells.current(v)
    if not torch.is_grad_enabled():
        return v, i
    f = circuit.drive - circuit.lines.drops(i)
    if not (f.requires_grad or i.requires_grad):
        return v, i
    lines = circuit.lines.detach()
    with torch.no_grad():
        _, d = circuit.cells.current_and_conductance(v)
    system = System(lines, circuit.floating, d, torch.float64, circuit.spectrum)
    shift = torch.zeros_like(v)
    if system.weights is not None:  # floating lines move so that their net current stays zero
        shift = system.weights.spread(i - i.detach())
        f = f + shift + lines.drops(d * shift)
    response: Any = _Response.apply
    v = response(f, v, system, 0.1 * rtol) - shift
    return v, circuit.cells.current(v)


class _Response(torch.autograd.Function):
    """Returns `v`; the gradient of `f` is the adjoint response of the array."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, v: Tensor, system: System, tolerance: float) -> Tensor:
        ctx.system, ctx.tolerance = system, tolerance
        return v.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.system.adjoint(gradients[0], ctx.tolerance), None, None, None
