"""An instruction as a function that runs it for all threads of a wave.

Operands have the size of the instruction's type, and registers hold bits (PTX ISA 6.4, "Type Information for
Instructions and Operands"); ld, st and cvt alone take registers that are wider ("Operand Size Exceeding
Instruction-Type Size").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tests.propagate.cuda.ptx.arithmetic import TYPES, Operation, Values, find_conversion, find_operation
from tests.propagate.cuda.ptx.errors import NotUnderstoodError
from tests.propagate.cuda.ptx.memory import Memory, Site
from tests.propagate.cuda.ptx.text import Instruction, Kernel

SPECIAL = tuple(f"%{name}.{axis}" for name in ("tid", "ctaid", "ntid") for axis in "xy")
_GLOBAL = re.compile(r"(ld|st|atom)\.global(\.nc|\.add)?(?:\.v([24]))?\.([a-z]\d+)")
_ADDRESS = re.compile(r"\[(%rd\d+)(?:\+(-?\d+))?\]")
_INTEGER = re.compile(r"-?\d+")
_FLOAT = re.compile(r"0f([0-9A-F]{8})")


@dataclass
class Wave:
    """Threads that stand at the same block.

    Attributes:
        threads: their numbers.
        values: what they have in their registers, by name.
        memory: of the launch.
    """

    threads: Values
    memory: Memory
    values: dict[str, Values] = field(default_factory=dict)


class Step(NamedTuple):
    """What an instruction does, and the registers that it reads and writes."""

    run: Callable[[Wave], None]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class _Source(NamedTuple):
    """An operand: a register, or a value; `convert` makes it one of the instruction's type."""

    name: str
    value: Values | None
    convert: Callable[[Values], Values] | None

    def of(self, wave: Wave) -> Values:
        value = self.value if self.value is not None else wave.values[self.name]
        return value if self.convert is None else self.convert(value)


def compile_step(kernel: Kernel, instruction: Instruction) -> Step:
    """Return an instruction other than a branch.

    Raises:
        NotUnderstoodError: it is not known, or its operands are not its.
    """
    if instruction.guard:
        raise NotUnderstoodError(instruction.line, "only branches may depend on a predicate here")
    return _Compiler(kernel, instruction).step()


