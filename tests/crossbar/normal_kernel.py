# ruff: noqa: ANN001, ANN201
# mypy: ignore-errors
"""The normal numbers of the fused product alone."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from crossbar.gpu_noise_kernel import normal

jit: Any = triton.jit


@jit
def numbers(noise, stage, vector, column, out, BM: tl.constexpr, BN: tl.constexpr):
    """Those of a block of vectors and columns."""
    z = normal(noise, stage, vector, column, BM, BN)
    tl.store(out + tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :], z)
