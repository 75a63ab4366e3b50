"""The evidence of one daemon: its threads, and what results and events name of it."""

from collections.abc import Sequence

from spillover.common.types import Result
from spillover.edge.evidence.snapshots import Snapshots
from spillover.edge.evidence.store import Store
from spillover.edge.results.delivery import EventKind, Fields
from spillover.edge.runtime.parts import OnEnd, Worker
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.frame_events import FrameEvents


class Evidence:
    """Keeps pictures of frames. `watch` comes before the start of the pipelines."""

    def __init__(self, store: Store, snapshots: Snapshots, on_end: OnEnd) -> None:
        self._store = store
        self._snapshots = snapshots
        self._writer = Worker("evidence", snapshots.run, on_end)
        self.state = store.state

    def watch(self, streams: Sequence[CameraStream], events: FrameEvents) -> None:
        """Have the pipelines show their frames, and results and events named."""
        for stream in streams:
            stream.pipeline.watch(self._snapshots.look)
        events.name_evidence(self)

    def of_result(self, result: Result) -> str:
        """The name of the picture of its frame; empty where none is kept."""
        return self._snapshots.of_result(result)

    def of_event(self, kind: EventKind, fields: Fields) -> Fields:
        """What names the evidence of a tracked object's event."""
        name = self._snapshots.of_event(kind, str(fields["frame_id"]))
        return {"snapshot": name} if name else {}

    def start(self) -> None:
        """Start the thread."""
        self._writer.start()

    def stop(self, deadline_s: float) -> bool:
        """Write what is queued; tell whether that ended by `deadline_s` (monotonic)."""
        self._snapshots.close()
        has_ended = self._writer.ended_by(deadline_s)
        if not has_ended:
            self._snapshots.give_up()
        else:
            self._store.close()
        return has_ended
