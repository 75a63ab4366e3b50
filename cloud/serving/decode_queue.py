"""Which decoding comes next, fairly over who asks, by what each costs. No threads, no event loop, no I/O."""

import enum
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from spillover.common.errors import Cause, OverloadedError

RETRY_S = 0.5
"""After this a caller may try again whose decoding found no room."""
_MOST_IDLE = 10_000
"""Holders without a job whose debts are remembered."""


class Skip(enum.Enum):
    """Why a job never began."""

    CANCELLED = "cancelled"
    """Its call has ended."""
    DEADLINE = "deadline"
    """Its call's deadline passed while it waited."""
    DISPLACED = "displaced"
    """The queue was full, and its holder had more waiting than any other."""


class Job(Protocol):
    """What waits: who is charged, what it is thought to cost (at least 1), and until when it is wanted."""

    @property
    def holder(self) -> str:
        """Who is charged."""
        ...

    @property
    def cost(self) -> int:
        """In any unit, the same for all jobs."""
        ...

    @property
    def expires_s(self) -> float:
        """By the queue's clock."""
        ...


J = TypeVar("J", bound=Job)


@dataclass(slots=True)
class _Holder(Generic[J]):
    """Jobs of one holder in order of arrival, and the virtual time until which it has used its share."""

    jobs: OrderedDict[int, J] = field(default_factory=OrderedDict)
    used: int = 0
    running: int = 0


class DecodeQueue(Generic[J]):
    """Self-clocked fair queueing: round robin over holders, weighted by cost (Golestani, INFOCOM 1994).

    A holder's next job ends, in virtual time, at what the holder has used plus the job's cost. The earliest
    end comes next, and virtual time moves on to it. So a backlog delays its owner alone: while a job is the
    first of its holder, any other holder starts at most as much cost as this job has, and one job more.

    One holder runs at most half of `slots`, if there are two or more, because what runs cannot be
    interrupted. At most `most_waiting` jobs wait; then the newest of whoever has most of them makes room.
    `skipped` is told of jobs that leave without having run.
    """

    def __init__(
        self, slots: int, most_waiting: int, clock: Callable[[], float], skipped: Callable[[J, Skip], None]
    ) -> None:
        self._slots = slots
        self._slots_each = max(1, slots // 2)
        self._most_waiting = most_waiting
        self._clock = clock
        self._skipped = skipped
        self._holders: dict[str, _Holder[J]] = {}
        self._now = 0
        self.waiting = 0
        """Jobs that wait."""
        self.running = 0
        """Jobs that were taken and are not done."""

    def add(self, job: J) -> None:
        """Let `job` wait. Raises OverloadedError when the queue is full and its holder has most of it."""
        holder = self._holders.get(job.holder) or _Holder[J]()
        if self.waiting >= self._most_waiting:
            self._make_room(len(holder.jobs))
        if not holder.jobs:
            holder.used = max(holder.used, self._now)
        holder.jobs[id(job)] = job
        self._holders[job.holder] = holder
        self.waiting += 1

    def take(self) -> J | None:
        """The next job, which runs from now on until `done`; None when there is none, or no slot for it."""
        while self.running < self._slots and (holder := self._next()):
            _, job = holder.jobs.popitem(last=False)
            self.waiting -= 1
            if job.expires_s <= self._clock():
                self._forget(job.holder)
                self._skipped(job, Skip.DEADLINE)
                continue
            holder.used += job.cost
            self._now = max(self._now, holder.used)
            holder.running += 1
            self.running += 1
            return job
        return None

    def charge(self, job: J, cost: int) -> None:
        """`job`, which runs, costs its holder so much more than was thought."""
        self._holders[job.holder].used += cost

    def done(self, job: J) -> None:
        """A job that was taken has ended."""
        self._holders[job.holder].running -= 1
        self.running -= 1
        self._forget(job.holder)

    def cancel(self, job: J) -> None:
        """Nobody wants this job any more. Nothing happens unless it waits."""
        holder = self._holders.get(job.holder)
        if holder and holder.jobs.pop(id(job), None):
            self._skip(job, Skip.CANCELLED)

    def cancel_all(self) -> None:
        """Let nothing wait any longer."""
        for job in [job for holder in self._holders.values() for job in holder.jobs.values()]:
            self.cancel(job)

    def _next(self) -> _Holder[J] | None:
        """The holder whose job ends first."""
        return min(
            (one for one in self._holders.values() if one.jobs and one.running < self._slots_each),
            key=lambda one: one.used + next(iter(one.jobs.values())).cost,
            default=None,
        )

    def _make_room(self, already: int) -> None:
        most = max(self._holders.values(), key=lambda one: len(one.jobs))
        if len(most.jobs) <= already + 1:
            text = f"{self.waiting} decodings wait, {already} of them for this caller"
            raise OverloadedError(text, RETRY_S, Cause.QUEUE_FULL)
        _, newest = most.jobs.popitem()
        self._skip(newest, Skip.DISPLACED)

    def _skip(self, job: J, reason: Skip) -> None:
        self.waiting -= 1
        self._forget(job.holder)
        self._skipped(job, reason)

    def _forget(self, name: str) -> None:
        """Forget a holder that has nothing here and owes nothing; all debts when nobody is left."""
        if not self.waiting and not self.running:
            self._holders.clear()
            self._now = 0
            return
        holder = self._holders[name]
        if holder.jobs or holder.running:
            return
        if holder.used <= self._now:
            del self._holders[name]
        elif len(self._holders) > self._most_waiting + self._slots + _MOST_IDLE:
            self._holders = {n: one for n, one in self._holders.items() if one.jobs or one.running}
