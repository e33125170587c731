"""Threads that part and meet again, and text that is not understood."""

from __future__ import annotations

import numpy as np
import pytest

from tests.propagate.cuda.ptx.errors import EndlessError, NotUnderstoodError
from tests.propagate.cuda.ptx.machine import Machine
from tests.propagate.cuda.ptx.snippets import evaluate, launch, module

LOOP = """
	mov.u32 	%r20, 0;
	mov.u32 	%r1, 0;
$L_HEAD:
	setp.ge.s32 	%p1, %r1, %r10;
	@%p1 bra 	$L_END;
	add.s32 	%r1, %r1, 1;
	and.b32 	%r2, %r1, 1;
	setp.eq.s32 	%p2, %r2, 0;
	@!%p2 bra 	$L_HEAD;
	add.s32 	%r20, %r20, %r1;
	bra.uni 	$L_HEAD;
$L_END:
	mul.lo.s32 	%r20, %r20, 10;
"""


def test_each_thread_takes_its_own_turns() -> None:
    """The sum of the even numbers up to the thread's own."""
    turns = np.array([0, 5, 1, 8, 2, 2, 40], np.int32)
    expected = [10 * sum(range(2, count + 1, 2)) for count in turns]
    assert evaluate(LOOP, np.int32, turns).tolist() == expected


def runs(machine: Machine) -> list[int]:
    return [count for _, count in sorted(machine.ran.items())]


def test_threads_that_parted_meet_again() -> None:
    """Both ways of a branch run once, and what comes after them once for all."""
    body = """
        setp.lt.s32 %p1, %r0, 3;
        @%p1 bra $L_LESS;
        mov.u32 %r1, 7;
        bra.uni $L_JOIN;
    $L_LESS:
        mov.u32 %r1, 5;
    $L_JOIN:
        mul.wide.u32 %rd2, %r0, 4;
        add.s64 %rd3, %rd0, %rd2;
        st.global.u32 [%rd3], %r1;
    """
    made = np.zeros(6, np.int32)
    machine = launch(body, made, threads=6)
    assert made.tolist() == [5, 5, 5, 7, 7, 7]
    assert runs(machine) == [1, 1, 1, 1]


def test_those_that_leave_a_loop_wait_for_the_others() -> None:
    body = """
        mov.u32 %r1, 0;
    $L_HEAD:
        add.s32 %r1, %r1, 1;
        setp.lt.s32 %p1, %r1, %r0;
        @%p1 bra $L_HEAD;
        mov.u32 %r2, 0;
    """
    assert runs(launch(body, threads=20)) == [1, 19, 1]


def test_a_register_begins_with_rubbish() -> None:
    made = evaluate("add.s32 %r20, %r25, %r10;", np.int32, np.zeros(50, np.int32))
    assert len(set(made.tolist())) > 40


def test_threads_know_their_place() -> None:
    body = """
        mov.u32 %r1, %ntid.x;
        mov.u32 %r2, %ctaid.x;
        mad.lo.s32 %r3, %r2, %r1, %r0;
        mov.u32 %r4, %ntid.y;
        mov.u32 %r5, %ctaid.y;
        mov.u32 %r6, %tid.y;
        mad.lo.s32 %r7, %r5, %r4, %r6;
        mad.lo.s32 %r8, %r7, 6, %r3;
        mul.wide.u32 %rd2, %r8, 4;
        add.s64 %rd3, %rd0, %rd2;
        mad.lo.s32 %r9, %r7, 100, %r3;
        st.global.u32 [%rd3], %r9;
    """
    made = np.zeros((12, 6), np.uint32)
    launch(body, made, block=(2, 4), grid=(3, 3))
    assert np.array_equal(made, np.add.outer(np.arange(12) * 100, np.arange(6)))


def test_what_does_not_end_is_stopped() -> None:
    with pytest.raises(EndlessError, match="1000"):
        launch("$L_HERE:\nbra.uni $L_HERE;")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("ex2.approx.f32 %f1, %f2;", r"ex2\.approx\.f32: the instruction is not known"),
        ("add.s24 %r1, %r2, %r3;", "not known"),
        ("shr.b32 %r1, %r2, %r3;", "not known"),
        ("cvt.f32.s32 %f1, %r1;", "not known"),  # without a rounding
        ("cvt.rn.s32.f32 %r1, %f1;", "not known"),
        ("ld.shared.u32 %r1, [%rd1];", "not known"),
        ("atom.global.add.f32 %f1, [%rd1], %f2;", "not known"),
        ("st.global.nc.u32 [%rd1], %r1;", "not known"),
        ("add.s32 %r1, %r2;", "takes 3 operands, not 2"),
        ("add.s32 %r1, %r2, %rd3;", "%rd3 holds no s32"),
        ("add.s32 %f1, %r2, %r3;", "%f1 holds no s32"),
        ("add.s64 %rd1, %r2, %rd3;", "%r2 holds no s64"),
        ("setp.lt.s32 %r1, %r2, %r3;", "%r1 holds no pred"),
        ("selp.b32 %r1, %r2, %r3, %r4;", "%r4 holds no pred"),
        ("mov.u32 %r30, 1;", "%r30 is not declared"),
        ("mov.u32 %tid.x, 1;", "cannot be written"),
        ("mov.u32 %r1, 0f3F800000;", "is no u32"),
        ("mov.f32 %f1, 1;", "is no f32"),
        ("ld.global.u32 %rs1, [%rd1];", "%rs1 holds no u32"),
        ("ld.global.v2.u32 {%r1, %r2, %r3}, [%rd1];", "a vector of 2"),
        ("ld.global.v2.u32 %r1, [%rd1];", "a vector of 2"),
        ("ld.global.u32 %r1, [%r2];", "is no address"),
        ("ld.param.u32 %r1, [p0];", "no parameter"),
        ("ld.param.u64 %rd1, [p7];", "no parameter"),
        ("@%p1 mov.u32 %r1, 1;", "only branches"),
        ("@%r1 bra $L_END;\n$L_END:", "no predicate"),
        ("bra $L_NOWHERE;", "no label"),
        ("what is this", "not understood"),
        ("mov.u32 %r1, 1", "not understood"),
        (".shared .align 4 .b8 cache[64];", "not understood"),
    ],
)
def test_what_is_not_understood_names_its_line(wrong: str, why: str) -> None:
    text = module(wrong, 1)
    line = text.splitlines().index(wrong.splitlines()[0]) + 1
    with pytest.raises(NotUnderstoodError, match=rf"^line {line}: .*{why}"):
        Machine(text)
