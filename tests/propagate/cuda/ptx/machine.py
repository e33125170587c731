"""A launch of a kernel: all threads at once, where they stand at the same place.

Each thread has a place of its own, a block of instructions. The threads at the lowest place run it, and the others
wait, so that those which went different ways meet again where these join. Nothing else orders them, as on a GPU;
`races` looks afterwards whether something should have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.propagate.cuda.ptx.arithmetic import TYPES, Values
from tests.propagate.cuda.ptx.errors import EndlessError, NotUnderstoodError, PtxError
from tests.propagate.cuda.ptx.memory import Memory
from tests.propagate.cuda.ptx.races import find_race
from tests.propagate.cuda.ptx.steps import SPECIAL, Step, Wave, compile_step
from tests.propagate.cuda.ptx.text import Instruction, Kernel, parse


@dataclass
class _Block:
    """Instructions without a branch between them.

    Attributes:
        line: of the first.
        steps: what they do.
        kept_in, kept_out: the registers that come from other blocks, and those that others may read.
        guard: what the branch at the end depends on: a predicate or nothing; `unless` reverses it.
        to: the block that the branch leads to.
    """

    line: int
    steps: list[Step]
    guard: str
    unless: bool
    to: int
    kept_in: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()


class Machine:
    """The kernels of a module, ready to run.

    Attributes:
        ran: how often each block ran, by kernel and the line of its first instruction.

    Raises:
        NotUnderstoodError: the text is not known.
    """

    def __init__(self, text: str, most_steps: int = 1_000_000) -> None:
        self._most_steps = most_steps
        self.kernels = parse(text)
        self._blocks = {name: _compile(kernel) for name, kernel in self.kernels.items()}
        self.ran = Counter({(name, block.line): 0 for name, blocks in self._blocks.items() for block in blocks})

    def launch(
        self, name: str, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any], memory: Memory
    ) -> None:
        """Run a kernel to its end. The arguments are numpy scalars of its parameters' types.

        Raises:
            PtxError: of any kind.
        """
        try:
            kept = {register for each in self._blocks[name] for register in (*each.kept_in, *each.kept_out)}
            with np.errstate(all="ignore"):
                self._run(name, _registers(self.kernels[name], kept, grid, block, arguments), memory)
            race = find_race(memory)
        except PtxError as error:
            raise type(error)(f"{name}: {error}") from None
        if race:
            raise PtxError(f"{name}: {race}")

    def _run(self, name: str, registers: dict[str, Values], memory: Memory) -> None:
        blocks = self._blocks[name]
        place = np.zeros(len(registers["%tid.x"]), np.int64)
        for _ in range(self._most_steps):
            lowest = int(place.min())
            if lowest == len(blocks):
                return
            self.ran[name, blocks[lowest].line] += 1
            threads = np.flatnonzero(place == lowest)
            place[threads] = _go(blocks[lowest], lowest, threads, registers, memory)
        raise EndlessError(f"more than {self._most_steps} blocks without an end")


def _go(block: _Block, number: int, threads: Values, registers: dict[str, Values], memory: Memory) -> Values | int:
    """Run a block for some threads; return where each goes."""
    wave = Wave(threads, memory, {name: registers[name][threads] for name in block.kept_in})
    for step in block.steps:
        step.run(wave)
    for name in block.kept_out:
        registers[name][threads] = wave.values[name]
    if not block.guard:
        return block.to
    return np.where(wave.values[block.guard] != block.unless, block.to, number + 1)


def _registers(
    kernel: Kernel, kept: set[str], grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any]
) -> dict[str, Values]:
    """What each thread begins with: its place, the parameters, and rubbish in all other registers."""
    rng, number = np.random.default_rng(0), np.arange(grid[0] * grid[1] * block[0] * block[1], dtype=np.int32)
    group, thread = number // (block[0] * block[1]), number % (block[0] * block[1])
    places = (thread % block[0], thread // block[0], group % grid[0], group // grid[0])
    given = (*places, np.full_like(number, block[0]), np.full_like(number, block[1]))
    values = dict(zip(SPECIAL, given, strict=True))
    for name, value in zip(kernel.parameters, arguments, strict=True):
        values[f"[{name}]"] = np.full(len(number), value)
    for name in sorted(kept - set(values)):
        dtype = TYPES[kernel.type_of(name) or ""]
        rubbish = rng.integers(0, 2 if dtype.kind == "b" else 256, dtype.itemsize * len(number), np.uint8)
        values[name] = rubbish.view(dtype)
    return values


def _compile(kernel: Kernel) -> list[_Block]:
    blocks = [_compile_block(kernel, number) for number in range(len(kernel.blocks)) if kernel.blocks[number]]
    used = Counter(name for block in blocks for name in _touched(block))
    for block in blocks:
        first_read = _read_first(block)
        block.kept_in = tuple(sorted(first_read))
        block.kept_out = tuple(sorted(name for name in _written(block) if used[name] > 1 or name in first_read))
    return blocks


def _compile_block(kernel: Kernel, number: int) -> _Block:
    instructions = kernel.blocks[number]
    last = instructions[-1]
    branches = last.opcode in ("bra", "bra.uni", "ret")
    steps = [compile_step(kernel, each) for each in (instructions[:-1] if branches else instructions)]
    guard = last.guard.lstrip("!") if branches else ""
    if guard and kernel.type_of(guard) != "pred":
        raise NotUnderstoodError(last.line, f"{guard} is no predicate")
    to = _destination(kernel, last) if branches else number + 1
    return _Block(instructions[0].line, steps, guard, last.guard.startswith("!"), to)


def _destination(kernel: Kernel, branch: Instruction) -> int:
    if branch.opcode == "ret":
        return sum(map(bool, kernel.blocks))
    if len(branch.operands) != 1 or branch.operands[0] not in kernel.labels:
        raise NotUnderstoodError(branch.line, f"{branch.operands} is no label of {kernel.name}")
    return kernel.labels[str(branch.operands[0])]


def _written(block: _Block) -> set[str]:
    return {name for step in block.steps for name in step.writes}


def _touched(block: _Block) -> set[str]:
    return _written(block) | {name for step in block.steps for name in step.reads} | ({block.guard} - {""})


def _read_first(block: _Block) -> set[str]:
    """The registers that a block reads before it writes them."""
    first: set[str] = set()
    written: set[str] = set()
    for step in block.steps:
        first |= set(step.reads) - written
        written |= set(step.writes)
    return first | ({block.guard} - written - {""})
