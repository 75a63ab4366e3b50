"""Free blocks: never given twice, never lost."""

from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.spool.extents import Extents

_BLOCKS = 40
_steps = st.lists(
    st.tuples(st.sampled_from(["take", "give", "claim"]), st.integers(0, 39), st.integers(1, 9))
)


@given(_steps)
def test_every_block_is_free_or_taken_once(steps):
    """After any sequence of takes, claims and gives, the extents agree with a plain set of blocks."""
    extents, free, held = Extents(_BLOCKS), set(range(_BLOCKS)), []
    for step, number, length in steps:
        if step == "give":
            if held:
                blocks = held.pop(number % len(held))
                extents.give(blocks[0], len(blocks))
                free |= set(blocks)
            continue
        if step == "claim":
            start = number if extents.claim(number, length) else None
            assert (start is not None) == (set(range(number, number + length)) <= free)
        else:
            start = extents.take(length)
            fits = any(set(range(first, first + length)) <= free for first in range(_BLOCKS))
            assert (start is not None) == fits
        if start is not None:
            blocks = range(start, start + length)
            assert set(blocks) <= free
            free -= set(blocks)
            held.append(blocks)
        rest = extents.copy()
        assert {rest.take(1) for _ in free} == free
        assert rest.take(1) is None


def test_freed_neighbours_merge():
    """Three small extents that touch can be taken as one again."""
    extents = Extents(9)
    for _ in range(3):
        extents.take(3)
    for start in (0, 6, 3):
        extents.give(start, 3)
    assert extents.take(9) == 0


def test_a_copy_is_independent():
    """Trying something on a copy changes nothing."""
    extents = Extents(4)
    extents.copy().take(4)
    assert extents.take(4) == 0
