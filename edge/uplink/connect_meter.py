"""How often a channel has tried to connect: a byte budget pays for it, whether somebody was there or not."""

import threading
from collections.abc import Callable

import grpc

_TRYING = frozenset({grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.READY})
_TRIED = frozenset({grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE})


class ConnectMeter:
    """Tells `attempted` of each attempt of one channel, and `lost` when one has failed. Thread-safe.

    gRPC tells of a channel's states late and may pass over short ones, so an attempt is known by any state
    that it leads to. A channel that has failed tries again by itself, at times that no state tells (gRPC
    proposal A62: it stays in TRANSIENT_FAILURE until it is READY): with a budget it must not be kept.
    """

    def __init__(self, attempted: Callable[[], None], lost: Callable[[], None]) -> None:
        self._attempted = attempted
        self._lost = lost
        self._lock = threading.Lock()
        self._state: grpc.ChannelConnectivity = grpc.ChannelConnectivity.IDLE
        self._unseen = False

    @property
    def failed(self) -> bool:
        """Whether the last one reached nobody."""
        return self._state is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def called(self) -> None:
        """A call begins on the channel, which connects for it if need be."""
        with self._lock:
            self._unseen |= self._state not in _TRYING

    def changed(self, state: grpc.ChannelConnectivity) -> None:
        """What `grpc.Channel.subscribe` calls."""
        with self._lock:
            skipped = state in _TRIED and self._state is not grpc.ChannelConnectivity.CONNECTING
            begins = state is grpc.ChannelConnectivity.CONNECTING or skipped
            self._state = state
            self._unseen &= not begins
        if begins:
            self._attempted()
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self._lost()

    def closed(self) -> None:
        """The channel is closed; what a call has begun and no state has told of counts now."""
        with self._lock:
            unseen, self._unseen = self._unseen, False
        if unseen:
            self._attempted()
