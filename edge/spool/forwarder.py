"""The spool with its threads, and its input; the daemon builds it when `spool` is configured."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.log import get_logger
from spillover.common.types import Frame, Result
from spillover.edge.config import SpoolConfig
from spillover.edge.payload.encoder import as_it_waits
from spillover.edge.payload.types import EncodedFrame, alone_of
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.runtime.parts import OnEnd, Worker
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.spool.drain import Drain, DrainLimits
from spillover.edge.spool.frames import to_body
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Offer, OnFate, OnRefused, Refusal, SpoolLimits
from spillover.edge.uplink.base import Uplink

_OPEN_S = 2.0
"""How long the start waits for the spool's file; a disk that is slower opens it later."""
_LAST_ANSWER_S = 2.0
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
        """Spool a frame whose call failed; a tensor, or what is part of a stream, is encoded anew."""
        if alone_of(encoded_frame.payload):
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


class Forwarder:
    """Spools frames and delivers them later, on three threads: encode, write, deliver.

    Each frame is reported once to `on_refused`, or to `on_fate` as accepted and once more when it leaves the
    disk. `emit` takes late results; its acknowledgement says when a sink has stored one.
    """

    def __init__(
        self,
        config: SpoolConfig,
        encode: Callable[[Frame], EncodedFrame],
        uplink: Uplink,
        on_fate: OnFate,
        on_refused: OnRefused,
        emit: Callable[[Result], DeliveryAck],
        on_end: OnEnd,
    ) -> None:
        limits = SpoolLimits(int(config.max_mb * 1e6), config.max_age_s, config.commit_interval_s)
        self._spool = Spool(Path(config.path).expanduser(), limits, time.monotonic, on_fate, on_refused)
        self._intake = Intake(self._spool, encode, on_refused)
        drain_limits = DrainLimits(config.answer_timeout_s, config.drain_bytes_per_s)
        self._drain = Drain(self._spool, uplink, drain_limits, emit)
        self.store = self._intake.store
        self.store_encoded = self._intake.store_encoded
        self.state = self._spool.state
        self._encoding = Worker("spool-encode", self._intake.run, on_end)
        self._writing = Worker("spool-write", self._spool.run, on_end)
        self._draining = Worker("spool-drain", self._drain.run, on_end)

    def start(self) -> None:
        """Start the threads; wait a moment for the file, so that a daemon that is ready can spool.

        Raises InUseError when another daemon has the file.
        """
        for worker in (self._writing, self._encoding, self._draining):
            worker.start()
        if not self._spool.wait_until_open(_OPEN_S):
            get_logger("spool").warning("the disk is slow: the spool is not open yet")
        if (error := self._spool.in_use) is not None:
            self.stop(time.monotonic() + _OPEN_S)
            raise error

    def finish_delivery(self, deadline_s: float) -> None:
        """Deliver no more; wait a moment, at most until `deadline_s`, for the answer to the last record.

        Without it the record stays on the disk.
        """
        self._drain.close()
        self._draining.wait(min(deadline_s, time.monotonic() + _LAST_ANSWER_S))

    def stop(self, deadline_s: float) -> bool:
        """Commit what was taken, close the file, end the threads; whether all ended by `deadline_s`."""
        self._drain.close()
        self._intake.close()
        # What is still to be encoded must not take the time that the commit needs.
        half_s = (time.monotonic() + deadline_s) / 2
        encoded = self._encoding.ended_by(half_s)
        self._spool.close()
        written = self._writing.ended_by(deadline_s)
        return self._draining.ended_by(deadline_s) and encoded and written
