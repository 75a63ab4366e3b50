"""The spool with its threads: what the daemon builds when `spool` is configured."""

import time
from collections.abc import Callable
from pathlib import Path

from spillover.common.types import Frame, Result
from spillover.edge.config import SpoolConfig
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.runtime.worker import OnEnd, Worker
from spillover.edge.spool.drain import Drain, DrainLimits
from spillover.edge.spool.intake import Intake
from spillover.edge.spool.spool import OnFate, OnRefused, Spool, SpoolLimits
from spillover.edge.uplink.base import Uplink


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
        """Start the threads."""
        for worker in (self._writing, self._encoding, self._draining):
            worker.start()

    def stop_draining(self, timeout_s: float) -> None:
        """Stop delivering; a record in delivery is finished within `timeout_s` seconds or stays spooled."""
        self._drain.close()
        self._draining.join(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Commit what was accepted and close the file; at most `timeout_s` seconds a thread."""
        self._intake.close()
        self._encoding.join(timeout_s)
        self._spool.close()
        self._writing.join(timeout_s)
