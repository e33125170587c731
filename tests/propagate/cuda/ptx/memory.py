"""Global memory: what a launch was given and nothing else, read and written where the host has it.

An address that is no multiple of the access' size stops a launch on a GPU, and passes on a CPU; one outside a tensor
may or may not be noticed by either. This memory refuses both, and keeps a log for `races`.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tests.propagate.cuda.ptx.arithmetic import Values
from tests.propagate.cuda.ptx.errors import MisalignedError, WildAddressError

_WHOLE = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16"}  # a type of each size that numpy moves without a change
_LINE = 16  # bytes; no access is larger, so an aligned one crosses no multiple of it


class Site(NamedTuple):
    """An instruction that touches memory.

    Attributes:
        line: where it is in the text.
        opcode: with its modifiers.
        dtype: of an element.
        elements: of a vector, or 1.
    """

    line: int
    opcode: str
    dtype: np.dtype[Any]
    elements: int = 1

    @property
    def size(self) -> int:
        """Bytes of an access: vectors are aligned as a whole (PTX ISA 6.4, "Vectors" and "Addresses as Operands")."""
        return self.dtype.itemsize * self.elements

    def __str__(self) -> str:
        return f"line {self.line} ({self.opcode})"


class Access(NamedTuple):
    """What an instruction touched: `places` are offsets in bytes into an allocation, by thread."""

    site: Site
    allocation: int
    places: Values
    threads: Values
    written: Values | None = None


class Memory:
    """The memory of one launch.

    Args:
        allocations: (address, bytes) of each. Those that overlap count as one.
    """

    def __init__(self, allocations: Iterable[tuple[int, int]]) -> None:
        spans = _merged(allocations)
        self._starts, self._ends = [start for start, _ in spans], [end for _, end in spans]
        self._views = [_views(start, end) for start, end in spans]
        self.log: list[Access] = []

    def size(self, allocation: int) -> int:
        """Return the bytes of an allocation."""
        return self._ends[allocation] - self._starts[allocation]

    def load(self, site: Site, addresses: Values, threads: Values) -> Values:
        """Return (elements, threads) values."""
        whole = np.empty(len(addresses), _WHOLE[site.size])
        for part, allocation in self._parts(site, addresses):
            whole[part] = self._view(site, allocation)[self._indices(site, allocation, addresses[part])]
            self._note(site, allocation, addresses[part], threads[part])
        return np.ascontiguousarray(whole.view(site.dtype).reshape(-1, site.elements).T)

    def store(self, site: Site, addresses: Values, threads: Values, values: Values) -> None:
        """Write (elements, threads) values."""
        whole = np.ascontiguousarray(values.T).view(_WHOLE[site.size])[:, 0]
        for part, allocation in self._parts(site, addresses):
            self._view(site, allocation)[self._indices(site, allocation, addresses[part])] = whole[part]
            self._note(site, allocation, addresses[part], threads[part], whole[part])

    def add(self, site: Site, addresses: Values, threads: Values, values: Values) -> Values:
        """Add to integers one after another and return what was there before."""
        before = np.empty(len(addresses), site.dtype)
        for thread, address in enumerate(addresses):
            ((_, allocation),) = self._parts(site, addresses[thread : thread + 1])
            view, index = self._view(site, allocation).view(site.dtype), self._indices(site, allocation, address)
            before[thread] = view[index]
            view[index : index + 1] += values[thread]
            self._note(site, allocation, addresses[thread : thread + 1], threads[thread : thread + 1])
        return before

    def _parts(self, site: Site, addresses: Values) -> Iterator[tuple[Values | slice, int]]:
        """Yield which addresses lie in which allocation."""
        if wrong := int(np.bitwise_or.reduce(addresses)) & (site.size - 1):
            self._refuse_alignment(site, addresses, wrong)
        low, high = int(np.minimum.reduce(addresses)), int(np.maximum.reduce(addresses))
        first = self._owner(site, low)
        if high + site.size <= self._ends[first]:
            yield slice(None), first
            return
        owners = np.array([self._owner(site, int(address)) for address in addresses])
        for owner in sorted(set(owners.tolist())):
            yield owners == owner, owner

    def _owner(self, site: Site, address: int) -> int:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address + site.size > self._ends[index]:
            spans = ", ".join(f"{s:#x}-{e:#x}" for s, e in zip(self._starts, self._ends, strict=True))
            raise WildAddressError(f"{site}: {address:#x} lies outside of what the launch was given: {spans}")
        return index

    def _refuse_alignment(self, site: Site, addresses: Values, wrong: int) -> None:
        address = next(int(each) for each in addresses if int(each) & (site.size - 1))
        raise MisalignedError(f"{site}: {address:#x} is no multiple of {site.size}")

    def _view(self, site: Site, allocation: int) -> Values:
        return self._views[allocation][site.size]

    def _indices(self, site: Site, allocation: int, addresses: Values) -> Values:
        base = self._starts[allocation] // _LINE * _LINE
        return (addresses - base) >> (site.size.bit_length() - 1)

    def _note(
        self, site: Site, allocation: int, addresses: Values, threads: Values, written: Values | None = None
    ) -> None:
        self.log.append(Access(site, allocation, addresses - self._starts[allocation], threads, written))


def _merged(allocations: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) of the allocations, in order; those that share a byte as one."""
    merged: list[tuple[int, int]] = []
    for start, size in sorted(set(allocations)):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], start + size)
        elif size:
            merged.append((start, start + size))
    return merged


def _views(start: int, end: int) -> dict[int, Values]:
    """The host's memory as elements of each size. It begins and ends at a multiple of the largest."""
    base = start // _LINE * _LINE
    buffer = (ctypes.c_ubyte * (-(-end // _LINE) * _LINE - base)).from_address(base)
    return {size: np.ctypeslib.as_array(buffer).view(name) for size, name in _WHOLE.items()}
