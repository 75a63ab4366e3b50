"""The budget of bytes in flight: what is being received, worked on and sent, shared out among its holders.

A *holder* is who is charged: a caller by its proven name, else a connection. A message that is to be read is
charged as the longest one before its first byte, because gRPC takes in as much once it is asked to. Who finds
no room for that waits, and the holders take turns. Everything runs on the event loop: no locks.
"""

import asyncio
import enum
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from spillover.common.errors import Cause, OverloadedError

HOLDER_SHARE = 4
"""One holder may have at most this part of all: a quarter."""
UNPROVEN_SHARE = 2
"""All holders together who have proven nothing may have at most this part: a half."""
_RETRY_S = 0.5
_NO_PERMIT = "no memory became free in time to read the message"


class Kind(enum.Enum):
    """What bytes are in flight for."""

    RECEIVING = "receiving"
    """The permit of a message that is being read."""
    WORKING = "working"
    """A request in work, with what it was unpacked to."""
    SENDING = "sending"
    """An answer that has not been written yet."""


@dataclass(eq=False, slots=True)
class _Account:
    """What one holder has, and which of its leases wait for a permit, oldest first."""

    name: str
    is_proven: bool
    used: int = 0
    leases: int = 0
    waiting: "deque[_Waiter]" = field(default_factory=deque)


@dataclass(eq=False, slots=True)
class Lease:
    """What one call, or one message of a stream, has of the budget. Made by `Memory.lease`."""

    account: _Account
    kind: Kind = Kind.RECEIVING
    amount: int = 0
    is_open: bool = True


@dataclass(eq=False, slots=True)
class _Waiter:
    lease: Lease
    granted: "asyncio.Future[None]"


class Memory:
    """A budget of `total` bytes, in which to read one message costs `permit_bytes`.

    Beside the shares of a holder and of the unproven, a holder that has something may have no more than it
    leaves free. So a few that take all they can leave room for one that comes.
    """

    def __init__(
        self,
        total: int,
        permit_bytes: int,
        *,
        holder_share: int = HOLDER_SHARE,
        unproven_share: int = UNPROVEN_SHARE,
    ) -> None:
        self.total = total
        self.permit_bytes = permit_bytes
        self._holder_limit = total // holder_share
        self._unproven_limit = total // unproven_share
        self._used = self._unproven = 0
        self._by_kind = dict.fromkeys(Kind, 0)
        self._accounts: dict[tuple[str, bool], _Account] = {}
        self._queues: dict[bool, OrderedDict[str, _Account]] = {True: OrderedDict(), False: OrderedDict()}

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
        return sum(len(account.waiting) for queue in self._queues.values() for account in queue.values())

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

    async def permit(self, lease: Lease, until_s: float) -> None:
        """Wait until `lease` may read one message, at most until `time.monotonic()` says `until_s`.

        Raises:
            OverloadedError: there was no room until then.
        """
        account = lease.account
        if not account.waiting and self._fits(account, self.permit_bytes - lease.amount):
            self._put(lease, Kind.RECEIVING, self.permit_bytes)
            return
        waiter = _Waiter(lease, asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._queues[account.is_proven].setdefault(account.name, account)
        try:
            async with asyncio.timeout(max(0.0, until_s - time.monotonic())):
                await waiter.granted
        except TimeoutError:
            raise OverloadedError(_NO_PERMIT, _RETRY_S, Cause.MEMORY) from None
        finally:
            if waiter in account.waiting:
                self._leave_queue(waiter)

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
        if more < 0:
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

    def _fits(self, account: _Account, more: int) -> bool:
        free = self._free(account)
        after = account.used + more
        return more <= free and after <= self._holder_limit and (after == more or after <= free)

    def _free(self, account: _Account) -> int:
        free = self.total - self._used
        return free if account.is_proven else min(free, self._unproven_limit - self._unproven)

    def _put(self, lease: Lease, kind: Kind, amount: int) -> None:
        more = amount - lease.amount
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
                    self._put(waiter.lease, Kind.RECEIVING, self.permit_bytes)
                    waiter.granted.set_result(None)
                    passed_over = 0
                else:
                    passed_over += 1

    def _leave_queue(self, waiter: _Waiter) -> None:
        account = waiter.lease.account
        account.waiting.remove(waiter)
        if not account.waiting:
            del self._queues[account.is_proven][account.name]
