"""The evidence of one daemon: its threads, and what results and events name of it."""

import time
from collections.abc import Sequence
from dataclasses import replace

from spillover.common.types import Result
from spillover.edge.evidence.clips import ENCODERS, Clips
from spillover.edge.evidence.snapshots import Snapshots
from spillover.edge.evidence.store import Store
from spillover.edge.results.delivery import EventKind, Fields
from spillover.edge.runtime.parts import OnEnd, Worker
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.collectors import EvidenceState
from spillover.edge.telemetry.frame_events import FrameEvents

_CLIPS_SHARE = 0.8
"""Of the time for the stop; what still makes a clip then is killed."""


class Evidence:
    """Keeps pictures and clips of frames. `watch` comes before the start of the pipelines."""

    def __init__(self, store: Store, snapshots: Snapshots, clips: Clips | None, on_end: OnEnd) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clips = clips
        self._writer = Worker("evidence", snapshots.run, on_end)
        self._makers = list[Worker]()
        if clips is not None:
            self._makers = [Worker(f"clip {number}", clips.make, on_end) for number in range(ENCODERS)]
            self._makers.append(Worker("clip-ring", clips.run, on_end))

    def watch(self, streams: Sequence[CameraStream], events: FrameEvents) -> None:
        """Have the pipelines show their frames, and results and events named."""
        for stream in streams:
            stream.pipeline.watch(self._snapshots.look)
            stream.pipeline.listen(self._snapshots.answered)
            if self._clips:
                stream.pipeline.watch(self._clips.look)
        events.name_evidence(self)

    def of_result(self, result: Result) -> str:
        """The name of the picture of its frame; empty where none is kept."""
        return self._snapshots.of_result(result)

    def of_event(self, kind: EventKind, fields: Fields) -> Fields:
        """What names the evidence of a tracked object's event."""
        frame_id = str(fields["frame_id"])
        names = {"snapshot": self._snapshots.of_event(kind, frame_id)}
        if self._clips:
            names["clip"] = self._clips.of_event(kind, frame_id)
        return {key: name for key, name in names.items() if name}

    def state(self) -> EvidenceState:
        """The evidence now."""
        return replace(self._store.state(), ring_bytes=self._clips.ring_bytes if self._clips else 0)

    def start(self) -> None:
        """Start the threads."""
        for worker in (self._writer, *self._makers):
            worker.start()

    def stop(self, deadline_s: float) -> bool:
        """End clips where they are, write what is queued; whether all ended by `deadline_s` (monotonic)."""
        self._snapshots.close()
        if self._clips:
            now_s = time.monotonic()
            self._clips.close()
            for maker in self._makers:
                maker.wait(now_s + _CLIPS_SHARE * (deadline_s - now_s))
            self._clips.give_up()
        ended = [worker.ended_by(deadline_s) for worker in (*self._makers, self._writer)]
        if all(ended):
            self._store.close()
        else:
            self._snapshots.give_up()
        return all(ended)
