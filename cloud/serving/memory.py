"""The budget of bytes in flight: what is being received, worked on and sent, shared out among its holders.

A *holder* is who is charged: a caller by its proven name, else a connection or an address. A message that is
to be read is charged as the longest one before its first byte, because gRPC takes in as much once it is asked
to. Who finds no room for that waits, and the holders take turns. Everything runs on the event loop: no locks.
"""

import asyncio
import enum
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from spillover.common.errors import Cause, OverloadedError

HOLDER_SHARE = 4
"""One holder may have at most this part of all: a quarter."""
UNPROVEN_SHARE = 2
"""All holders together who have proven nothing may have at most this part: a half."""
PATIENCE_S = 1.0
"""So long a message may take to arrive while another holder has to wait for it."""
_STRUCK_PATIENCE = 0.25
"""The part of it for a holder that has used it up before."""
_RETRY_S = 0.5
_NO_PERMIT = "no memory became free in time to read the message"


class Kind(enum.StrEnum):
    """What bytes are in flight for."""

    CALLS = "calls"
    """Calls without their messages: what gRPC keeps of each, and takes in unasked."""
    RECEIVING = "receiving"
    """The permits of messages that are being read."""
    WORKING = "working"
    """Requests in work, with what they were unpacked to."""
    SENDING = "sending"
    """Answers that have not been written yet."""


@dataclass(eq=False, slots=True)
class _Account:
    """What one holder has, and which of its leases wait for a permit, oldest first.

    `permits` counts its messages that are being read. `is_struck`: one of them kept others waiting.
    """

    name: str
    is_proven: bool
    used: int = 0
    leases: int = 0
    permits: int = 0
    is_struck: bool = False
    waiting: "deque[_Waiter]" = field(default_factory=deque)


@dataclass(eq=False, slots=True)
class Lease:
    """What one call, or one message of a stream, has of the budget. Made by `Memory.lease`."""

    account: _Account
    kind: Kind = Kind.CALLS
    amount: int = 0
    is_open: bool = True


@dataclass(eq=False, slots=True)
class _Waiter:
    lease: Lease
    granted: "asyncio.Future[None]"


@dataclass(eq=False, slots=True)
class _Reading:
    """A message that is being read, since when, and how to end that."""

    account: _Account
    since_s: float
    revoke: Callable[[], object]


