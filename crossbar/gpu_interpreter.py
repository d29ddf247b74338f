"""Triton's interpreter up to 3.6 beside numpy 2.5, which makes no number of an array with one element any more.

PyTorch up to 2.11 requires such a Triton. Only what TRITON_INTERPRET=1 asks for is concerned, no compiled kernel.
"""

from __future__ import annotations

import os
from typing import Any

import triton

MENDED = (3, 7)
"""Triton that needs no help."""


def mend() -> None:
    """Let loops of interpreted kernels take their bounds from arrays with one element."""
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if os.environ.get("TRITON_INTERPRET") != "1" or version >= MENDED:
        return
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)  # which a scope takes back
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patched
