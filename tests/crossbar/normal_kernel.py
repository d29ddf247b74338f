"""The fused product's random numbers on their own."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from crossbar.gpu_product_kernel import _normal

jit: Any = triton.jit


@jit
def numbers(noise, element, out, N: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Of the first draw, for `N` elements."""
    at = tl.arange(0, N)
    z = _normal(tl.load(noise), tl.load(noise + 1).to(tl.int32), 0, tl.load(element + at))
    tl.store(out + at, z)
