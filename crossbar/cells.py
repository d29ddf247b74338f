"""What sits at the crossings: current and conductance of every cell as tensors."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from devicelab.errors import ParameterError, ShapeError


class Cells(Protocol):
    """The cells of an array, or of a stack of arrays (tiles) of one size.

    Voltage and current are positive from word line to bit line. The current rises with the voltage and is zero at zero.
    """

    @property
    def shape(self) -> torch.Size:
        """[*tiles, m, n]."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64; the solution comes in the same type."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the solution is computed."""
        ...

    def current(self, v: Tensor) -> Tensor:
        """Cell currents [A] at the cell voltages `v` [V], both [*tiles, b, m, n]; float64 in, float64 out."""
        ...

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Cell currents [A] and their derivatives with respect to `v` [S], both [*tiles, b, m, n]."""
        ...

    def check(self, v: Tensor) -> None:
        """Raise if a cell would work outside its range at the voltages `v` [*tiles, b, m, n] of a solution."""
        ...


class _Tensors:
    """Shape, type and device from the tensor that holds one value for each cell."""

    _per_cell: Tensor

    @property
    def shape(self) -> torch.Size:
        """[*tiles, m, n]."""
        return self._per_cell.shape

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the solution."""
        return self._per_cell.dtype

    @property
    def device(self) -> torch.device:
        """Where the solution is computed."""
        return self._per_cell.device

    def check(self, v: Tensor) -> None:
        """Accept every voltage."""


def per_cell(name: str, values: Any, *, low: float, high: float, unit: str) -> Tensor:
    """`values` as a floating-point tensor [*tiles, m, n] within [low, high].

    Raises:
        ShapeError: If there are fewer than two dimensions or no cells.
        ParameterError: If a value is outside the bounds or not a number.
    """
    tensor = torch.as_tensor(values)
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.dim() < 2 or tensor.numel() == 0:
        raise ShapeError(f"{name} needs one value for each cell", got=tuple(tensor.shape), allowed="[..., m, n]")
    inside = (tensor.detach() >= low) & (tensor.detach() <= high)  # False for NaN
    if not bool(inside.all()):
        worst = tensor.detach()[~inside][0].item()
        raise ParameterError(f"{name} is out of bounds", got=f"{worst:g} {unit}", allowed=f"{low:g} to {high:g} {unit}")
    return tensor


LARGEST = 1e30  # S; keeps every product with a resistance finite


class Ohmic(_Tensors):
    """Linear cells, i = g v.

    Args:
        g: Conductance [S], [*tiles, m, n].
    """

    def __init__(self, g: Tensor) -> None:
        self.g = self._per_cell = per_cell("conductance g", g, low=0.0, high=LARGEST, unit="S")

    def current(self, v: Tensor) -> Tensor:
        """g v [A]."""
        return self.g.unsqueeze(-3).to(v.dtype) * v

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """g v [A] and g [S]."""
        g = self.g.unsqueeze(-3).to(v.dtype)
        return g * v, g.expand(v.shape)

    def product(self, v_in: Tensor) -> Tensor:
        """Output currents with ideal lines [A], [*tiles, b, n], one matrix product."""
        return v_in @ self.g


class Sinh(_Tensors):
    """Cells with i = g sinh(b v) / b.

    Args:
        g: Conductance at zero voltage [S], [*tiles, m, n].
        b: Non-linearity [1/V], a number or [*tiles, m, n]; 0 is an ohmic cell.
    """

    def __init__(self, g: Tensor, b: float | Tensor) -> None:
        self.g = self._per_cell = per_cell("conductance g", g, low=0.0, high=LARGEST, unit="S")
        b = torch.as_tensor(b, dtype=self.g.dtype, device=self.g.device)
        try:
            b = b.expand(self.g.shape) if b.dim() else b.reshape(1, 1).expand(self.g.shape)
        except RuntimeError:
            raise ShapeError("b does not fit g", got=tuple(b.shape), allowed=tuple(self.g.shape)) from None
        self.b = per_cell("non-linearity b", b, low=0.0, high=1e6, unit="1/V")

    def current(self, v: Tensor) -> Tensor:
        """The current g sinh(b v) / b [A]."""
        g, b = self.g.unsqueeze(-3).to(v.dtype), self.b.unsqueeze(-3).to(v.dtype)
        linear = b == 0
        safe = torch.where(linear, torch.ones_like(b), b)
        return torch.where(linear, g * v, g / safe * torch.sinh(safe * v))

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Current [A] and g cosh(b v) [S]."""
        g, b = self.g.unsqueeze(-3).to(v.dtype), self.b.unsqueeze(-3).to(v.dtype)
        return self.current(v), g * torch.cosh(b * v)


class ModelCells(_Tensors):
    """Cells that follow a device model at fixed states.

    Args:
        model: Anything with `current(v, x)` [A] that works elementwise on torch tensors.
        x: State of every cell, 0 to 1, [*tiles, m, n].
    """

    def __init__(self, model: Any, x: Tensor) -> None:
        self.model = model
        self.x = self._per_cell = per_cell("state x", x, low=0.0, high=1.0, unit="")

    def current(self, v: Tensor) -> Tensor:
        """The model's current [A]."""
        current: Tensor = self.model.current(v, self.x.unsqueeze(-3).to(v.dtype))
        return current

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The model's current [A] and, by automatic differentiation, its conductance [S]."""
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            current = self.current(v)
            (conductance,) = torch.autograd.grad(current.sum(), v)
        return current.detach(), conductance