class Memory:
    """A budget of `total` bytes, in which to read one message costs `permit_bytes`.

    Beside the shares of a holder and of the unproven, a holder may have no more than it leaves free: so a few
    that take all they can leave room for one that comes. Each may have `message_bytes`, the longest message
    in work, whatever its share.
    """

    def __init__(
        self,
        total: int,
        permit_bytes: int,
        message_bytes: int = 0,
        *,
        holder_share: int = HOLDER_SHARE,
        unproven_share: int = UNPROVEN_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.permit_bytes = permit_bytes
        self._least = max(permit_bytes, message_bytes)
        self._holder_limit = max(self._least, total // holder_share)
        self._unproven_limit = total // unproven_share
        self._clock = clock
        self._used = self._unproven = 0
        self._by_kind = dict.fromkeys(Kind, 0)
        self._accounts: dict[tuple[str, bool], _Account] = {}
        self._reading: dict[Lease, _Reading] = {}
        self._waiting = 0
        # Who has kept nobody waiting comes first, and those with a proven name before the others.
        self._queues: dict[tuple[bool, bool], OrderedDict[str, _Account]] = {
            (is_struck, is_proven): OrderedDict()
            for is_struck in (False, True)
            for is_proven in (True, False)
        }

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return self._used

    def used_for(self, kind: Kind) -> int:
        """Bytes that are taken for this."""
        return self._by_kind[kind]

    @property
    def waiting(self) -> int:
        """How many wait for a permit."""
        return self._waiting

    @property
    def holders(self) -> int:
        """How many have a lease."""
        return len(self._accounts)

    def lease(self, holder: str, *, is_proven: bool) -> Lease:
        """An empty lease in the name of `holder`; it must be released."""
        key = (holder, is_proven)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(holder, is_proven)
        account.leases += 1
        return Lease(account)

    async def permit(self, lease: Lease, until_s: float, revoke: Callable[[], object] | None = None) -> None:
        """Wait until `lease` may read one message, at most until the clock says `until_s`.

        `revoke` is called if the message takes long and another holder waits; without it the permit stays.

        Raises:
            OverloadedError: there was no room until then.
        """
        account = lease.account
        if account.waiting or not self._fits(account, self.permit_bytes - lease.amount):
            await self._turn_of(lease, until_s)
        else:
            self._permitted(lease)
        if revoke is not None:
            self._reading[lease] = _Reading(account, self._clock(), revoke)

    def charge(self, lease: Lease, kind: Kind, amount: int) -> None:
        """Let `lease` have `amount` bytes for `kind` in place of what it has now.

        Raises:
            OverloadedError: it is more than now and does not fit; the lease stays as it is.
        """
        more = amount - lease.amount
        if more > 0 and not self._fits(lease.account, more):
            raise OverloadedError(
                f"no room for {amount} bytes: this caller has {lease.account.used}, all together "
                f"{self._used} of {self.total} bytes in flight",
                _RETRY_S,
                Cause.MEMORY,
            )
        self._put(lease, kind, amount)
        if more < 0 and self._waiting:
            self._grant()

    def release(self, lease: Lease) -> None:
        """Take everything back. A second time does nothing."""
        if not lease.is_open:
            return
        lease.is_open = False
        account = lease.account
        account.leases -= 1
        if not account.leases:
            del self._accounts[account.name, account.is_proven]
        self.charge(lease, lease.kind, 0)

    def press(self, lease: Lease) -> None:
        """Revoke the permit that least deserves to go on while `lease` waits, if there is one.

        It is one of a holder who has more than the waiting one, and whose message takes too long; before the
        others one who has done so before, then who has most, then the oldest.
        """
        now_s = self._clock()
        oldest = next(iter(self._reading.values()), None)
        if oldest is None or now_s - oldest.since_s < PATIENCE_S * _STRUCK_PATIENCE:
            return
        slow = [
            (not reading.account.is_struck, -reading.account.permits, reading.since_s, found)
            for found, reading in self._reading.items()
            if reading.account.permits > lease.account.permits
            and now_s - reading.since_s >= PATIENCE_S * (_STRUCK_PATIENCE if reading.account.is_struck else 1)
        ]
        if not slow:
            return
        reading = self._reading.pop(min(slow, key=lambda one: one[:3])[3])
        self._strike(reading.account)
        reading.revoke()

    def has_come(self, lease: Lease) -> None:
        """The message is no longer being read: `revoke` is not called any more."""
        self._reading.pop(lease, None)

    def strike(self, lease: Lease) -> None:
        """Note that the holder's message did not come; as long as it has a lease, it comes last."""
        self._strike(lease.account)

    def _strike(self, account: _Account) -> None:
        if account.is_struck:
            return
        if account.waiting:
            del self._queues[False, account.is_proven][account.name]
            self._queues[True, account.is_proven][account.name] = account
        account.is_struck = True

    async def _turn_of(self, lease: Lease, until_s: float) -> None:
        account = lease.account
        waiter = _Waiter(lease, asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._waiting += 1
        self._queue_of(account).setdefault(account.name, account)
        try:
            while not waiter.granted.done() and (left_s := until_s - self._clock()) > 0:
                if account.waiting[0] is waiter:
                    self.press(lease)
                step_s = min(left_s, PATIENCE_S * _STRUCK_PATIENCE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(step_s):
                        await asyncio.shield(waiter.granted)
        finally:
            if waiter in account.waiting:
                waiter.granted.cancel()
                self._leave_queue(waiter)
        if not waiter.granted.done() or waiter.granted.cancelled():
            raise OverloadedError(_NO_PERMIT, _RETRY_S, Cause.MEMORY)

    def _fits(self, account: _Account, more: int) -> bool:
        free = self._free(account)
        after = account.used + more
        return more <= free and after <= self._holder_limit and after <= max(free, self._least)

    def _free(self, account: _Account) -> int:
        free = self.total - self._used
        return free if account.is_proven else min(free, self._unproven_limit - self._unproven)

    def _permitted(self, lease: Lease) -> None:
        lease.account.permits += 1
        self._put(lease, Kind.RECEIVING, self.permit_bytes)

    def _put(self, lease: Lease, kind: Kind, amount: int) -> None:
        more = amount - lease.amount
        if lease.kind is Kind.RECEIVING and lease.amount == self.permit_bytes and amount != self.permit_bytes:
            lease.account.permits -= 1
            self._reading.pop(lease, None)
        self._by_kind[lease.kind] -= lease.amount
        self._by_kind[kind] += amount
        self._used += more
        lease.account.used += more
        if not lease.account.is_proven:
            self._unproven += more
        lease.kind, lease.amount = kind, amount

    def _grant(self) -> None:
        """Let in who fits now: one of each holder in turn."""
        for queue in self._queues.values():
            passed_over = 0
            while passed_over < len(queue):
                name, account = next(iter(queue.items()))
                if self._free(account) < self.permit_bytes:
                    break  # for all of them
                queue.move_to_end(name)
                waiter = account.waiting[0]
                if waiter.granted.done():  # cancelled, and its task has not run since
                    self._leave_queue(waiter)
                elif self._fits(account, self.permit_bytes - waiter.lease.amount):
                    self._leave_queue(waiter)
                    self._permitted(waiter.lease)
                    waiter.granted.set_result(None)
                    passed_over = 0
                else:
                    passed_over += 1

    def _queue_of(self, account: _Account) -> OrderedDict[str, _Account]:
        return self._queues[account.is_struck, account.is_proven]

    def _leave_queue(self, waiter: _Waiter) -> None:
        account = waiter.lease.account
        account.waiting.remove(waiter)
        self._waiting -= 1
        if not account.waiting:
            del self._queue_of(account)[account.name]
