"""The text of a module as kernels of basic blocks.

PTX is read as NVRTC writes it, one statement a line. Whatever is not known is an error that names its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.propagate.cuda.ptx.errors import NotUnderstoodError

_STATEMENT = re.compile(r"(?:@(?P<guard>!?%\w+)\s+)?(?P<opcode>[a-z][\w.]*)(?:\s+(?P<operands>.+?))?;")
_OPERAND = re.compile(r"\{([^{}]*)\}|(\[[^\[\]]*\])|([^\s,{}\[\]]+)")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(%[a-z]+)<(\d+)>;")
_PARAMETER = re.compile(r"\.param \.(\w+) (\w+),?")
_IGNORED = re.compile(r'\.version [\d.]+|\.target sm_\d+|\.address_size 64|\.pragma "nounroll";|[(){}]')


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: where it is in the text, from 1.
        opcode: with its modifiers, such as "ld.global.nc.v4.u32".
        operands: a vector, {a, b}, is a tuple; an address keeps its brackets.
        guard: the predicate that it depends on, "%p1" or "!%p1", or nothing.
    """

    line: int
    opcode: str
    operands: tuple[str | tuple[str, ...], ...]
    guard: str = ""


@dataclass
class Kernel:
    """An entry.

    Attributes:
        parameters: type by name, in order.
        registers: (type, how many) by prefix, such as "%rd".
        blocks: instructions that run one after another; only the last one of a block branches.
        labels: the block that begins at a label.
    """

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    registers: dict[str, tuple[str, int]] = field(default_factory=dict)
    blocks: list[list[Instruction]] = field(default_factory=lambda: [[]])
    labels: dict[str, int] = field(default_factory=dict)

    def add(self, instruction: Instruction) -> None:
        """Append an instruction; a branch ends its block."""
        self.blocks[-1].append(instruction)
        if instruction.opcode in ("bra", "bra.uni", "ret"):
            self.blocks.append([])

    def begin(self, label: str) -> None:
        """Begin a block at a label."""
        if self.blocks[-1]:
            self.blocks.append([])
        self.labels[label] = len(self.blocks) - 1

    def type_of(self, register: str) -> str | None:
        """Return the declared type of a register, None for what is none."""
        parts = re.fullmatch(r"(%[a-z]+)(\d+)", register)
        kind, count = self.registers.get(parts[1], ("", 0)) if parts else ("", 0)
        return kind if parts and int(parts[2]) < count else None


def parse(text: str) -> dict[str, Kernel]:
    """Return the kernels of a module by name.

    Raises:
        NotUnderstoodError: a line that is not known.
    """
    kernels: list[Kernel] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("//")[0].strip()
        if entry := re.fullmatch(r"\.visible \.entry (\w+)\(", words):
            kernels.append(Kernel(entry[1]))
        elif words and not _IGNORED.fullmatch(words) and not (kernels and _take(kernels[-1], number, words)):
            raise NotUnderstoodError(number, f"{words!r} is not understood")
    return {kernel.name: kernel for kernel in kernels}


def _take(kernel: Kernel, number: int, words: str) -> bool:
    """Add a line to a kernel, if it is one that belongs there."""
    if label := re.fullmatch(r"(\$\w+):", words):
        kernel.begin(label[1])
    elif registers := _REGISTERS.fullmatch(words):
        kernel.registers[registers[2]] = registers[1], int(registers[3])
    elif parameter := _PARAMETER.fullmatch(words):
        kernel.parameters[parameter[2]] = parameter[1]
    elif statement := _STATEMENT.fullmatch(words):
        operands = tuple(_operand(match) for match in _OPERAND.finditer(statement["operands"] or ""))
        kernel.add(Instruction(number, statement["opcode"], operands, statement["guard"] or ""))
    else:
        return False
    return True


def _operand(match: re.Match[str]) -> str | tuple[str, ...]:
    if match[1] is not None:
        return tuple(part.strip() for part in match[1].split(","))
    return match[2] or match[3]
