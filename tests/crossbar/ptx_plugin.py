"""For pytest: Triton's kernels are compiled for an H100 and run by the PTX machine, in tests that would interpret them.

python -m pytest -p ptx_plugin tests/crossbar/test_crossbar_gpu_series.py -k options

A test fails where the machine finds a fault. Needs tests/crossbar on the path (PYTHONPATH). Slow: seconds a test.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

import pytest

KERNELS = (
    "gpu_blocked",
    "gpu_careful",
    "gpu_expansion_kernel",
    "gpu_input_kernel",
    "gpu_kernel",
    "gpu_product_kernel",
)
UNIFORM = ("resident", "blocked", "careful")
"""Kernels in which all threads of a program take the same way."""


def pytest_configure(config: pytest.Config) -> None:
    """Kernels are imported while nothing asks for the interpreter, as test modules do."""
    os.environ.pop("TRITON_INTERPRET", None)
    for name in KERNELS:
        importlib.import_module(f"crossbar.{name}")


@pytest.fixture(autouse=True)
def _on_the_machine() -> Iterator[None]:
    from ptx_device import Device

    os.environ.pop("TRITON_INTERPRET", None)
    device = Device(uniform=UNIFORM)
    with device.active():
        yield
    assert not device.findings
