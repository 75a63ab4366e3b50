"""Frames of tracked boxes for the tests of events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.edge.events.machine import State, judge, see
from spillover.edge.events.values import Line, ObjectEvent, Rules, Sighting, Verdict, Zone

WIDTH, HEIGHT = 200, 100
LEFT_HALF = Zone("left", np.array([[0, 0], [0.5, 0], [0.5, 1], [0, 1]], np.float64))
DOWN = Line("gate", np.array([0.0, 0.5]), np.array([1.0, 0.5]))
"""From the left border to the right one: `in` is down."""


@dataclass
class At:
    """One box: its track, and where its lower edge's middle is, in shares."""

    track_id: int
    x: float
    y: float
    class_id: int = 0
    confidence: float = 0.5
    by_cloud: bool = False
    side: float = 4.0
    """Of the box, in pixels."""


def sighting(number: int, boxes: Sequence[At], ended: Iterable[int] = (), fps: float = 10.0) -> Sighting:
    """Frame `number` of a camera."""
    xyxy = [
        (b.x * WIDTH - b.side / 2, b.y * HEIGHT - b.side, b.x * WIDTH + b.side / 2, b.y * HEIGHT)
        for b in boxes
    ]
    return Sighting(
        frame_id=f"cam-b-{number}",
        sequence=number,
        at_s=100 + number / fps,
        at_unix_s=1.7e9 + number / fps,
        width=WIDTH,
        height=HEIGHT,
        xyxy=np.array(xyxy, np.float64).reshape(-1, 4).astype(np.float32),
        confidence=np.array([b.confidence for b in boxes], np.float32),
        class_id=np.array([b.class_id for b in boxes], np.int32),
        track_id=np.array([b.track_id for b in boxes], np.int64),
        by_cloud=np.array([b.by_cloud for b in boxes], np.bool_),
        ended=tuple(ended),
    )


class Watched:
    """A camera whose events are kept."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state = State()
        self.told: list[ObjectEvent] = []
        self._number = 0

    def frame(self, *boxes: At, ended: Iterable[int] = ()) -> list[str]:
        """The next frame; its events as `kind[:where] track phase`."""
        self.state, told = see(self.rules, self.state, sighting(self._number, boxes, ended))
        self._number += 1
        return self._note(told)

    def answer(
        self, shown: Iterable[int] = (), seen: Iterable[int] = (), frame_id: str = "late"
    ) -> list[str]:
        """A cloud answer to a frame with these tracks."""
        verdict = Verdict(frame_id, frozenset(shown), dict.fromkeys(seen, 0.9))
        self.state, told = judge(self.state, verdict)
        return self._note(told)

    def _note(self, told: Sequence[ObjectEvent]) -> list[str]:
        self.told += told
        return [in_words(event) for event in told]


def in_words(event: ObjectEvent) -> str:
    """`enter:left 7 provisional`, `cross:gate:in 7 confirmed`."""
    where = "".join(f":{part}" for part in (event.zone, event.line, event.direction) if part)
    return f"{event.kind.value}{where} {event.track_id} {event.phase.value}"
