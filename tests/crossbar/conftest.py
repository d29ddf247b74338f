"""Devices for tests: the engine's tests run on a GPU too, where there is one, and on a pretended one everywhere.

With ``DEVICELAB_TEST_ELSEWHERE=pretend`` every test runs on a machine that pretends to have a GPU: ``-m cuda`` chooses
those that use it. With ``DEVICELAB_TEST_ELSEWHERE=cpu`` the engine's tests are sent to the CPU as they are to a GPU.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from pretend_gpu import missing, pretended
from torch import Tensor

from crossbar import Bias, Solution, engine, gpu
from crossbar.newton import Circuit

INTERPRETED = int(os.environ.get("DEVICELAB_TEST_INTERPRETED", "2"))
"""Vectors on tiles that a solve on the pretended GPU may have for Triton's interpreter to take it."""
ALWAYS = ExitStack()
THROUGH = os.environ.get("DEVICELAB_TEST_ELSEWHERE")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
    if THROUGH == "pretend":
        ALWAYS.enter_context(pretended())
HAS_CUDA = torch.cuda.is_available()
PRETENDED = pytest.param("pretended gpu", marks=pytest.mark.skipif(HAS_CUDA, reason="there is a GPU"))
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


@pytest.fixture(params=["cpu", PRETENDED, CUDA])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Every device that there is, and one that is not."""
    with placed(request.param) as there:
        yield there


@pytest.fixture(params=[PRETENDED, CUDA])
def a_gpu(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A GPU, or a pretended one."""
    with placed(request.param) as there:
        yield there


@contextmanager
def placed(name: str) -> Iterator[torch.device]:
    """The device of this name; a pretended one is there meanwhile."""
    if name != "pretended gpu":
        yield torch.device(name)
        return
    if (why := missing()) is not None:
        pytest.skip(why)
    with pretended(), few_interpreted():
        yield torch.device("cuda")


@contextmanager
def few_interpreted() -> Iterator[None]:
    """Only solves of few vectors go to the kernels: their interpreter takes a second for each. Torch does the rest."""
    suits = gpu.suits

    def few(circuit: Circuit) -> bool:
        return math.prod(circuit.drive.shape[:-2]) <= INTERPRETED and suits(circuit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "suits", few)
        patch.setattr(engine, "suits_gpu", few)
        yield


NOT_PRETENDED = {
    "test_networks_compile_as_one_graph": "compilation needs a GPU",
    "test_the_operator_is_a_good_citizen_of_torch": "tracing needs tensors of a GPU, or of the CPU alone",
    "test_ten_thousand_arrays_against_the_cpu": "a GPU solves them, an interpreter does not",
    "test_a_replay_of_solved_arrays": "kernels' interpreter takes minutes: DEVICELAB_TEST_INTERPRETED=1000000 runs it",
}
"""Tests marked `cuda` that a pretended GPU does not run, and why."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot be pretended."""
    name = item.name.split("[")[0]
    if THROUGH == "pretend" and name in NOT_PRETENDED and INTERPRETED < 1000:
        pytest.skip(NOT_PRETENDED[name])


@pytest.fixture(autouse=True, scope="session")
def interpreted() -> Iterator[None]:
    """Where every test is on the pretended GPU."""
    with few_interpreted() if THROUGH == "pretend" else nullcontext():
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the engine's tests again with the arrays on a GPU; where there is none, only if they are asked for."""
    asked = "cuda" in metafunc.config.getoption("markexpr", "").replace("not cuda", "")
    if metafunc.module.__name__ not in ENGINE:
        return
    if HAS_CUDA or asked:
        others = [CUDA]
    elif THROUGH == "cpu":
        others = [pytest.param("cpu", id="on cpu")]
    else:
        others = [PRETENDED]
    metafunc.fixturenames.append("elsewhere")
    metafunc.parametrize("elsewhere", [pytest.param(None, id="here"), *others], indirect=True)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Arrays of a test module go to another device, and what comes out comes back."""
    if request.param is None:
        yield
        return
    with placed(request.param) as there:
        for name in ("solve", "effective_conductance"):
            if hasattr(request.module, name):
                monkeypatch.setattr(request.module, name, sent(getattr(request.module, name), there))
        yield


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
