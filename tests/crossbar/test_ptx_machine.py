"""The PTX machine: arithmetic, parting threads, and that it finds each kind of fault, on PTX written by hand."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import ptx_arithmetic as arithmetic
import pytest
from ptx_code import Unsupported
from ptx_counts import bound
from ptx_machine import Machine, Report
from ptx_memory import Buffer, Findings
from ptx_text import literal, parsed, without

OUT = 1 << 40
HEAD = """
.version 8.0
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry k(
    .param .u64 .ptr .global .align 1 k_param_0,
    .param .u32 k_param_1
)
.reqntid {threads}
{{
    .reg .pred %p<9>;
    .reg .b32 %r<40>;
    .reg .b64 %rd<20>;
    ld.param.b64 %rd1, [k_param_0];
    ld.param.b32 %r1, [k_param_1];
    mov.u32 %r2, %tid.x;
    shl.b32 %r3, %r2, 2;            // 4 tid
    mov.b32 %r4, global_smem;
    add.s32 %r5, %r4, %r3;          // own word of shared memory
    add.s32 %r6, %r2, 1;
    rem.u32 %r6, %r6, %r1;
    shl.b32 %r6, %r6, 2;
    add.s32 %r6, %r6, %r4;          // the next thread's
    cvt.u64.u32 %rd2, %r3;
    add.s64 %rd3, %rd1, %rd2;       // own word of the result
{body}
    ret;
}}
"""
OWN = "st.shared.b32 [%r5], %r2;\n"
NEXT = "ld.shared.b32 %r7, [%r6];\nst.global.b32 [%rd3], %r7;\n"


def run(
    body: str,
    *,
    threads: int = 64,
    words: int = 64,
    grid: int = 1,
    written: bool = False,
    edit: Any = None,
    **options: Any,
) -> tuple[np.ndarray, Report, Machine]:
    """The result [words] of threads that were each given the number of threads."""
    kernel = parsed(HEAD.format(threads=threads, body=body))
    kernel = edit(kernel) if edit else kernel
    data = np.zeros(4 * words, np.uint8)
    buffer = Buffer("out", OUT, data, 4, written=written)
    machine = Machine(kernel, (grid,), [OUT, threads], [buffer], 4096, **options)
    return data.view(np.uint32), machine.run(), machine


def kinds(report: Report) -> set[str]:
    return {f.kind for f in report.findings}


class TestArithmetic:
    RNG = np.random.default_rng(0)

    def test_products_and_sums_are_rounded_once_in_float32(self) -> None:
        """Against exact fractions, with sums that all but cancel and ones half way between two numbers."""
        a, b = self.RNG.normal(size=(2, 2000)).astype(np.float32)
        c = np.where(self.RNG.random(2000) < 0.5, -(a * b), self.RNG.normal(size=2000)).astype(np.float32)
        half = np.array([[1 + 2**-12, 1 + 2**-12, 2**-60], [1 + 2**-12, 1 + 2**-12, -(2**-60)]], np.float32)
        a, b, c = (np.append(x, y) for x, y in zip((a, b, c), half.T, strict=True))
        found = arithmetic.fma32(a, b, c)
        for k in range(len(a)):
            exact = Fraction(float(a[k])) * Fraction(float(b[k])) + Fraction(float(c[k]))
            near = [found[k], np.nextafter(found[k], np.float32(9)), np.nextafter(found[k], np.float32(-9))]
            assert abs(Fraction(float(found[k])) - exact) == min(abs(Fraction(float(x)) - exact) for x in near)

    def test_products_and_sums_are_rounded_once_in_float64(self) -> None:
        a, b = self.RNG.normal(size=(2, 1000))
        c = np.where(self.RNG.random(1000) < 0.5, -(a * b), self.RNG.normal(size=1000))
        found = arithmetic.fma64(a, b, c)
        for k in range(len(a)):
            exact = Fraction(a[k]) * Fraction(b[k]) + Fraction(c[k])
            assert abs(Fraction(found[k]) - exact) <= Fraction(math.ulp(found[k])) * Fraction(50001, 100000)

    def test_integers_divide_towards_zero(self) -> None:
        a, b = np.array([7, -7, 7, -7, 5], np.int32), np.array([2, 2, -2, -2, 0], np.int32)
        assert arithmetic.divided(a, b).tolist() == [3, -3, -3, 3, -1]
        assert arithmetic.remainder(a, b)[:4].tolist() == [1, -1, 1, -1]

    def test_floats_become_integers_as_hardware_does(self) -> None:
        a = np.array([2.7, -2.7, 2.5, 3.5, np.nan, 1e20, -1e20])
        ends = [2147483647, -2147483648]
        assert arithmetic.whole(a, "rzi", np.int32).tolist() == [2, -2, 2, 3, 0, *ends]
        assert arithmetic.whole(a, "rni", np.int32).tolist() == [3, -3, 2, 4, 0, *ends]

    def test_bits(self) -> None:
        u = np.uint32
        a, b = np.array([0x12345678], u), np.array([0x9ABCDEF0], u)
        assert arithmetic.permuted(a, b, np.array([0x7531], u))[0] == 0x9ADE1256
        assert arithmetic.field_of(a, np.array([8], u), np.array([8], u))[0] == 0x56
        assert arithmetic.field_of(b.view(np.int32), np.array([24], u), np.array([8], u))[0] == 0xFFFFFF9A
        assert arithmetic.inserted(np.array([0xFF], u), a, np.array([4], u), np.array([8], u))[0] == 0x12345FF8
        assert arithmetic.lop3(a, b, np.array([0xFFFF0000], u), 0xCA)[0] == (a & b | ~a & 0xFFFF0000)[0]
        assert arithmetic.funnel(a, b, np.array([8], u), True, True)[0] == 0xBCDEF012
        assert arithmetic.tf32(np.array([1 + 2**-11, 1 + 2**-12], np.float32).view(u)).view(np.float32).tolist() == [
            1 + 2**-10,
            1,
        ]

    def test_numbers_in_the_text(self) -> None:
        assert literal("0f3FC00000") == 1.5
        assert literal("0d3FF8000000000000") == 1.5
        assert literal("-0x10") == -16
        assert literal("%r1") is None


class TestThreads:
    def test_those_that_part_meet_again(self) -> None:
        """Every thread adds up what is below it, in a loop of its own length; odd ones double it."""
        body = """
            mov.b32 %r10, 0;
            mov.b32 %r11, 0;
        $LOOP:
            setp.ge.u32 %p1, %r10, %r2;
            @%p1 bra $DONE;
            add.s32 %r11, %r11, %r10;
            add.s32 %r10, %r10, 1;
            bra.uni $LOOP;
        $DONE:
            and.b32 %r12, %r2, 1;
            setp.eq.b32 %p2, %r12, 0;
            @%p2 bra $EVEN;
            shl.b32 %r11, %r11, 1;
        $EVEN:
            shfl.sync.bfly.b32 %r13, %r11, 1, 31, -1;
            st.global.b32 [%rd3], %r13;
        """
        out, report, _ = run(body)
        k = np.arange(64) ^ 1
        assert out.tolist() == (k * (k - 1) // 2 * (1 + k % 2)).tolist()
        assert not report.findings

    @pytest.mark.parametrize("schedule", ["together", "forwards", "backwards"])
    def test_barriers_order_what_threads_see(self, schedule: str) -> None:
        out, report, _ = run(OWN + "bar.sync 0;\n" + NEXT, schedule=schedule)
        assert out.tolist() == ((np.arange(64) + 1) % 64).tolist()
        assert not report.findings

    def test_without_a_barrier_the_order_of_warps_shows(self) -> None:
        """What no barrier orders comes out differently, so the schedules are not the same."""
        out, _, _ = run(OWN + NEXT, schedule="forwards")
        assert out[31] != 32

    @pytest.mark.parametrize(
        ("mode", "by", "clamp", "source"),
        [
            ("up", 3, 0, lambda k: k - 3 if k >= 3 else k),
            ("down", 3, 31, lambda k: k + 3 if k < 29 else k),
            ("bfly", 5, 31, lambda k: k ^ 5),
            ("idx", 7, 31, lambda k: 7),
            ("up", 1, 0x1800, lambda k: k - 1 if k % 8 else k),  # segments of eight
        ],
    )
    def test_shuffles(self, mode: str, by: int, clamp: int, source: Any) -> None:
        out, report, _ = run(f"shfl.sync.{mode}.b32 %r7, %r2, {by}, {clamp}, -1;\nst.global.b32 [%rd3], %r7;")
        assert out.tolist() == [source(k % 32) + k // 32 * 32 for k in range(64)]
        assert not report.findings

    @pytest.mark.parametrize(("how", "answer"), [("add", 496), ("max", 31), ("min", 0), ("or", 31)])
    def test_one_number_of_a_warp(self, how: str, answer: int) -> None:
        out = run(f"redux.sync.{how}.s32 %r7, %r2, -1;\nst.global.b32 [%rd3], %r7;", threads=32)[0]
        assert (out[:32] == answer).all()

    def test_two_half_floats_at_once(self) -> None:
        """1.5 and 2 with 0.25 and -3: their sums, and products plus the first."""
        one, two = 0x40003E00, 0xC2003400
        body = f"""
            mov.b32 %r10, {one};
            mov.b32 %r11, {two};
            add.f16x2 %r12, %r10, %r11;
            fma.rn.f16x2 %r13, %r10, %r11, %r10;
            setp.eq.u32 %p1, %r2, 0;
            selp.b32 %r14, %r12, %r13, %p1;
            st.global.b32 [%rd3], %r14;
        """
        out = run(body)[0]
        assert out[:2].view(np.float16).tolist() == [1.75, -1.0, 1.875, -4.0]

    def test_an_instruction_that_it_does_not_know_is_named(self) -> None:
        with pytest.raises(Unsupported, match=r"'sad\.u32'"):
            run("sad.u32 %r7, %r2, %r2, %r2;")


class TestFaults:
    def test_out_of_bounds(self) -> None:
        _, report, _ = run("st.global.b32 [%rd3+4], %r2;")
        assert kinds(report) == {"memcheck"}
        assert "byte 256 of out, which has 256" in str(report.findings[0])
        assert not run("st.global.b32 [%rd3], %r2;")[1].findings

    def test_not_aligned(self) -> None:
        assert kinds(run("st.global.v2.b32 [%rd3], {%r2, %r2};", words=80)[1]) == {"memcheck"}

    def test_read_of_what_nobody_has_written(self) -> None:
        assert kinds(run("ld.global.b32 %r7, [%rd3];")[1]) == {"initcheck"}
        assert not run("ld.global.b32 %r7, [%rd3];", written=True)[1].findings
        assert kinds(run("ld.shared.b32 %r7, [%r5];")[1]) == {"initcheck"}
        assert not run(OWN + "ld.shared.b32 %r7, [%r5];")[1].findings

    def test_race_in_shared_memory(self) -> None:
        whole = OWN + "bar.sync 0;\n" + NEXT
        assert not run(whole)[1].findings
        _, report, _ = run(whole, edit=lambda kernel: without(kernel, "bar.sync", 0))
        assert kinds(report) == {"racecheck"}

    def test_race_when_shared_memory_is_written_again(self) -> None:
        again = OWN + "bar.sync 0;\n" + NEXT + "{}st.shared.b32 [%r5], %r1;\n"
        assert not run(again.format("bar.sync 0;\n"))[1].findings
        assert kinds(run(again.format(""))[1]) == {"racecheck"}

    def test_race_between_two_writes(self) -> None:
        assert kinds(run("st.shared.b32 [%r4], %r2;")[1]) == {"racecheck"}
        assert not run("st.shared.b32 [%r4], %r1;")[1].findings  # the same value

    def test_race_in_global_memory(self) -> None:
        around = """
            st.global.b32 [%rd3], %r2;
            {}
            xor.b32 %r8, %r3, 128;
            cvt.u64.u32 %rd4, %r8;
            add.s64 %rd5, %rd1, %rd4;
            ld.global.b32 %r9, [%rd5];
        """
        assert not run(around.format("bar.sync 0;"))[1].findings
        assert kinds(run(around.format(""))[1]) == {"racecheck"}

    def test_a_barrier_of_warps_orders_a_warp_only(self) -> None:
        body = OWN + "bar.warp.sync -1;\n" + NEXT
        assert not run(body, threads=32)[1].findings
        assert kinds(run(body)[1]) == {"racecheck"}  # thread 31 reads what the other warp writes
        assert kinds(run(OWN + NEXT, threads=32)[1]) == {"racecheck"}  # going in step orders nothing

    def test_two_programs_at_one_address(self) -> None:
        assert kinds(run("st.global.b32 [%rd3], %r2;", grid=2)[1]) == {"racecheck"}
        assert not run("ld.global.b32 %r7, [%rd3];", grid=2, written=True)[1].findings

    def test_shuffle_without_all_threads(self) -> None:
        body = """
            setp.gt.u32 %p1, %r2, 7;
            @%p1 bra $END;
            shfl.sync.bfly.b32 %r7, %r2, 1, 31, {};
        $END:
        """
        assert kinds(run(body.format(-1))[1]) == {"sync"}
        assert not run(body.format("0xff"), threads=32)[1].findings

    def test_barrier_for_some_threads(self) -> None:
        body = "setp.gt.u32 %p1, %r2, 7;\n@%p1 bra $END;\nbar.sync 0;\n$END:\n"
        assert kinds(run(body)[1]) == {"sync"}

    def test_branches_on_numbers_that_are_not_the_same(self) -> None:
        body = "cvt.rn.f32.u32 %r7, {};\nsetp.gt.f32 %p1, %r7, 0f00000000;\n@%p1 bra $END;\nbar.warp.sync -1;\n$END:\n"
        assert not run(body.format("%r1"))[1].findings
        assert "sync" in kinds(run(body.format("%r6"))[1])

    def test_a_copy_that_is_not_waited_for(self) -> None:
        body = "cp.async.ca.shared.global [%r5], [%rd3], 0x4, %r30;\ncp.async.commit_group;\n{}\nbar.sync 0;\n" + NEXT
        source = "mov.b32 %r30, 4;\n"
        _, report, _ = run(source + body.format("cp.async.wait_group 0;"), written=True)
        assert not report.findings
        assert "racecheck" in kinds(run(source + body.format(""), written=True)[1])
        assert kinds(run("mov.b32 %r30, 4;\n" + body.format("cp.async.wait_group 0;"))[1]) == {"initcheck"}

    def test_findings_are_told_once_for_a_place(self) -> None:
        findings = Findings()
        for k in range(3):
            findings.add("memcheck", "read", "here", f" {k}")
        assert [str(f) for f in findings] == ["memcheck: read 0 at here"]


class TestCounts:
    def test_what_a_loop_executes(self) -> None:
        """Ten turns of two warps, each with two fused products and a shuffle."""
        body = """
            mov.b32 %r10, 0;
            cvt.rn.f32.u32 %r20, %r2;
        $LOOP:
            fma.rn.f32 %r20, %r20, %r20, %r20;
            fma.rn.f32 %r20, %r20, %r20, %r20;
            shfl.sync.bfly.b32 %r21, %r20, 1, 31, -1;
            add.s32 %r10, %r10, 1;
            setp.lt.u32 %p1, %r10, 10;
            @%p1 bra $LOOP;
        """
        _, report, _ = run(body)
        assert report.counts["fp32"] == 2 * 10 * 2
        assert report.counts["shuffle"] == 10 * 2
        assert report.counts["branch"] == 10 * 2
        assert bound(report.counts, 1).cycles["shuffle"] == 20
        assert bound(report.counts, 1).cycles["fp32"] == 10

    def test_sectors_and_passes_over_banks(self) -> None:
        """A warp's 32 neighbouring words are four sectors and one pass; words 128 bytes apart are in one bank."""
        _, report, _ = run("st.global.b32 [%rd3], %r2;" + OWN, counting=True)
        assert report.counts["global bytes written"] == 256
        assert report.counts["global sectors written"] == 8
        assert report.counts["shared passes"] == 2
        far = "shl.b32 %r8, %r2, 7;\nadd.s32 %r8, %r8, %r4;\nst.shared.b32 [%r8], %r2;"
        _, report, _ = run(far, threads=32, counting=True)
        assert report.counts["shared passes"] == 32
