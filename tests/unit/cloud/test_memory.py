"""The budget of bytes in flight: its bounds hold whatever comes, and nobody waits for what is free."""

import asyncio
import math
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from spillover.cloud.serving.memory import PATIENCE_S, Kind, Memory
from spillover.common.errors import OverloadedError

TOTAL, PERMIT, MESSAGE = 1600, 100, 150
HOLDERS = st.tuples(st.sampled_from("abcdefgh"), st.booleans())


async def _settled() -> None:
    for _ in range(5):  # let everything run that can
        await asyncio.sleep(0)


class Budget(RuleBasedStateMachine):
    """Leases come, wait, grow, shrink, are given up and go, in any order."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.memory = Memory(TOTAL, PERMIT, MESSAGE)
        self.held = []
        self.waits = {}

    def teardown(self):
        """At the end everything has been given back."""
        for lease in self.held:
            self._give_up(lease)
            self.memory.release(lease)
        assert (self.memory.used, self.memory.waiting, self.memory.holders) == (0, 0, 0)
        self.loop.close()

    @rule(target=leases, holder=HOLDERS)
    def comes(self, holder):
        """A call begins."""
        lease = self.memory.lease(holder[0], is_proven=holder[1])
        self.held.append(lease)
        return lease

    @rule(lease=leases)
    def asks_for_a_permit(self, lease):
        """It wants to read its message."""
        if lease not in self.waits and lease.amount < PERMIT:
            self.waits[lease] = self.loop.create_task(self.memory.permit(lease, math.inf))
            self.loop.run_until_complete(_settled())

    @rule(lease=leases, kind=st.sampled_from(Kind), amount=st.integers(0, 500))
    def is_charged(self, lease, kind, amount):
        """What it has becomes more or less, or is refused and stays."""
        if lease in self.waits and not self.waits[lease].done():
            return
        before = lease.amount
        try:
            self.memory.charge(lease, kind, amount)
        except OverloadedError:
            assert lease.amount == before < amount
        else:
            assert lease.amount == amount
            self.waits.pop(lease, None)
        self.loop.run_until_complete(_settled())

    @rule(lease=leases)
    def gives_up_waiting(self, lease):
        """Its task is cancelled while it waits, or after."""
        self._give_up(lease)

    @rule(lease=consumes(leases))
    def goes(self, lease):
        """It ends."""
        self._give_up(lease)
        self.memory.release(lease)
        self.held.remove(lease)
        self.loop.run_until_complete(_settled())

    @rule(lease=leases)
    def holds_up_others(self, lease):
        """Its message did not come."""
        self.memory.strike(lease)

    def _give_up(self, lease):
        if (task := self.waits.pop(lease, None)) is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                self.loop.run_until_complete(task)

    @invariant()
    def the_sums_are_right(self):
        """What is counted is what is held, in all and by kind."""
        assert self.memory.used == sum(lease.amount for lease in self.held)
        for kind in Kind:
            of_kind = sum(lease.amount for lease in self.held if lease.kind is kind)
            assert self.memory.used_for(kind) == of_kind

    @invariant()
    def no_bound_is_passed(self):
        """All, the unproven, and each holder stay within their shares."""
        assert self.memory.used <= TOTAL
        assert sum(lease.amount for lease in self.held if not lease.account.is_proven) <= TOTAL // 2
        by_holder = {}
        for lease in self.held:
            by_holder[lease.account] = by_holder.get(lease.account, 0) + lease.amount
        assert all(used <= TOTAL // 4 for used in by_holder.values())

    @invariant()
    def nobody_waits_for_what_is_free(self):
        """The first of each holder's line cannot be let in, by the rule as it is documented."""
        used = {}
        for lease in self.held:
            used[lease.account] = used.get(lease.account, 0) + lease.amount
        unproven = sum(amount for account, amount in used.items() if not account.is_proven)
        for lease, task in self.waits.items():
            if task.done() or lease.account.waiting[0].lease is not lease:
                continue
            free = TOTAL - self.memory.used
            if not lease.account.is_proven:
                free = min(free, TOTAL // 2 - unproven)
            after = used[lease.account] + PERMIT - lease.amount
            assert free < PERMIT or after > TOTAL // 4 or after > max(free, MESSAGE)


TestBudget = Budget.TestCase
TestBudget.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_holders_take_turns():
    """One who asks for ten permits has two before another who asks later for one: they come in turn."""

    async def run() -> list[str]:
        memory = Memory(4 * PERMIT, PERMIT, holder_share=1)
        order: list[str] = []

        async def reads(name: str) -> None:
            lease = memory.lease(name, is_proven=True)
            await memory.permit(lease, math.inf)
            order.append(name)
            await asyncio.sleep(0)
            memory.release(lease)

        blocker = memory.lease("blocker", is_proven=True)
        memory.charge(blocker, Kind.WORKING, 4 * PERMIT - PERMIT // 2 - PERMIT)
        await asyncio.gather(*(reads("greedy") for _ in range(10)), reads("modest"))
        return order

    assert "modest" in asyncio.run(run())[:3]


def test_a_wait_has_an_end():
    """Who finds no room until the time is told so, with when to come back, and waits no more."""

    async def run() -> None:
        memory = Memory(4 * PERMIT, PERMIT, holder_share=1)
        memory.charge(memory.lease("a", is_proven=True), Kind.WORKING, 2 * PERMIT)
        memory.charge(memory.lease("b", is_proven=True), Kind.WORKING, 2 * PERMIT)
        lease = memory.lease("c", is_proven=True)
        with pytest.raises(OverloadedError) as refused:
            await memory.permit(lease, 0.0)
        assert refused.value.retry_after_s > 0
        assert memory.waiting == 0

    asyncio.run(run())


def test_a_message_that_keeps_another_holder_waiting_is_given_up():
    """Only after a time, only of one who has more than the waiting one, the greediest before the others."""
    now_s = 0.0
    revoked: list[str] = []

    async def run() -> None:
        nonlocal now_s
        memory = Memory(4 * PERMIT, PERMIT, holder_share=1, clock=lambda: now_s)
        held = {}
        for name in ("slow", "greedy 1", "greedy 2"):
            held[name] = memory.lease(name.partition(" ")[0], is_proven=True)
            await memory.permit(held[name], math.inf, lambda name=name: revoked.append(name))
            now_s += PATIENCE_S / 10
        waiting = memory.lease("good", is_proven=True)
        memory.press(waiting)
        assert not revoked
        now_s += PATIENCE_S
        memory.press(held["slow"])
        assert revoked == ["greedy 1"]
        memory.press(waiting)
        assert revoked == ["greedy 1", "greedy 2"]
        memory.press(waiting)
        assert revoked == ["greedy 1", "greedy 2", "slow"]

    asyncio.run(run())


def test_a_few_who_take_all_they_can_leave_room_for_one_who_comes():
    """Three holders who ask for more and more: a fourth gets a permit at once."""
    memory = Memory(TOTAL, PERMIT)
    for name in "abc":
        with suppress(OverloadedError):
            while True:
                memory.charge(memory.lease(name, is_proven=True), Kind.WORKING, PERMIT)
    memory.charge(memory.lease("d", is_proven=True), Kind.RECEIVING, PERMIT)
