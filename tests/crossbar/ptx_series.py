"""The series' compiled kernels on the PTX machine beside the CPU's series; prints what came of each case as JSON.

python tests/crossbar/ptx_series.py [CASE ...]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
os.environ.pop("TRITON_INTERPRET", None)  # read when the kernels are imported

from ptx_device import Device  # noqa: E402
from test_crossbar_expansion import LUTS, arrays, same, tensor  # noqa: E402

from crossbar import TiledMatrix, Wires, expansion, gpu_expansion  # noqa: E402

CASES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "one sweep": ("sinh", 16, 5, {}),
    "one sweep, table, converters": ("vteam", 12, 40, {"adc__bits": 6, "dac__bits": 7, "subtraction": "digital"}),
    "several": ("sinh", 64, 2, {}),
    "several, of small tiles": ("vteam", 16, 5, {"wires": same(2.0), "rtol": 1e-4, "scheme": "reference column"}),
    "lines that differ": ("sinh", 12, 3, {"wires": Wires(1.0, 1.0, 1.0, torch.linspace(1, 20, 12)), "rtol": 1e-4}),
}
"""Cells, lines of a tile, vectors, options."""


def run(law: str, side: int, vectors: int, options: dict[str, Any]) -> dict[str, Any]:
    """Largest difference to the CPU relative to the largest result, faults, bytes that nobody wrote, the kernel."""
    matrix, x = arrays(LUTS[law](), tensor(20, 30), side, side, **options), tensor(vectors, 30)
    suits = gpu_expansion.suits

    class There:
        device, dtype = torch.device("cuda"), torch.float32

    def fits(chip: TiledMatrix, u: torch.Tensor) -> bool:
        return suits(chip, There())  # type: ignore[arg-type]

    device = Device()
    with torch.no_grad():
        expected = matrix(x)
        with pytest.MonkeyPatch.context() as patch, device.active():
            patch.setattr(expansion, "suits", lambda chip, u: False)
            patch.setattr(gpu_expansion, "suits", fits)
            matrix(x[:1])
            found = matrix(x)  # a second launch finds the first one's code
    return {
        "off": float((found - expected).abs().max() / expected.abs().max()),
        "findings": device.findings,
        "unwritten": sum(sum(launch.unwritten.values()) for launch in device.launches),
        "kernel": device.launches[-1].name,
    }


if __name__ == "__main__":
    print(json.dumps({name: run(*CASES[name]) for name in sys.argv[1:] or CASES}))
