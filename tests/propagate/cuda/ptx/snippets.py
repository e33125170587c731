"""Small kernels for tests: a few instructions around which everything else is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.propagate.cuda.ptx.arithmetic import Values
from tests.propagate.cuda.ptx.machine import Machine
from tests.propagate.cuda.ptx.memory import Memory

_SHORT = {"i1": "s8", "u1": "u8", "i2": "u16", "u2": "u16", "i4": "u32", "u4": "u32", "i8": "u64", "f4": "f32"}
_PREFIX = {"i2": "%rs", "u2": "%rs", "i4": "%r", "u4": "%r", "i8": "%rd", "f4": "%f"}

FRAME = """.version 6.4
.target sm_50
.address_size 64
.visible .entry snippet(
{parameters}
)
{{
	.reg .pred 	%p<10>;
	.reg .b16 	%rs<30>;
	.reg .b32 	%r<30>;
	.reg .f32 	%f<30>;
	.reg .b64 	%rd<60>;

{body}
	ret;
}}
"""


def module(body: str, arrays: int) -> str:
    """Return a kernel with the addresses of its arrays in %rd0, %rd1, … and the number of the thread in %r0."""
    parameters = ",\n".join(f"\t.param .u64 p{number}" for number in range(arrays))
    begin = [f"\tld.param.u64 \t%rd{number}, [p{number}];" for number in range(arrays)] + ["\tmov.u32 \t%r0, %tid.x;"]
    return FRAME.format(parameters=parameters, body="\n".join([*begin, body]))


def launch(
    body: str, *arrays: Values, threads: int = 1, block: tuple[int, int] | None = None, grid: tuple[int, int] = (1, 1)
) -> Machine:
    """Run instructions with arrays in memory; return the machine that did."""
    machine = Machine(module(body, len(arrays)), most_steps=1000)
    memory = Memory((array.ctypes.data, array.nbytes) for array in arrays)
    addresses = [np.int64(array.ctypes.data) for array in arrays]
    machine.launch("snippet", grid, block or (threads, 1), addresses, memory)
    return machine


def evaluate(body: str, result: Any, *given: Values) -> Values:
    """Return what instructions make of their sources, one element a thread.

    Sources are in the registers from 10 on: %r10, %rs11, %f12 or so, by type. The result, of type `result`, is expected
    in the register 20 of its own kind.
    """
    made = np.zeros(len(given[0]), result)
    lines = [_move("ld", array, number, f"{_register(array)}{10 + number}") for number, array in enumerate(given)]
    end = _move("st", made, len(given), f"{_register(made)}20")
    launch("\n".join([*lines, body, end]), *given, made, threads=len(made))
    return made


def _register(array: Values) -> str:
    return _PREFIX[array.dtype.str[1:]]


def _move(what: str, array: Values, number: int, register: str) -> str:
    """Load or store the thread's element of an array."""
    place, address = f"%rd{30 + number}", f"%rd{40 + number}"
    operands = f"{register}, [{address}]" if what == "ld" else f"[{address}], {register}"
    return (
        f"mul.wide.u32 {place}, %r0, {array.itemsize};\nadd.s64 {address}, %rd{number}, {place};\n"
        f"{what}.global.{_SHORT[array.dtype.str[1:]]} {operands};"
    )
