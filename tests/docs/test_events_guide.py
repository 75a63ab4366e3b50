"""The worked example of docs/guides/events.md: what the page shows is what comes out."""

import json
from pathlib import Path

import numpy as np
import yaml

from spillover.common.config import parse_config
from spillover.common.types import Detections, Frame, ModelId, SeenBy, TrackMark
from spillover.edge.assembly.events import rules_for
from spillover.edge.config import EventsConfig
from spillover.edge.events.reporter import ObjectEvents
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.frame_clock import FrameClock
from spillover.edge.sinks.record import encode_event
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.tracking.stage import Shown
from spillover.edge.uplink.outcome import CloudAnswer
from tests.support.documents import Page

PAGE = Page(Path("docs/guides/events.md"))
FPS = 5
WAY = [(0.25, 0.30)] * 4 + [(0.25, 0.35), (0.25, 0.45), (0.25, 0.55), (0.25, 0.75)]
"""A person walks down the picture, to the door."""
WAITS, LEAVES = 100, [(0.35, 0.75), (0.55, 0.75)]


def _boxes(x: float, y: float) -> Detections:
    xyxy = np.array([[x * 640 - 20, y * 480 - 80, x * 640 + 20, y * 480]], np.float32)
    return Detections(xyxy, np.full(1, 0.6, np.float32), np.zeros(1, np.int32))


def _frame(number: int) -> Frame:
    image = np.zeros((480, 640, 3), np.uint8)
    return Frame(image, f"front-5d2c-{number}", number, "front", 100 + number / FPS, 1.7e9 + number / FPS)


def _told(events: ObjectEvents, put: list[Event]) -> list[dict[str, object]]:
    """Walk, be seen by the cloud in the zone, wait, leave."""
    settle, number = None, 0
    for number, at in enumerate([*WAY, *[WAY[-1]] * WAITS, *LEAVES]):
        shown = Shown(_boxes(*at), tracks=(TrackMark(7, SeenBy.EDGE, 0.0),))
        events.see(_frame(number), shown)
        if settle:
            settle(
                CloudAnswer(
                    shown.prediction,
                    ModelId("big", "1"),
                    0.1,
                    0,
                    0,
                    0,
                    tracks=(TrackMark(7, SeenBy.CLOUD, 0.0),),
                )
            )
        settle = events.sent(_frame(number), shown) if at == WAY[5] else None
    events.see(_frame(number + 1), Shown(_boxes(0, 0)[:0], tracks=(), ended=(7,)))
    return [json.loads(encode_event(event)) for event in put]


def test_the_worked_example_says_what_comes_out() -> None:
    """The section of edge.yaml, a person's way, and line by line the events that the page shows."""
    section = yaml.safe_load(PAGE.blocks("yaml")[0])["events"]
    config = parse_config(yaml.safe_dump(section), EventsConfig, "events.md")
    put: list[Event] = []

    def keep(item: object) -> DeliveryAck:
        assert isinstance(item, Event)
        put.append(item)
        return DeliveryAck(0)

    report = FrameEvents(Metrics(), keep, FrameClock("5d2c"))
    labels = ("person", "dog")
    events = ObjectEvents("front", rules_for(config, labels, None, "events"), labels, report.happened)
    events.start()
    started = len(put)
    told = _told(events, put)[started:]
    shown = [json.loads(line) for line in PAGE.blocks("text")[0].splitlines()]
    assert [one["event"] for one in shown] == [one["event"] for one in told]
    for line, happened in zip(shown, told, strict=True):
        assert line == {key: happened[key] for key in line}
