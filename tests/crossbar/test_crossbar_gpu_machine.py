"""The compiled kernels without a GPU: their PTX for an H100, run by `ptx_machine` and searched for faults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch

from crossbar import gpu

if gpu.kernels() is None:
    pytest.skip("triton is not installed", allow_module_level=True)
import triton

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 9):
    pytest.skip("the device for the machine speaks with Triton 3.9 and later", allow_module_level=True)
import ptx_cases

Call = Callable[..., Any]
SINGLE, DOUBLE = 2e-5, 1e-8  # of rtol 1e-5 and 1e-9: twice and ten times, as the residual is not the error


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Calls functions of `ptx_cases` in another process, as Triton interprets in this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRITON_INTERPRET", raising=False)
        patch.setenv("TRITON_CACHE_DIR", os.environ.get("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton"))))
        patch.setenv("PYTHONWARNINGS", "ignore")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(os.getpid).result()
            yield lambda function, *given, **named: pool.submit(function, *given, **named).result()


class TestKnownAnswers:
    @pytest.mark.parametrize("warps", [1, 4, 8])
    @pytest.mark.parametrize("double", [False, True])
    def test_running_sums(self, call: Call, double: bool, warps: int) -> None:
        found = call(ptx_cases.sums, double, warps)
        x = found.results["x"]
        assert torch.equal(found.results["down"], x.cumsum(0))
        assert torch.equal(found.results["along"], x.flip(1).cumsum(1).flip(1))
        assert found.results["total"].item() == x.sum().item()
        assert not found.findings
        assert found.unwritten == 0
        assert found.warps == warps

    @pytest.mark.parametrize("half", ["", "float16", "bfloat16"])
    @pytest.mark.parametrize(("m", "arch"), [(16, 90), (64, 90), (64, 80)])
    def test_products_on_tensor_cores(self, call: Call, m: int, arch: int, half: str) -> None:
        """By mma.sync and by wgmma, of whole numbers that the factors' type holds exactly."""
        found = call(ptx_cases.dot, m, 32, 32, "tf32", arch, half)
        a, b, c = (found.results[name].double() for name in "abc")
        assert torch.equal(c, a @ b)
        assert not found.findings

    @pytest.mark.parametrize("m", [16, 64])
    def test_three_products_of_tf32_are_about_float32(self, call: Call, m: int) -> None:
        found = call(ptx_cases.dot, m, 16, 32, "tf32x3", 90)
        a, b, c = (found.results[name].double() for name in "abc")
        assert ((c - a @ b).abs() <= 3e-6 * (a.abs() @ b.abs())).all()  # TF32 alone: 1e-3
        assert not found.findings

    @pytest.mark.parametrize(
        ("counters", "key", "answer"),
        [
            ([0] * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
            ([0xFFFFFFFF] * 4, 0xFFFFFFFFFFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
            (
                [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
                0x299F31D0A4093822,
                "d16cfe09 94fdcceb 5001e420 24126ea1",
            ),
        ],
    )
    def test_philox(self, call: Call, counters: list[int], key: int, answer: str) -> None:
        """Random123's file of known answers (kat_vectors, philox4x32 of 10 rounds)."""
        found = call(ptx_cases.philox, key, counters)
        out = found.results["out"].numpy().view(np.uint32)
        assert [f"{word:08x}" for word in out[:, 0]] == answer.split()
        assert (out == out[:, :1]).all()
        assert not found.findings

    def test_functions(self, call: Call) -> None:
        """Of numbers, of which some threads take the slow way for cosines, and whole ones."""
        found = call(ptx_cases.functions)
        x, i, out, whole = (found.results[name].numpy() for name in ("x", "i", "out", "whole"))
        wide = x.astype(float)
        np.testing.assert_allclose(out[0], np.exp(wide), rtol=4e-6)  # 2^x of a rounded product, |x| up to 70
        np.testing.assert_allclose(out[1], np.log(np.abs(wide)), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(out[2], np.cos((x * np.float32(1e4)).astype(float)), rtol=0, atol=1e-6)
        np.testing.assert_allclose(out[3], np.sqrt(np.abs(wide)) / (wide + 100), rtol=1e-6)
        np.testing.assert_array_equal(out[4], np.clip(x, -1, 1))
        np.testing.assert_array_equal(whole[0], np.trunc(i / 7))
        np.testing.assert_array_equal(whole[1], np.fmod(i, 7))
        np.testing.assert_array_equal(whole[2], (i >> 3) ^ (i << 5))
        np.testing.assert_array_equal(whole[3], np.trunc(x))
        np.testing.assert_array_equal(whole[4], np.trunc(wide * i))
        assert not found.findings


class TestNewtonKernels:
    """Against exact sparse solves; 16, 32 and 64 cells wide they have 1, 2 and 8 warps, `blocked` always 8."""

    @pytest.mark.parametrize(
        ("kernel", "m", "n", "kind", "double"),
        [
            ("resident", 12, 9, "ohmic", False),
            ("resident", 12, 9, "table", True),
            ("resident", 18, 7, "sinh", False),
            ("resident", 18, 7, "polynomial", True),
            ("blocked", 20, 9, "ohmic", True),
            ("blocked", 20, 9, "sinh", True),
            ("blocked", 20, 9, "polynomial", False),
            ("blocked", 20, 9, "table", False),
        ],
    )
    def test_without_a_fault_and_right(self, call: Call, kernel: str, m: int, n: int, kind: str, double: bool) -> None:
        vectors = 3 if kernel == "blocked" else 2  # more vectors than programs, which use their scratch space again
        found, error = call(ptx_cases.array, kernel, kind, m, n, double=double, vectors=vectors)
        assert not found.findings
        assert found.unwritten == 0
        assert error <= (DOUBLE if double else SINGLE)

    @pytest.mark.slow
    @pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
    @pytest.mark.parametrize("kind", ["ohmic", "sinh", "polynomial", "table"])
    @pytest.mark.parametrize(
        ("kernel", "m", "n"),
        [
            ("resident", 12, 9),
            ("resident", 18, 7),
            ("resident", 50, 61),
            ("resident", 64, 64),
            ("blocked", 20, 9),
            ("blocked", 70, 45),
            ("blocked", 128, 128),
        ],
    )
    def test_all_kinds_and_larger_ones(self, call: Call, kernel: str, m: int, n: int, kind: str, double: bool) -> None:
        self.test_without_a_fault_and_right(call, kernel, m, n, kind, double)

    @pytest.mark.parametrize("kernel", ["resident", "blocked"])
    def test_the_order_of_warps_does_not_matter(self, call: Call, kernel: str) -> None:
        """Every warp as far as it goes before the next, from the last: the same, bit for bit."""
        together, _ = call(ptx_cases.array, kernel, "sinh", 18, 7, double=False)
        backwards, _ = call(ptx_cases.array, kernel, "sinh", 18, 7, double=False, schedule="backwards")
        for name, a in together.results.items():
            assert torch.equal(a, backwards.results[name])
        assert not backwards.findings


class TestFaultsPutIn:
    """That the machine would have found faults in these kernels."""

    @pytest.mark.parametrize("which", [5, 10, -1])
    def test_a_barrier_left_out(self, call: Call, which: int) -> None:
        self.race(call, "blocked", 20, 9, ("barrier", which))

    @pytest.mark.slow
    @pytest.mark.parametrize(("kernel", "m", "n"), [("resident", 18, 7), ("blocked", 20, 9)])
    def test_any_barrier_left_out(self, call: Call, kernel: str, m: int, n: int) -> None:
        """Each of the compiler's barriers is needed, and missed."""
        for which in range(call(ptx_cases.barrier_count, kernel, m, n)):
            self.race(call, kernel, m, n, ("barrier", which))

    def test_one_scratch_space_in_the_other(self, call: Call) -> None:
        self.race(call, "blocked", 20, 9, ("alias", ("outer", "inner")), double=True)

    def race(self, call: Call, kernel: str, m: int, n: int, fault: Any, *, double: bool = False) -> None:
        found, _ = call(ptx_cases.array, kernel, "sinh", m, n, double=double, vectors=3, fault=fault, check=False)
        assert any(text.startswith("racecheck") for text in found.findings), fault

    def test_a_pointer_moved(self, call: Call) -> None:
        for argument in ("g", "v_wl", "i_out"):
            fault = "shift", (argument, 8)
            found, _ = call(ptx_cases.array, "resident", "sinh", 12, 9, double=False, fault=fault, check=False)
            assert any(text.startswith("memcheck") and argument in text for text in found.findings)

    def test_memory_that_nobody_has_written(self, call: Call) -> None:
        for argument in ("g", "b"):
            fault = "forget", argument
            found, _ = call(ptx_cases.array, "resident", "sinh", 12, 9, double=False, fault=fault, check=False)
            assert any(
                text.startswith(f"initcheck: read of what nobody has written in {argument}") for text in found.findings
            )


class TestFusedProduct:
    FEW = 4e-3  # share of partial sums that lie so near the edge of a step that rounding decides

    @pytest.mark.parametrize(
        "name",
        ["windows", "noise", "noise, few vectors", "noise, digits", "table", "pulses", "wide", "offset", "analog"],
    )
    def test_without_a_fault_and_right(self, call: Call, name: str) -> None:
        found, result, expected = call(ptx_cases.product, name)
        assert not found.findings
        assert found.unwritten == 0
        off = (result - expected).abs() > 1e-5 * expected.abs().max()
        assert off.double().mean() <= self.FEW
        assert (result - expected).abs().max() < 0.1 * expected.abs().max()
