"""Whether the threads of a launch get in each other's way: then its result would depend on their order.

Without barriers there is no order between threads (PTX ISA 6.4, "Memory Consistency Model"), so within a launch

  * what one thread writes, no other may read, or write with another value;
  * what `ld.global.nc` reads, none may write at all: it takes memory for constant ("… Instructions: ld.global.nc");
  * atomics go together with atomics only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.propagate.cuda.ptx.arithmetic import Values
from tests.propagate.cuda.ptx.memory import Access, Memory

_NOBODY = np.iinfo(np.int64).max


def find_race(memory: Memory) -> str | None:
    """Return what is wrong with a launch that has ended, None if nothing is."""
    for allocation in sorted({access.allocation for access in memory.log if _writes(access)}):
        log = [access for access in memory.log if access.allocation == allocation]
        found = _Bytes(memory.size(allocation), log).conflict(log)
        if found:
            return found
    return None


def _writes(access: Access) -> bool:
    return access.written is not None or _is_atomic(access)


def _is_atomic(access: Access) -> bool:
    return access.site.opcode.startswith("atom.")


class _Bytes:
    """Who wrote each byte of an allocation: the first and the last thread by number, by stores and by atomics."""

    def __init__(self, size: int, log: Sequence[Access]) -> None:
        self._size = size
        stores, atomics = ([a for a in log if _writes(a) and _is_atomic(a) == kind] for kind in (False, True))
        self._stored, self._added = self._threads(stores), self._threads(atomics)
        self._values = self._written(stores)

    def conflict(self, log: Sequence[Access]) -> str | None:
        """Return the first access that another one gets in the way of."""
        for access in log:
            places, threads = _spread(access)
            wrong = self._wrong(access, places, threads)
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                return f"{access.site}: thread {threads[at]} shares byte {places[at]} with what is written meanwhile"
        return None

    def _wrong(self, access: Access, places: Values, threads: Values) -> Values:
        stored, added = (self._by_others(who, places, threads) for who in (self._stored, self._added))
        if _is_atomic(access):
            return stored
        if access.written is not None:
            return added | (stored & (self._values[0][places] != self._values[1][places]))
        if ".nc." in access.site.opcode:
            return (self._stored[0][places] != _NOBODY) | (self._added[0][places] != _NOBODY)
        return stored | added

    @staticmethod
    def _by_others(who: tuple[Values, Values], places: Values, threads: Values) -> Values:
        first, last = who[0][places], who[1][places]
        return (first != _NOBODY) & ((first != threads) | (last != threads))

    def _threads(self, log: Sequence[Access]) -> tuple[Values, Values]:
        first, last = np.full(self._size, _NOBODY), np.full(self._size, -1)
        for access in log:
            places, threads = _spread(access)
            np.minimum.at(first, places, threads)
            np.maximum.at(last, places, threads)
        return first, last

    def _written(self, log: Sequence[Access]) -> tuple[Values, Values]:
        """The smallest and the largest value that each byte got."""
        low, high = np.full(self._size, 255, np.uint8), np.zeros(self._size, np.uint8)
        for access in log:
            assert access.written is not None
            places, values = _spread(access)[0], np.ascontiguousarray(access.written).view(np.uint8)
            np.minimum.at(low, places, values)
            np.maximum.at(high, places, values)
        return low, high


def _spread(access: Access) -> tuple[Values, Values]:
    """The bytes of an access, and the thread of each."""
    size = access.site.size
    return np.add.outer(access.places, np.arange(size)).ravel(), access.threads.repeat(size)
