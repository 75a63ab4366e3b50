"""What `limits.memory_bytes` is divided into: budgets of calls and messages, and how many calls may wait.

gRPC itself keeps something of each call: its state, and what of the message has come before it is asked for,
at most the flow-control window. So a call is charged too, from its headers to its end.
"""

from dataclasses import dataclass

from spillover.cloud.config import LimitsConfig
from spillover.cloud.serving.memory import HOLDER_SHARE, Kind, Memory
from spillover.common.errors import ConfigError

WINDOW_BYTES = 64 * 1024
"""What a client may send of a message that is not being read: HTTP/2's own default."""
CALL_BYTES = WINDOW_BYTES + 16 * 1024
"""What a call costs beside its message: the window, and what gRPC and Python keep, measured as 14.6 KiB."""
WORKING_FACTOR = 2
"""What a message costs in work, in its bytes: its fields, and a copy that is read, or joined to a batch."""
OPEN_PERMITS = 2
"""Messages of methods that are open to everybody, read at the same time."""
_UNTAKEN_SHARE, _STRANGERS_SHARE = 3, 8
"""The parts of all for calls that the event loop has not taken up, and for calls of strangers."""
_MOST_UNTAKEN = 16_384


@dataclass(frozen=True, slots=True)
class Room:
    """What `memory_bytes` is divided into.

    `memory` is the budget of those who may call. `strangers` is that of calls, without messages, of those who
    are not known yet, are refused, or need not be known; the holders are addresses. `open_permits` is for the
    messages of the latter. `untaken` calls may wait for the event loop.
    """

    memory_bytes: int
    memory: Memory
    strangers: Memory
    open_permits: Memory
    untaken: int

    @property
    def charged_bytes(self) -> int:
        """What all budgets are together; the rest of the memory is for calls that nobody has taken up."""
        return sum(budget.total for budget in self._budgets)

    def used(self) -> dict[str, int]:
        """What is taken of all budgets, by what it is taken for."""
        return {kind.value: sum(budget.used_for(kind) for budget in self._budgets) for kind in Kind}

    @property
    def _budgets(self) -> tuple[Memory, ...]:
        return self.memory, self.strangers, self.open_permits


def room_for(limits: LimitsConfig, machine_bytes: int) -> Room:
    """What these limits allow on a machine of so much memory.

    Raises:
        ConfigError: not even a few of the longest messages fit into the memory.
    """
    message = limits.max_message_bytes
    permit = CALL_BYTES + message
    least = 2 * (OPEN_PERMITS + HOLDER_SHARE) * permit
    total = limits.memory_bytes or max(least, machine_bytes // 4)
    if total < least:
        raise ConfigError(
            f"limits.memory_bytes: {total} is too little for messages of limits.max_message_bytes: "
            f"{message}; that takes {least}"
        )
    untaken = min(_MOST_UNTAKEN, total // _UNTAKEN_SHARE // CALL_BYTES)
    strangers = Memory(total // _STRANGERS_SHARE, CALL_BYTES, holder_share=2, unproven_share=1)
    open_permits = Memory(OPEN_PERMITS * message, message, holder_share=1, unproven_share=1)
    rest = total - untaken * CALL_BYTES - strangers.total - open_permits.total
    return Room(
        total, Memory(rest, permit, CALL_BYTES + WORKING_FACTOR * message), strangers, open_permits, untaken
    )
