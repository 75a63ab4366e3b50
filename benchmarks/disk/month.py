"""Writes the frames of a month to the sinks and to the spool, as fast as they take them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.common.types import Action, AnsweredBy, Decision, Detections, ModelId, Result, Timings
from spillover.edge.config.keeping import SpoolConfig
from spillover.edge.config.sinks import DecisionDetail, JsonLinesConfig, SqliteConfig
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.record import record_encoder
from spillover.edge.sinks.sink import Sink
from spillover.edge.sinks.sqlite import SqliteSink
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Offer, SpoolLimits

_DAY_S = 86_400.0
_START_UNIX_S = 1.76e9
_EVENT_EVERY = 20
_SPOOLED_EVERY = 50
"""One frame of so many was worth a late answer while the link was down."""
_BOXES, _INPUTS = 6, 45
"""A street by day, and what the policy reads with one smaller picture to choose from."""
_SHM_BYTES = 32_768
"""SQLite's index of its write-ahead log, which does not grow with the file."""
_random = random.Random
_LABELS = [f"class-{number}" for number in range(80)]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of file: what was written, what the disk held at most, and what is left."""

    what: str
    frames: int
    written_bytes: int
    largest_bytes: int
    bound_bytes: int
    kept_days: float


def write_month(folder: Path, days: float, fps: float, scale: int, detail: DecisionDetail) -> Iterator[Row]:
    """Write `days` of frames at `fps`, frames and bounds divided by `scale`, in a folder that is empty."""
    lines, rows, waiting = JsonLinesConfig(), SqliteConfig(path=""), SpoolConfig(path="")
    encode = record_encoder(_LABELS, inputs=detail is DecisionDetail.FULL)
    frames, step_s = round(days * _DAY_S * fps / scale), scale / fps
    rotate_bytes, max_bytes = int(lines.rotate_mb * 1e6 / scale), int(rows.max_mb * 1e6 / scale)
    # A flush is small beside the bounds, as it is in the field, and there are not more of them than needed.
    flush_every = min(50, max(5, 5000 // scale))
    month = _Month(folder, frames, step_s, flush_every, len(encode(_result(0, 0.0, _random(0)))))
    yield month.write(
        "jsonl",
        JsonLinesSink(
            str(folder / "jsonl"), encode, rotate_bytes=rotate_bytes, rotate_keep=lines.rotate_keep
        ),
        rotate_bytes * (1 + lines.rotate_keep),
    )
    yield month.write(
        "sqlite",
        SqliteSink(str(folder / "sqlite"), encode, rows.keep_days, max_bytes),
        # What one flush adds to the log comes on top: the rows, those that go for them, and the indices.
        max_bytes + _SHM_BYTES + 5 * flush_every * month.record_bytes,
    )
    yield month.spool(int(waiting.max_mb * 1e6 / scale))


class _Month:
    """So many frames, `step_s` apart, and a folder to write them in."""

    def __init__(self, folder: Path, frames: int, step_s: float, flush_every: int, record_bytes: int) -> None:
        self._folder = folder
        self._frames = frames
        self._step_s = step_s
        self._flush_every = flush_every
        self.record_bytes = record_bytes

    def write(self, what: str, sink: Sink, bound_bytes: int) -> Row:
        """Through one sink."""
        rng, largest = _random(1), 0
        for number in range(self._frames):
            at_unix_s = _START_UNIX_S + number * self._step_s
            sink.write(_result(number, at_unix_s, rng))
            if not number % _EVENT_EVERY:
                sink.tell(
                    Event(
                        EventKind.DROPPED, at_unix_s, {"frame_id": f"camera-b-{number}", "sequence": number}
                    )
                )
            if not number % self._flush_every:
                sink.flush()
                largest = max(largest, self._used(what))
        sink.flush()
        sink.close()
        left = self._used(what)
        kept_days = left / self.record_bytes * self._step_s / _DAY_S
        return Row(
            what, self._frames, self._frames * self.record_bytes, max(largest, left), bound_bytes, kept_days
        )

    def spool(self, max_bytes: int) -> Row:
        """Through the spool, whose link is down all the time."""
        rng, now_s, written, largest = _random(2), 0.0, 0, 0
        limits = SpoolLimits(max_bytes, SpoolConfig(path="").max_age_s)
        spool = Spool(self._folder / "spool", limits, lambda: now_s, lambda *_: None, lambda _: None)
        offers = range(0, self._frames, _SPOOLED_EVERY)
        for number in offers:
            now_s = number * self._step_s
            body = rng.randbytes(rng.randrange(15_000, 45_000))
            spool.step([Offer(rng.random(), f"camera-b-{number}", body)])
            written += len(body)
            largest = max(largest, self._used("spool"))
        kept_days = spool.state().oldest_age_s / _DAY_S
        spool.close()
        spool.run()
        return Row("spool", len(offers), written, largest, max_bytes, kept_days)

    def _used(self, what: str) -> int:
        """Bytes of the files that belong to one kind."""
        return sum(path.stat().st_size for path in self._folder.glob(f"{what}*"))


def _result(number: int, at_unix_s: float, rng: random.Random) -> Result:
    """What a detector's daemon says of a frame that it would have liked to send."""
    corners = np.array([[rng.uniform(0, 640) for _ in range(4)] for _ in range(_BOXES)], np.float32)
    confidences = np.array([rng.uniform(0.3, 1) for _ in range(_BOXES)], np.float32)
    classes = np.array([rng.randrange(80) for _ in range(_BOXES)], np.int32)
    inputs = {f"a_number_of_the_rules.{index}": rng.random() for index in range(_INPUTS)}
    return Result(
        frame_id=f"camera-5f0c2a9be1d4-{number}",
        camera_id="camera",
        sequence=number,
        captured_unix_s=at_unix_s,
        source="",
        answered_by=AnsweredBy.EDGE,
        prediction=Detections(corners, confidences, classes),
        model=ModelId("fastestdet", "1"),
        decision=Decision(
            Action.KEEP, "score<threshold", rng.random(), rng.random(), inputs, score=rng.random()
        ),
        timings=Timings(*(rng.random() for _ in range(11))),
    )
