"""From `limits.memory_bytes` to what keeps it: the budgets of messages, and how many calls gRPC lets in.

gRPC itself keeps something of each call: its state, and what of the message has come before it is asked for,
at most the flow-control window. All connections together may have as many calls as half of the memory allows.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spillover.cloud.config import LimitsConfig
from spillover.cloud.serving.memory import HOLDER_SHARE, Memory
from spillover.common.errors import ConfigError

WINDOW_BYTES = 64 * 1024
"""What a client may send of a message that is not being read: HTTP/2's own default."""
CALL_BYTES = 16 * 1024
"""What gRPC and Python keep of a call beside its message; measured: 14.6 KiB."""
MESSAGE_FACTOR = 1
OPEN_PERMITS = 4
"""Messages of methods that are open to everybody, read at the same time."""
_LEAST_STREAMS = 4
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Room:
    """What a server has memory for. `connections` and `streams` are `limits`', or fewer."""

    memory_bytes: int
    connections: int
    streams: int
    permit_bytes: int

    def memory(self) -> Memory:
        """The budget of known callers' messages, and of all where nobody need be known."""
        calls = self.connections * self.streams * (WINDOW_BYTES + CALL_BYTES)
        return Memory(self.memory_bytes - calls - OPEN_PERMITS * self.permit_bytes, self.permit_bytes)

    def open_memory(self) -> Memory:
        """The budget of messages that anybody may send; one address may have half of it."""
        return Memory(OPEN_PERMITS * self.permit_bytes, self.permit_bytes, holder_share=2, unproven_share=1)


def room_for(limits: LimitsConfig, machine_bytes: int) -> Room:
    """What these limits allow on a machine of so much memory.

    Raises:
        ConfigError: not even a few of the longest messages fit into the memory.
    """
    permit = MESSAGE_FACTOR * limits.max_message_bytes
    least = 2 * (OPEN_PERMITS + HOLDER_SHARE) * permit
    memory = limits.memory_bytes or max(least, machine_bytes // 4)
    for_calls = memory // 2
    a_call = WINDOW_BYTES + CALL_BYTES
    streams = min(limits.max_streams, max(_LEAST_STREAMS, for_calls // (limits.max_connections * a_call)))
    connections = min(limits.max_connections, for_calls // (streams * a_call))
    if memory < least:
        raise ConfigError(
            f"limits.memory_bytes: {memory} is too little for messages of limits.max_message_bytes: "
            f"{limits.max_message_bytes}; it takes {least}"
        )
    return Room(memory, connections, streams, permit)


def machine_bytes() -> int:
    """The memory of this machine, or of the control groups that this process is in, if that is less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _limit_files():
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # not "max"
            limits.append(int(text))
    return min(limits)


def _limit_files() -> Iterator[Path]:
    """Where the kernel says what a group may have: of this process's group, and of those around it."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:  # "0::/path", or of version 1 "4:memory:/path"
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CGROUPS / "memory" if controllers else _CGROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = root / path.lstrip("/")
        yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(root))
