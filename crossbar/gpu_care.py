"""Hard vectors once more on the device: the operator around `gpu_careful`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from devicelab.errors import MissingDependencyError

from .optional import loaded, on_its_device

LARGEST_CAREFUL = 64
"""Word or bit lines of a tile whose hard vectors are solved with care on the device; others are by torch."""


@torch.library.custom_op("devicelab::careful_gpu", mutates_args=("i_out", "v_out", "extremes", "residual", "counts"))
@on_its_device
def careful_gpu(
    v_wl: Tensor,
    v_bl: Tensor,
    g: Tensor,
    steepness: Tensor,
    nodes: Tensor,
    bins: Tensor,
    pieces: Tensor,
    word: Tensor,
    bit: Tensor,
    law: list[int],
    rtol: float,
    keep: bool,
    i_out: Tensor,
    v_out: Tensor,
    extremes: Tensor,
    residual: Tensor,
    counts: Tensor,
) -> None:
    """Solve with care, in place, what `newton_gpu` has given up; takes what it takes and what it returns.

    `word` are resistances before each cell of a word line, `bit` those below each cell of a bit line [ohm].
    """
    compiled = loaded("gpu_careful")
    if compiled is None:
        raise MissingDependencyError("the array solver for GPUs needs triton", hint="pip install triton")
    kind, halvings, ranks, refine = law
    halvings = 3 * -(-halvings // 3)  # fewer kernels to compile
    tiles, b, n = i_out.shape
    m = v_wl.shape[2]
    side = max(16, 1 << (max(m, n) - 1).bit_length())
    chunk = 128
    compiled.careful[(max(1, min(-(-tiles * b // chunk), _multiprocessors(v_wl.device))),)](
        v_wl, v_bl, g, steepness, nodes, bins, pieces, word, bit, i_out, v_out, extremes, residual, counts,
        m, n, b, tiles * b,
        b * m if v_wl.shape[0] > 1 else 0,
        b * n if v_bl.shape[0] > 1 else 0,
        m * n if g.shape[1] > 1 else 0,
        g.shape[1] * m * n,
        len(nodes), len(bins), rtol,
        KIND=kind, HALVINGS=halvings, RANKS=ranks, REFINE=refine, ROWS=side, COLUMNS=side,
        WORDS_ALIKE=word.shape[0] == 1, BITS_ALIKE=bit.shape[0] == 1, KEEP=keep, CHUNK=chunk,
        num_warps=max(2, side * side // 256), enable_fp_fusion=True,
    )  # fmt: skip


@careful_gpu.register_fake
def _(*given: Any) -> None:
    return None


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2
