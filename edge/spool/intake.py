"""The way into the spool: frames are encoded and offered on a thread of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from spillover.common.errors import InvalidInputError
from spillover.common.log import get_logger
from spillover.common.types import Frame, Result
from spillover.edge.payload.encoder import as_it_waits
from spillover.edge.payload.types import EncodedFrame, EncodedTensor
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.spool.frames import to_body
from spillover.edge.spool.spool import Offer, Spool

_QUEUED_FRAMES = 4
"""Pictures that may wait to be encoded: they are raw, so each takes megabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    pack: Callable[[], EncodedFrame]
    local: Result


class Intake:
    """Keeps what is worth a late answer. No method but `run` ever blocks.

    `on_refused` is called with a reason for each frame that will not be kept.
    """

    def __init__(
        self, spool: Spool, pack: Callable[[Frame], EncodedFrame], on_refused: Callable[[str], None]
    ) -> None:
        self._spool = spool
        self._pack = pack
        self._on_refused = on_refused
        self._queue: BoundedQueue[_Waiting] = BoundedQueue(_QUEUED_FRAMES, WhenFull.DROP_NEWEST)

    def keep(self, frame: Frame, local: Result) -> None:
        """Take a frame that was never sent."""
        self._take(_Waiting(partial(self._pack, frame), local))

    def rescue(self, encoded_frame: EncodedFrame, local: Result) -> None:
        """Take a frame that was sent to no avail; it is encoded already, unless it was a tensor."""
        if isinstance(encoded_frame.payload, EncodedTensor):
            self._take(_Waiting(partial(as_it_waits, encoded_frame), local))
        else:
            self._offer(encoded_frame, local)

    def _take(self, waiting: _Waiting) -> None:
        if self._queue.put(waiting) is not None:
            self._on_refused("queue full")

    def _offer(self, encoded_frame: EncodedFrame, local: Result) -> None:
        offer = Offer(local.decision.expected_gain, local.frame_id, to_body(encoded_frame, local))
        if not self._spool.offer(offer):
            self._on_refused("disk too slow")

    def run(self) -> None:
        """Body of the encoding thread, until `close`."""
        while (waiting := self._queue.get()) is not None:
            try:
                encoded_frame = waiting.pack()
            except InvalidInputError as error:
                get_logger("spool").error("frame cannot be kept", error=str(error))
                self._on_refused("not encoded")
            else:
                self._offer(encoded_frame, waiting.local)

    def close(self) -> None:
        """Take no more; `run` ends when what is queued was offered."""
        self._queue.close()
