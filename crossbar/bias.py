"""What drives the lines of an array."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devicelab.errors import ParameterError, ShapeError


@dataclass(frozen=True)
class Bias:
    """Voltages at the driven ends of the lines, and lines that float.

    Args:
        v_wl: Word-line drive [V], [m] or [*tiles, b, m]; ignored on floating lines.
        v_bl: Potential of the sense nodes [V], [n] or [*tiles, b, n]; ignored on floating lines. Default: ground.
        floating_wl: True where a word line floats, [m].
        floating_bl: True where a bit line floats, [n].
    """

    v_wl: Tensor
    v_bl: Tensor | None = None
    floating_wl: Tensor | None = None
    floating_bl: Tensor | None = None

    @staticmethod
    def write(v: float, row: int, column: int, m: int, n: int, scheme: str = "v/2") -> Bias:
        """Bias that puts `v` [V] across one cell of an m x n array.

        Args:
            v: Voltage of the selected word line above the selected bit line [V].
            row: Selected word line.
            column: Selected bit line.
            m: Number of word lines.
            n: Number of bit lines.
            scheme: What the unselected lines do: "v/2" (all at v/2), "v/3" (word lines at v/3, bit lines at 2v/3),
                "grounded" (all at 0) or "floating".
        """
        schemes = {"v/2": (v / 2, v / 2), "v/3": (v / 3, 2 * v / 3), "grounded": (0.0, 0.0), "floating": (0.0, 0.0)}
        if scheme not in schemes:
            raise ParameterError("unknown write scheme", got=repr(scheme), allowed=", ".join(schemes))
        v_wl, v_bl = (
            torch.full((k,), level, dtype=torch.float64, device="cpu")
            for k, level in zip((m, n), schemes[scheme], strict=True)
        )
        v_wl[row], v_bl[column] = v, 0.0
        if scheme != "floating":
            return Bias(v_wl, v_bl)
        floating_wl, floating_bl = (
            torch.ones(m, dtype=torch.bool, device="cpu"),
            torch.ones(n, dtype=torch.bool, device="cpu"),
        )
        floating_wl[row] = floating_bl[column] = False
        return Bias(v_wl, v_bl, floating_wl, floating_bl)


@dataclass(frozen=True)
class Drive:
    """A `Bias` fitted to an array: complete, checked and in the array's type."""

    v_wl: Tensor  # [*tiles or 1, b, m]
    v_bl: Tensor | None  # [*tiles or 1, b, n], None for virtual ground
    floating_wl: Tensor  # [m], on the CPU wherever the array is
    floating_bl: Tensor  # [n], likewise
    single: bool  # one vector was given, without a batch dimension
    ends: tuple[float, ...] | None = None  # least and largest v_wl, and v_bl, where that was looked up [V]

    @property
    def batch(self) -> int:
        """Number of vectors."""
        return max(v.shape[-2] for v in (self.v_wl, self.v_bl) if v is not None)

    def of(self, vectors: slice | Tensor) -> Drive:
        """The drive of some of the vectors, given by a slice or a mask [b]; a single vector serves all."""

        def cut(v: Tensor) -> Tensor:
            return v if v.shape[-2] == 1 else v[..., vectors, :]

        v_bl = None if self.v_bl is None else cut(self.v_bl)
        return Drive(cut(self.v_wl), v_bl, self.floating_wl, self.floating_bl, self.single, self.ends)


def fit(bias: Bias | Tensor, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Drive:
    """The drive of an array of cells [*tiles, m, n].

    Raises:
        ShapeError: If the voltages do not fit the array.
        ParameterError: If a voltage is not finite, or every line floats.
    """
    bias = bias if isinstance(bias, Bias) else Bias(bias)
    m, n = shape[-2:]
    floating_wl = _mask("floating_wl", bias.floating_wl, m)
    floating_bl = _mask("floating_bl", bias.floating_bl, n)
    if bool(floating_wl.all() & floating_bl.all()):
        raise ParameterError("every line floats", allowed="at least one line with a driven end")
    v_wl = _voltages("v_wl", bias.v_wl, m, len(shape) - 2, floating_wl, dtype, device)
    v_bl = bias.v_bl
    if v_bl is not None:
        v_bl = _voltages("v_bl", v_bl, n, len(shape) - 2, floating_bl, dtype, device)
    ends = _finite({"v_wl": v_wl} if v_bl is None else {"v_wl": v_wl, "v_bl": v_bl})
    single = v_wl.dim() == 1 and (v_bl is None or v_bl.dim() == 1)
    v_wl = v_wl.unsqueeze(0) if v_wl.dim() == 1 else v_wl
    v_bl = v_bl.unsqueeze(0) if v_bl is not None and v_bl.dim() == 1 else v_bl
    return Drive(v_wl, v_bl, floating_wl, floating_bl, single, ends)


def _mask(name: str, mask: Tensor | None, lines: int) -> Tensor:
    if mask is None:
        return torch.zeros(lines, dtype=torch.bool, device="cpu")
    mask = torch.as_tensor(mask).cpu()
    if mask.shape != (lines,) or mask.dtype != torch.bool:
        raise ShapeError(
            f"{name} does not fit the array", got=(mask.dtype, tuple(mask.shape)), allowed=f"bool [{lines}]"
        )
    return mask


def _voltages(
    name: str, v: Tensor, lines: int, tiles: int, floating: Tensor, dtype: torch.dtype, device: torch.device
) -> Tensor:
    v = torch.as_tensor(v).to(dtype=dtype, device=device)
    if v.dim() == 0 or v.shape[-1] != lines or v.dim() > tiles + 2:
        raise ShapeError(
            f"{name} does not fit the array", got=tuple(v.shape), allowed=f"[{lines}] or [..., b, {lines}]"
        )
    return v.masked_fill(floating.to(device), 0.0) if bool(floating.any()) else v.clone()


def _finite(voltages: dict[str, Tensor]) -> tuple[float, ...] | None:
    """Refuse voltages that are not finite; on a GPU with one wait, which also tells their ends."""
    ends = None
    if all(v.is_cuda and v.numel() for v in voltages.values()):
        ends = tuple(torch.stack([end for v in voltages.values() for end in v.detach().aminmax()]).tolist())
        if all(math.isfinite(end) for end in ends):  # not a number stays so
            return ends
    for name, v in voltages.items():
        if not bool(v.isfinite().all()):
            raise ParameterError(f"{name} holds values that are not finite", got=v[~v.isfinite()][0].item())
    return ends
