"""The items that sinks receive, results and events, and their delivery acknowledgements."""

import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class EventKind(enum.Enum):
    """The kinds of event; docs/reference/result.md lists the fields of each."""

    STARTED = "started"
    STOPPED = "stopped"
    DROPPED = "dropped"
    """A captured frame has no result."""
    CAMERA_STATE = "camera_state"
    CLOCK_SET = "clock_set"
    """The device's clock was set by several seconds; results before have wrong times."""
    LADDER = "ladder"
    """The device does less than before, or more: it is too hot, or short of memory or voltage."""
    HEALTH = "health"
    """The device's health, once a minute, for sinks that keep states and for `health.file` alone."""
    BREAKER = "breaker"
    """The circuit breaker changed its phase."""
    SPOOL = "spool"
    """A frame was accepted by the spool, or left it."""
    APPEARED = "appeared"
    """A tracked object is seen for the first time."""
    ENTER = "enter"
    """An object came into a zone."""
    LEAVE = "leave"
    """It went out of the zone, or its track ended there."""
    DWELL = "dwell"
    """It has been in the zone for `dwell_s`."""
    CROSS = "cross"
    """An object crossed a line."""
    LOST = "lost"
    """An object that appeared is seen no more."""
    ZONE_COUNT = "zone_count"
    """The number of objects in a zone has changed."""
    LINE_COUNT = "line_count"
    """The number of crossings of a line has changed."""
    EVIDENCE = "evidence"
    """A picture or a clip is on the disk."""


SNAPSHOT, BOXES, CLIP = ".jpg", ".boxes.jpg", ".mp4"
"""Endings of the names of evidence, which begin with that of a frame."""
OF_OBJECTS = frozenset(
    {
        EventKind.APPEARED,
        EventKind.ENTER,
        EventKind.LEAVE,
        EventKind.DWELL,
        EventKind.CROSS,
        EventKind.LOST,
    }
)
"""What a tracked object does."""

Fields = Mapping[str, Any]
"""Text, numbers, and below them the same again: what JSON has."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the daemon or to a frame; sinks receive it in order with the results."""

    kind: EventKind
    at_unix_s: float
    fields: Fields = field(default_factory=dict)

    @property
    def state_of(self) -> tuple[object, ...] | None:
        """What this is the newest state of, in place of the one before; None: it is no state."""
        camera_id = self.fields.get("camera_id")
        where = self.fields.get("zone") or self.fields.get("line")
        match self.kind:
            case EventKind.HEALTH | EventKind.CAMERA_STATE | EventKind.ZONE_COUNT | EventKind.LINE_COUNT:
                return self.kind, camera_id, where
            case EventKind.ENTER | EventKind.LEAVE | EventKind.DWELL:
                return "last event of zone", camera_id, where
            case EventKind.CROSS:
                return "last event of line", camera_id, where
        return None


class DeliveryAck:
    """Acknowledges one result or event: it is done with as soon as one of `sinks` sinks has stored it.

    Each sink calls `complete` once. Where no sink is to store it, or each has refused it for good, there is
    nothing to wait for either.
    """

    def __init__(self, sinks: int) -> None:
        self._open = sinks
        self._stored = self._again = False
        self._changed = threading.Condition()

    def complete(self, *, stored: bool, for_good: bool = False) -> None:
        """Note that one sink has stored the item, or has not; `for_good`: it would not next time either."""
        with self._changed:
            self._open -= 1
            self._stored |= stored
            self._again |= not (stored or for_good)
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool | None:
        """Wait until it is known whether the item is done with; None after `timeout_s` seconds.

        False: to bring it again may help.
        """
        with self._changed:
            known = self._changed.wait_for(lambda: self._stored or not self._open, timeout_s)
            return (self._stored or not self._again) if known else None
