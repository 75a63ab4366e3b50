"""The spool with its threads: what the daemon builds when `spool` is configured."""

import time
from collections.abc import Callable
from pathlib import Path

from spillover.common.types import Frame, Result
from spillover.edge.config import SpoolConfig
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.runtime.worker import OnEnd, Worker
from spillover.edge.spool.arena import Fate
from spillover.edge.spool.drain import Drain, DrainLimits
from spillover.edge.spool.intake import Intake
from spillover.edge.spool.spool import Spool, SpoolLimits, SpoolState
from spillover.edge.uplink.base import Uplink


class Forwarder:
    """Keeps frames for a late answer, on three threads: encode, write, deliver.

    `observe` hears of each frame's fate, `on_refused` of frames that were not taken; `emit` takes late
    results and gives the receipt for them.
    """

    def __init__(
        self,
        config: SpoolConfig,
        pack: Callable[[Frame], EncodedFrame],
        uplink: Uplink,
        observe: Callable[[Fate, str], None],
        on_refused: Callable[[str], None],
        emit: Callable[[Result], DeliveryAck],
        on_end: OnEnd,
    ) -> None:
        limits = SpoolLimits(int(config.max_mb * 1e6), config.max_age_s, config.commit_interval_s)
        self._spool = Spool(Path(config.path).expanduser(), limits, time.monotonic, observe)
        self._intake = Intake(self._spool, pack, on_refused)
        drain_limits = DrainLimits(config.answer_timeout_s, config.drain_bytes_per_s)
        self._drain = Drain(self._spool, uplink, drain_limits, emit)
        self.keep = self._intake.keep
        self.rescue = self._intake.rescue
        self._encoding = Worker("spool-encode", self._intake.run, on_end)
        self._writing = Worker("spool-write", self._spool.run, on_end)
        self._draining = Worker("spool-drain", self._drain.run, on_end)

    def state(self) -> SpoolState:
        """The spool's counters."""
        return self._spool.state()

    def start(self) -> None:
        """Start the threads."""
        for worker in (self._writing, self._encoding, self._draining):
            worker.start()

    def stop_draining(self, timeout_s: float) -> None:
        """Deliver no more; the record under way is finished within `timeout_s` or waits on."""
        self._drain.close()
        self._draining.join(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Commit what was taken and close the file."""
        self._intake.close()
        self._encoding.join(timeout_s)
        self._spool.close()
        self._writing.join(timeout_s)
