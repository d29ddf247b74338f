# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors
"""Normal numbers on a GPU, four of each call of Philox."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

jit: Any = triton.jit


@jit
def _circle(turn):
    """Cosine and sine of a uniform angle: a quadrant from the upper two bits, its fraction from the next 24."""
    x = (((turn >> 6) & 0xFFFFFF).to(tl.float32) * (0.5**24) - 0.5) * 1.5707963267948966
    t = x * x
    s = x * (1.0 + t * (-1.6666667e-1 + t * (8.3333310e-3 + t * (-1.9840874e-4 + t * 2.7525562e-6))))
    c = 1.0 + t * (-0.5 + t * (4.1666668e-2 + t * (-1.3888889e-3 + t * (2.4801587e-5 + t * -2.7e-7))))
    quadrant = turn >> 30
    odd = (quadrant & 1) != 0
    a, b = tl.where(odd, s, c), tl.where(odd, c, s)
    return tl.where((quadrant == 1) | (quadrant == 2), -a, a), tl.where(quadrant >= 2, -b, b)


@jit
def _two(a, b):
    """Two standard normal numbers of two words: Box and Muller."""
    size = tl.sqrt(-2.0 * tl.log(((a >> 8).to(tl.float32) + 1.0) * (0.5**24)))
    c, s = _circle(b)
    return size * c, size * s


@jit
def normal(noise, stage, vector, column, BM: tl.constexpr, BN: tl.constexpr):
    """Standard normal numbers [BM, BN]: Philox 4x32-10 (Salmon et al., SC 2011, DOI 10.1145/2063384.2063405).

    Four neighbours share one call, as tensor cores hold them: two columns and two vectors eight apart.
    """
    rows, columns = (vector // 2 + tl.arange(0, BM // 2))[:, None], (column // 2 + tl.arange(0, BN // 2))[None, :]
    whose, which = rows + columns * 0, columns + rows * 0
    zero = whose * 0
    a, b, c, d = tl.philox(
        tl.load(noise), whose, which, zero + tl.load(noise + 1).to(tl.int32), zero + stage.to(tl.int32)
    )
    near, far = _two(a, b), _two(c, d)
    upper = tl.join(near[0], near[1]).reshape(BM // 16, 8, BN)
    lower = tl.join(far[0], far[1]).reshape(BM // 16, 8, BN)
    return tl.join(upper, lower).permute(0, 3, 1, 2).reshape(BM, BN)
