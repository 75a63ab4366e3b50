"""The way into the spool: frames are encoded and offered on a thread of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.log import get_logger
from spillover.common.types import Frame, Result
from spillover.edge.payload.encoder import as_it_waits
from spillover.edge.payload.types import EncodedFrame, EncodedTensor
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.spool.frames import to_body
from spillover.edge.spool.spool import Offer, OnRefused, Refusal, Spool

_QUEUED_FRAMES = 4
"""Frames that may wait to be encoded: they are raw, so each takes megabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Unencoded:
    encode: Callable[[], EncodedFrame]
    local: Result


class Intake:
    """Spools frames that are worth a late answer. No method but `run` blocks.

    `encode` makes a frame's payload for the disk; `on_refused` is called for each frame that is not offered
    to `spool`.
    """

    def __init__(self, spool: Spool, encode: Callable[[Frame], EncodedFrame], on_refused: OnRefused) -> None:
        self._spool = spool
        self._encode = encode
        self._on_refused = on_refused
        self._queue: BoundedQueue[_Unencoded] = BoundedQueue(_QUEUED_FRAMES, WhenFull.DROP_NEWEST)

    def store(self, frame: Frame, local: Result) -> None:
        """Spool a frame that was never sent."""
        self._enqueue(_Unencoded(partial(self._encode, frame), local))

    def store_encoded(self, encoded_frame: EncodedFrame, local: Result) -> None:
        """Spool a frame whose call failed; a tensor is encoded anew, as a picture."""
        if isinstance(encoded_frame.payload, EncodedTensor):
            self._enqueue(_Unencoded(partial(as_it_waits, encoded_frame), local))
        else:
            self._offer(encoded_frame, local)

    def run(self) -> None:
        """Body of the encoding thread, until `close`."""
        while (unencoded := self._queue.get()) is not None:
            try:
                encoded_frame = unencoded.encode()
            except (InvalidInputError, ModelError) as error:
                get_logger("spool").error("frame cannot be encoded", error=str(error))
                self._on_refused(Refusal.NOT_ENCODED)
            else:
                self._offer(encoded_frame, unencoded.local)

    def close(self) -> None:
        """Refuse further frames; `run` ends once those in the queue are offered."""
        self._queue.close()

    def _enqueue(self, unencoded: _Unencoded) -> None:
        if self._queue.put(unencoded) is not None:
            self._on_refused(Refusal.ENCODER_BUSY)

    def _offer(self, encoded_frame: EncodedFrame, local: Result) -> None:
        body = to_body(encoded_frame, local)
        self._spool.offer(Offer(local.decision.expected_gain, local.frame_id, body))
