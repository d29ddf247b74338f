"""Devices for tests: the engine's tests run on a GPU too, where there is one."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from crossbar import Bias, Solution

HAS_CUDA = torch.cuda.is_available()
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")], id="cuda"
)
ENGINE = {
    f"test_crossbar_{name}"
    for name in ("cells", "circuit", "compositions", "gradients", "hostile", "memory", "spectral", "topology")
}
"""Modules whose `solve` and `effective_conductance` are put on every device."""


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """Networks without weights of their own have the same ones in every run."""
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that there is."""
    return torch.device(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the engine's tests again with the arrays on a GPU; where there is none, only if they are asked for."""
    asked = "cuda" in metafunc.config.getoption("markexpr", "").replace("not cuda", "")
    through = os.environ.get("DEVICELAB_TEST_ELSEWHERE")  # "cpu" checks what follows without a GPU
    if metafunc.module.__name__ in ENGINE and (HAS_CUDA or asked or through):
        metafunc.fixturenames.append("elsewhere")
        other = pytest.param(through, id=f"on {through}") if through else CUDA
        metafunc.parametrize("elsewhere", [pytest.param(None, id="here"), other], indirect=True)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of a test module go to another device, and what comes out comes back."""
    if request.param is None:
        return
    there = torch.device(request.param)
    for name in ("solve", "effective_conductance"):
        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, sent(getattr(request.module, name), there))


def sent(function: Callable[..., Any], there: torch.device) -> Callable[..., Any]:
    """The function with its tensors moved there, and its result moved back."""

    def call(*given: Any, **named: Any) -> Any:
        return back(
            function(*(moved(a, there) for a in given), **{k: moved(a, there) for k, a in named.items()}), there
        )

    return call


def moved(a: Any, there: torch.device) -> Any:
    """Tensors, cells and biases there; everything else as it is."""
    if isinstance(a, Tensor):
        return a.to(there)
    if isinstance(a, Bias):
        return Bias(*(moved(getattr(a, f.name), there) for f in dataclasses.fields(a)))
    if isinstance(a, tuple | list):
        return type(a)(moved(part, there) for part in a)
    if hasattr(a, "current_and_conductance"):  # cells, also those made of others
        other = copy.copy(a)
        for name, part in vars(a).items():
            object.__setattr__(other, name, moved(part, there))
        return other
    return a


def back(a: Any, there: torch.device) -> Any:
    """Tensors on the CPU, also those of what a solution gives when it is asked."""
    if isinstance(a, Tensor):
        assert a.device.type == there.type
        return a.cpu()
    if isinstance(a, Solution):
        return Returned(a, there)
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return dataclasses.replace(a, **{f.name: back(getattr(a, f.name), there) for f in dataclasses.fields(a)})
    return a


class Returned:
    """A solution whose tensors come back to the CPU."""

    def __init__(self, solution: Solution, there: torch.device) -> None:
        self._solution, self._there = solution, there

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._solution, name)
        if callable(found):
            return lambda *a, **k: back(found(*(moved(x, self._there) for x in a), **k), self._there)
        return back(found, self._there)
