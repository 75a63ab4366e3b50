"""One timer for many things that must end within the same time."""

import asyncio

from spillover.cloud.rpc.time_limit import TimeLimit


def test_what_has_ended_is_not_overdue():
    """Of three things the one that ended in time is not told of; the two others are, each once."""

    async def told() -> list[str]:
        overdue: list[str] = []
        both = asyncio.Event()

        def note(names: list[str]) -> None:
            overdue.extend(names)
            if len(overdue) == 2:
                both.set()

        limit: TimeLimit[str] = TimeLimit(0.01, note)
        for name in ("first", "ended", "last"):
            limit.begin(name)
        limit.ended("ended")
        await asyncio.wait_for(both.wait(), 30)
        return overdue

    assert asyncio.run(told()) == ["first", "last"]


def test_a_thing_that_begins_again_after_all_were_told_of_is_watched_too():
    """The timer rests while there is nothing to watch, and starts again."""

    async def told() -> list[str]:
        found: asyncio.Queue[list[str]] = asyncio.Queue()
        limit: TimeLimit[str] = TimeLimit(0.01, found.put_nowait)
        limit.begin("one")
        first = await asyncio.wait_for(found.get(), 30)
        limit.begin("two")
        return first + await asyncio.wait_for(found.get(), 30)

    assert asyncio.run(told()) == ["one", "two"]


def test_nothing_is_told_after_a_stop():
    """A stopped limit gives up what it watches in silence."""

    async def told() -> list[str]:
        overdue: list[str] = []
        limit: TimeLimit[str] = TimeLimit(0.001, overdue.extend)
        limit.begin("one")
        limit.stop()
        other: asyncio.Queue[list[str]] = asyncio.Queue()
        later: TimeLimit[str] = TimeLimit(0.01, other.put_nowait)
        later.begin("later")
        await asyncio.wait_for(other.get(), 30)
        return overdue

    assert asyncio.run(told()) == []
