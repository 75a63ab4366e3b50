"""Tracks the free blocks of the arena: first fit over sorted, merged extents."""

import bisect


class Extents:
    """The free blocks of `count`, initially all of them. An extent is (first block, length)."""

    def __init__(self, count: int, free: list[tuple[int, int]] | None = None) -> None:
        self._count = count
        self._free = [(0, count)] if free is None else free

    def copy(self) -> "Extents":
        """An independent copy, to try out evictions."""
        return Extents(self._count, self._free.copy())

    def take(self, length: int) -> int | None:
        """Allocate `length` consecutive blocks; the first of them, or None when no extent is long enough."""
        for index, (start, free) in enumerate(self._free):
            if free >= length:
                self._free[index : index + 1] = [(start + length, free - length)] if free > length else []
                return start
        return None

    def claim(self, start: int, length: int) -> bool:
        """Allocate exactly these blocks; False, changing nothing, if one of them is not free."""
        index = bisect.bisect_right(self._free, (start, self._count)) - 1
        if index < 0:
            return False
        free_start, free = self._free[index]
        if start + length > free_start + free:
            return False
        left = [(free_start, start - free_start)] if start > free_start else []
        end, free_end = start + length, free_start + free
        right = [(end, free_end - end)] if end < free_end else []
        self._free[index : index + 1] = left + right
        return True

    def give(self, start: int, length: int) -> None:
        """Free these blocks and merge them with their neighbours."""
        index = bisect.bisect_left(self._free, (start, 0))
        if index < len(self._free) and self._free[index][0] == start + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == start:
            index -= 1
            start, before = self._free.pop(index)
            length += before
        self._free.insert(index, (start, length))
