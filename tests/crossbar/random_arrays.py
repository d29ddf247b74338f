"""Random arrays of every kind that the kernels take, their exact answers, and how far an answer may be from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crossbar import Bias, Cells, LutCells, Ohmic, Sinh, Wires, engine, fast, solve
from devicelab import VTEAM, Lut, parameter_set

KINDS = ("ohmic", "sinh", "steep sinh", "smooth table", "cornered table")
SPAN = 0.9
"""Largest difference between driven potentials [V]: cells stay within their tables."""
PER_RESIDUAL = 2.0
"""Error of a line's current per residual, in the largest sum of |currents| over one line."""


@dataclass(frozen=True)
class Arrays:
    """Tiles of one size with their lines and drive, and the tolerance to which they are to be solved."""

    kind: str
    cells: Cells
    bias: Bias
    wires: Wires
    rtol: float

    def __str__(self) -> str:
        return f"{self.kind}, {tuple(self.cells.shape)}, {self.cells.dtype}, rtol {self.rtol:g}, {self.wires}"


@cache
def table(cornered: bool) -> Lut:
    """To 1 V; smooth enough for a polynomial, or with corners."""
    corners = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)
    return Lut.from_model(corners if cornered else parameter_set("vteam_pt_hf_ti"), 1.0, tolerance=1e-3)


def random_arrays(rng: np.random.Generator, kind: str, tiles: int, largest: int) -> Arrays:
    """Tiles of one size, sides log-uniform up to `largest`, of one of `KINDS`, with any lines and drive.

    Lines of 0.01 to 20 ohm, alike, one value a line or one a segment, some of them 0, with their terminals at either
    end; inputs of either sign, one set for all tiles or one each, with and without voltages on the bit lines; some
    cells open; sinh cells up to sinh(3), steep ones up to where Newton's method without care fails.
    """
    m, n = (int(np.exp(rng.uniform(0, np.log(largest + 1)))) for _ in "mn")
    double = rng.random() < 0.5
    real = torch.float64 if double else torch.float32
    vectors = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    own = (tiles,) if rng.random() < 0.5 else ()
    v_wl = rng.uniform(-0.4, 0.5, (*own, vectors, m)) * (rng.random((*own, vectors, m)) > 0.2)
    v_bl = rng.uniform(-0.2, 0.2, (vectors, n)) if rng.random() < 0.4 else None
    bias = Bias(*(None if v is None else torch.tensor(v, dtype=real) for v in (v_wl, v_bl)))
    cells = _cells(rng, kind, (tiles, m, n), real)
    return Arrays(kind, cells, bias, _wires(rng, m, n), float(rng.choice([1e-9, 1e-6])) if double else 1e-5)


def _cells(rng: np.random.Generator, kind: str, shape: tuple[int, ...], real: torch.dtype) -> Cells:
    def tensor(a: Any) -> Tensor:
        return torch.tensor(a, dtype=real)

    if "table" in kind:
        scale = tensor(10 ** rng.uniform(-0.3, 0.3, shape)) if rng.random() < 0.3 else None
        return LutCells(table(kind == "cornered table"), tensor(rng.uniform(0, 1, shape)), scale=scale)
    g = 10 ** rng.uniform(-7, -3, shape) * (rng.random(shape) > 0.1 * (rng.random() < 0.5))
    if kind == "ohmic":
        return Ohmic(tensor(g))
    steepest = (rng.uniform(8, 60) if kind == "steep sinh" else rng.uniform(0, 3)) / SPAN
    each = rng.random(shape) * (rng.random(shape) > 0.2)  # some of them ohmic
    return Sinh(tensor(g), tensor(steepest * each) if rng.random() < 0.5 else float(steepest))


def _wires(rng: np.random.Generator, m: int, n: int) -> Wires:
    r = 10 ** rng.uniform(-2, np.log10(20))

    def some(*shape: int) -> Tensor:
        return torch.tensor(r * rng.uniform(0, 2, shape) * (rng.random(shape) > 0.1))

    def line(lines: int, segments: int) -> float | Tensor:
        return [r, some(lines), some(lines, segments)][rng.choice(3, p=[0.5, 0.25, 0.25])]

    def end(lines: int) -> float | Tensor:
        return [r, 0.0, some(lines)][rng.choice(3, p=[0.5, 0.2, 0.3])]

    left, right, bottom, top = end(m), np.inf, end(n), np.inf
    if rng.random() < 0.5:
        left, right = right, left
    if rng.random() < 0.5:
        bottom, top = top, bottom
    by_segment = line(n, m - 1)
    r_bl = by_segment.T.contiguous() if isinstance(by_segment, Tensor) and by_segment.dim() == 2 else by_segment
    return Wires(line(m, n - 1), r_bl, left, bottom, right, top)


def on(arrays: Arrays, device: torch.device | str, real: torch.dtype | None = None) -> tuple[Cells, Bias]:
    """Cells and drive on a device; the same numbers in another type if one is given."""

    def moved(a: Tensor | None) -> Tensor | None:
        return None if a is None else a.to(device, real)

    cells = arrays.cells
    there: Cells
    if isinstance(cells, LutCells):
        there = LutCells(cells.lut, moved(cells.x), scale=moved(cells.scale))  # type: ignore[arg-type]
    elif isinstance(cells, Sinh):
        there = Sinh(moved(cells.g), moved(cells.b))  # type: ignore[arg-type]
    else:
        there = Ohmic(moved(cells.g))  # type: ignore[attr-defined, arg-type]
    return there, Bias(moved(arrays.bias.v_wl), moved(arrays.bias.v_bl))  # type: ignore[arg-type]


def off(arrays: Arrays, device: torch.device | str, found: Callable[..., Any] = solve) -> float:
    """The largest error of a current, in what the tolerance allows; against float64 on the CPU.

    Every input vector and tile is measured by its own largest sum of |currents| over one line.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "suits", fast.suits)
        patch.setattr(engine, "suits_gpu", lambda circuit: False)
        exact = solve(*on(arrays, "cpu", torch.float64), arrays.wires, rtol=1e-10, method="newton")
        i = exact.inside().i
    i_out = found(*on(arrays, device), arrays.wires, rtol=arrays.rtol, method="newton").i_out.double().cpu()
    scale = torch.maximum(i.abs().sum(-1).amax(-1), i.abs().sum(-2).amax(-1)).unsqueeze(-1)
    error = (i_out - i.sum(-2)).abs()
    assert bool(error.isfinite().all())
    return float((error / (scale * arrays.rtol * PER_RESIDUAL).clamp_min(1e-30)).max())