class _Compiler:
    """Of one instruction."""

    def __init__(self, kernel: Kernel, instruction: Instruction) -> None:
        self._kernel, self._instruction = kernel, instruction
        self._opcode, self._operands = instruction.opcode, instruction.operands

    def step(self) -> Step:
        if match := _GLOBAL.fullmatch(self._opcode):
            return self._memory(match)
        if self._opcode.startswith("ld.param."):
            return self._parameter(self._opcode.rpartition(".")[2])
        loose = self._opcode.startswith("cvt.")
        operation = find_conversion(self._opcode) if loose else find_operation(self._opcode)
        if operation is None:
            raise self._error("the instruction is not known")
        return self._arithmetic(operation, loose)

    def _error(self, what: str) -> NotUnderstoodError:
        return NotUnderstoodError(self._instruction.line, f"{self._opcode}: {what}")

    def _arithmetic(self, operation: Operation, loose: bool) -> Step:
        target, *given = self._plain(1 + len(operation.sources))
        sources = [self._source(each, kind, loose) for each, kind in zip(given, operation.sources, strict=True)]
        put, function = self._target(target, operation.result, loose), operation.function
        if all(source.value is not None for source in sources):
            function = _repeated(function)
            sources.append(_Source("%tid.x", None, None))
        reads = tuple(source.name for source in sources if source.value is None)
        return Step(_call(function, sources, target, put), reads, (target,))

    def _parameter(self, kind: str) -> Step:
        target, place = self._plain(2)
        if self._kernel.parameters.get(place[1:-1]) != kind:
            raise self._error(f"the kernel has no parameter {place} of this type")
        put = self._target(target, kind, False)
        return Step(_call(lambda a: a, [_Source(place, None, None)], target, put), (place,), (target,))

    def _memory(self, match: re.Match[str]) -> Step:
        what, modifier, count, kind = match.groups()
        if kind not in TYPES or (modifier, what) not in ((None, "ld"), (".nc", "ld"), (None, "st"), (".add", "atom")):
            raise self._error("the instruction is not known")
        site = Site(self._instruction.line, self._opcode, TYPES[kind], int(count or 1))
        return {"ld": self._load, "st": self._store, "atom": self._atomic}[what](site, kind)

    def _load(self, site: Site, kind: str) -> Step:
        vector, place = self._count(2)
        targets = self._vector(vector, site.elements)
        puts, (base, offset) = [self._target(each, kind, True) for each in targets], self._address(place)

        def run(wave: Wave) -> None:
            elements = wave.memory.load(site, wave.values[base] + offset, wave.threads)
            for target, put, element in zip(targets, puts, elements, strict=True):
                wave.values[target] = put(element) if put else element

        return Step(run, (base,), targets)

    def _store(self, site: Site, kind: str) -> Step:
        place, vector = self._count(2)
        base, offset = self._address(place)
        sources = [self._source(each, kind, True) for each in self._vector(vector, site.elements)]
        reads = (base, *(source.name for source in sources if source.value is None))

        def run(wave: Wave) -> None:
            elements = [np.broadcast_to(source.of(wave), wave.threads.shape) for source in sources]
            wave.memory.store(site, wave.values[base] + offset, wave.threads, np.array(elements))

        return Step(run, reads, ())

    def _atomic(self, site: Site, kind: str) -> Step:
        target, place, amount = self._plain(3)
        if kind != "u32":
            raise self._error("the instruction is not known")
        (base, offset), source, put = self._address(place), self._source(amount, kind), self._target(target, kind)

        def run(wave: Wave) -> None:
            amounts = np.broadcast_to(source.of(wave), wave.threads.shape)
            before = wave.memory.add(site, wave.values[base] + offset, wave.threads, amounts)
            wave.values[target] = put(before) if put else before

        return Step(run, (base, *([source.name] if source.value is None else [])), (target,))

    def _count(self, count: int) -> tuple[Any, ...]:
        if len(self._operands) != count:
            raise self._error(f"takes {count} operands, not {len(self._operands)}")
        return self._operands

    def _plain(self, count: int) -> tuple[str, ...]:
        if any(isinstance(each, tuple) for each in self._count(count)):
            raise self._error("takes no vectors")
        return tuple(str(each) for each in self._operands)

    def _vector(self, operand: str | tuple[str, ...], count: int) -> tuple[str, ...]:
        parts = operand if isinstance(operand, tuple) else (operand,)
        if len(parts) != count or (count > 1) != isinstance(operand, tuple):
            raise self._error(f"takes a vector of {count}, not {operand}")
        return parts

    def _address(self, operand: str) -> tuple[str, int]:
        match = _ADDRESS.fullmatch(str(operand))
        if match is None or self._kernel.type_of(match[1]) != "b64":
            raise self._error(f"{operand} is no address")
        return match[1], int(match[2] or 0)

    def _source(self, operand: str, kind: str, loose: bool = False) -> _Source:
        if not operand.startswith("%"):
            return _Source("", self._immediate(operand, kind), None)
        held, wanted = self._held(operand, kind, loose), TYPES[kind]
        if held.itemsize > wanted.itemsize:  # a register that is wider: its lower bits
            return _Source(operand, None, lambda value: value.astype(wanted))
        return _Source(operand, None, None if held == wanted else lambda value: value.view(wanted))

    def _target(self, operand: str, kind: str, loose: bool = False) -> Callable[[Values], Values] | None:
        """What makes a result one that the register holds; None if it is one already."""
        if operand in SPECIAL:
            raise self._error(f"{operand} cannot be written")
        held, given = self._held(operand, kind, loose), TYPES[kind]
        if held.itemsize > given.itemsize:  # extended, by the sign where the type has one
            return lambda value: value.astype(held)
        return None if held == given else lambda value: value.view(held)

    def _held(self, register: str, kind: str, loose: bool) -> np.dtype[Any]:
        """The numpy type in which a register is kept."""
        declared = "b32" if register in SPECIAL else self._kernel.type_of(register)
        if declared is None:
            raise self._error(f"{register} is not declared")
        held, wanted = TYPES[declared], TYPES[kind]
        wide = loose and held.itemsize > wanted.itemsize and "f32" not in (declared, kind)
        same = held.itemsize == wanted.itemsize and (kind == "pred") == (declared == "pred")
        if not (wide or same) or (declared == "f32" and kind[0] not in "fb"):
            raise self._error(f"{register} holds no {kind}")
        return held

    def _immediate(self, text: str, kind: str) -> Values:
        """A constant, as an array of no dimension."""
        dtype = TYPES[kind]
        if kind == "f32" and (match := _FLOAT.fullmatch(text)):
            return np.array(int(match[1], 16), np.uint32).view(dtype)
        if kind == "pred" and _INTEGER.fullmatch(text):
            return np.array(int(text) != 0)
        if kind in ("f32", "pred") or not _INTEGER.fullmatch(text):
            raise self._error(f"{text} is no {kind}")
        return np.array(int(text) % 2 ** (8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)


def _repeated(function: Callable[..., Values]) -> Callable[..., Values]:
    """A function of constants, its value once a thread."""
    return lambda *values: np.repeat(function(*values[:-1]), len(values[-1]))


def _call(
    function: Callable[..., Values], sources: list[_Source], target: str, put: Callable[[Values], Values] | None
) -> Callable[[Wave], None]:
    """values[target] = function(*sources): the quick forms for what needs no conversion."""
    names = [source.name for source in sources]
    if put is None and all(source.value is None and source.convert is None for source in sources):
        return _direct(function, names, target)

    def run(wave: Wave) -> None:
        result = function(*[source.of(wave) for source in sources])
        wave.values[target] = result if put is None else put(result)

    return run


def _direct(function: Callable[..., Values], names: list[str], target: str) -> Callable[[Wave], None]:
    def run(wave: Wave) -> None:
        values = wave.values
        values[target] = function(*[values[name] for name in names])

    return run
