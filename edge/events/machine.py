"""The events' state machine. Pure: a state and what was seen give the next state and what is to be told.

An object counts from the first frame on in which it has a wanted class, size and age, and remains counted
until its track ends. It is in a zone from the frame on in which its anchor is inside, until that is outside
by more than `CLEAR`; over a line once its anchor is as far from it. So a box that trembles on a border is
told once. A track that is hidden for a few frames keeps its place; one that ends leaves its zones, and so
does one that is hidden for long, which appears anew if it comes back. Who is in
a zone *now* is another question: those that the newest frame shows there.

The cloud settles what only the edge has seen: an answer in which the object is confirms its events, an answer
to a frame that showed it and in which it is not withdraws them. After that nothing is told of the object
unless the cloud sees it later; then it appears anew. What no answer judges stays provisional.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from spillover.edge.events.geometry import (
    Floats,
    Mask,
    Steps,
    anchors,
    crossings,
    distance_to_sides,
    in_polygon,
)
from spillover.edge.events.values import (
    Counts,
    Direction,
    Line,
    ObjectEvent,
    Phase,
    Rules,
    Sighting,
    Verdict,
    Zone,
)
from spillover.edge.results.delivery import EventKind

CLEAR = 0.01
"""So far from a border, in shares of the frame, an object is surely on the other side."""
FORGET_S = 2.0
"""A track that was not shown for so long counts as ended."""
MOST_OPEN = 64
"""So many events of one object wait for the cloud's word; older ones stay provisional."""
MOST_GONE = 1024
"""So many ended tracks wait for it; those that ended first stay provisional."""


@dataclass(frozen=True, slots=True)
class Stay:
    """An object in a zone."""

    since_s: float
    class_id: int
    """The last one that the zone wants."""
    dwelt: bool = False


@dataclass(frozen=True, slots=True)
class Track:
    """What is kept of one object."""

    first_s: float
    seen_s: float
    class_id: int
    anchor: tuple[float, float]
    best_frame_id: str
    best_confidence: float
    counts: bool = False
    """Whether it has appeared."""
    confirmed: bool = False
    denied: bool = False
    stays: Mapping[str, Stay] = field(default_factory=dict)
    """By zone."""
    crossing: Mapping[str, int] = field(default_factory=dict)
    """By line: crossings to the right less those to the left, since it was clear of the line."""
    open: tuple[ObjectEvent, ...] = ()
    """Its provisional events."""


@dataclass(frozen=True, slots=True)
class State:
    """What is kept of one camera."""

    tracks: Mapping[int, Track] = field(default_factory=dict)
    gone: Mapping[int, Track] = field(default_factory=dict)
    """Ended tracks with provisional events, in the order of their ends."""
    crossed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Crossings by line and direction."""
    at_s: float = -math.inf
    """When the newest frame was captured."""


Told = tuple[ObjectEvent, ...]


def see(rules: Rules, state: State, seen: Sighting) -> tuple[State, Told]:
    """The next frame; frames come in order."""
    tracks, gone, told = dict(state.tracks), dict(state.gone), list[ObjectEvent]()
    view = _View.of(rules, state, seen)
    for row, track_id in view.rows:
        before = tracks.get(track_id) or _come_back(gone.pop(track_id, None))
        tracks[track_id], new = _advance(rules, before, view, row, track_id)
        told += new
    late_s = seen.at_s - FORGET_S
    # What was withdrawn is known until the tracker ends it: it must not appear again.
    stale = [number for number, track in tracks.items() if track.seen_s < late_s and not track.denied]
    for track_id in (*seen.ended, *stale):
        if (track := tracks.pop(track_id, None)) is not None:
            ended, new = _end(rules, track, seen, track_id)
            told += new
            if ended.open:
                gone[track_id] = replace(ended, seen_s=seen.at_s)
    due_s = seen.at_s - rules.settle_s
    waiting = [(number, track) for number, track in gone.items() if track.seen_s >= due_s]
    crossed = _counted(state.crossed, told)
    return State(tracks, dict(waiting[-MOST_GONE:]), crossed, seen.at_s), tuple(told)


def judge(state: State, verdict: Verdict) -> tuple[State, Told]:
    """A cloud answer, whether its frame is the newest or one of long ago."""
    tracks, gone, told = dict(state.tracks), dict(state.gone), list[ObjectEvent]()
    for track_id in sorted({*verdict.shown, *verdict.seen}):
        home = tracks if track_id in tracks else gone
        if (track := home.get(track_id)) is None:
            continue
        confidence = verdict.seen.get(track_id)
        if confidence is not None:
            if confidence > track.best_confidence:
                track = replace(track, best_frame_id=verdict.frame_id, best_confidence=confidence)
            track, new = _confirmed(track)
        else:
            track, new = _denied(track)
        told += new
        if home is gone:
            del gone[track_id]
        else:
            tracks[track_id] = track
    return replace(state, tracks=tracks, gone=gone, crossed=_counted(state.crossed, told)), tuple(told)


def kept(rules: Rules, state: State) -> State:
    """What goes on under other rules: objects, and zones and lines that are there still, known by name."""
    zones, lines = {zone.name for zone in rules.zones}, {line.name for line in rules.lines}
    tracks = {
        number: replace(
            track,
            stays={name: stay for name, stay in track.stays.items() if name in zones},
            crossing={name: net for name, net in track.crossing.items() if name in lines},
        )
        for number, track in state.tracks.items()
    }
    return replace(state, tracks=tracks)


def counts(rules: Rules, state: State) -> Counts:
    """Who is in the zones on the newest frame, and what the lines have counted.

    A track that is hidden is most often one that the cloud no longer sees, or has another number now: counted
    on, it made occupancy of a street scene 1 to 2 persons too high.
    """
    inside: dict[str, dict[int, int]] = {zone.name: {} for zone in rules.zones}
    for track in state.tracks.values():
        if track.seen_s < state.at_s:
            continue
        for name, stay in track.stays.items():
            by_class = inside[name]
            by_class[stay.class_id] = by_class.get(stay.class_id, 0) + 1
    lines = {
        line.name: {one: state.crossed.get((line.name, one.value), 0) for one in Direction}
        for line in rules.lines
    }
    return Counts(inside, lines)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One frame against all zones and lines at once."""

    seen: Sighting
    rows: tuple[tuple[int, int], ...]
    """Row and track of each box that can be used."""
    anchors: Floats
    size: Floats
    inside: tuple[Mask, ...]
    """By zone."""
    outside: tuple[Mask, ...]
    """By zone: surely outside."""
    moves: tuple[Steps, ...]
    """By line: 1, -1 or 0."""
    clear: tuple[Mask, ...]
    """By line: surely on one side."""

    @classmethod
    def of(cls, rules: Rules, state: State, seen: Sighting) -> "_View":
        usable = np.isfinite(seen.xyxy).all(axis=1) & np.isfinite(seen.confidence)
        xyxy = np.where(usable[:, None], seen.xyxy, 0).astype(np.float64)
        points = anchors(xyxy, seen.width, seen.height)
        before = points.copy()
        rows: dict[int, int] = {}
        for row in np.flatnonzero(usable).tolist():
            track_id = int(seen.track_id[row])
            if track_id not in rows:  # of two boxes of one track the more confident one
                rows[track_id] = row
                if (track := state.tracks.get(track_id)) is not None:
                    before[row] = track.anchor
        zones = [in_polygon(points, zone.corners) for zone in rules.zones]
        area = np.clip(xyxy[:, 2:] - xyxy[:, :2], 0, None).prod(axis=1)
        return cls(
            seen,
            tuple((row, track_id) for track_id, row in rows.items()),
            points,
            area / (seen.width * seen.height),
            tuple(inside for inside, _ in zones),
            tuple(~inside & (distance > CLEAR) for inside, distance in zones),
            tuple(crossings(before, points, line.start, line.end) for line in rules.lines),
            tuple(
                distance_to_sides(points, line.start[None], line.end[None]) >= CLEAR for line in rules.lines
            ),
        )


def _advance(
    rules: Rules, track: Track | None, view: _View, row: int, track_id: int
) -> tuple[Track, list[ObjectEvent]]:
    """One object in the next frame."""
    seen, told = view.seen, list[ObjectEvent]()
    class_id, confidence = int(seen.class_id[row]), float(seen.confidence[row])
    here = (float(view.anchors[row, 0]), float(view.anchors[row, 1]))
    if track is None:
        track = Track(seen.at_s, seen.at_s, class_id, here, seen.frame_id, confidence)
    best = confidence > track.best_confidence
    track = replace(
        track,
        seen_s=seen.at_s,
        class_id=class_id,
        anchor=here,
        best_frame_id=seen.frame_id if best else track.best_frame_id,
        best_confidence=confidence if best else track.best_confidence,
    )
    if seen.by_cloud[row]:
        track, told = _confirmed(track)
    if track.denied:
        return track, told
    teller, crossing = _Teller(seen, track_id, track), track.crossing
    if track.counts:
        crossing = dict(_crossed(rules.lines, view, row, track, teller))
    elif _is_wanted(rules, track, float(view.size[row]), seen.at_s):
        teller.tell(EventKind.APPEARED)
    else:
        return track, told
    stays = dict(_stays(rules.zones, view, row, track, teller))
    if teller.told or crossing != track.crossing or stays != track.stays:  # most frames change nothing
        track = replace(track, counts=True, crossing=crossing, stays=stays)
    return teller.into(track), told + teller.told


def _come_back(gone: Track | None) -> Track | None:
    """A track that counted as ended and is shown again: what was told of it waits for the cloud still."""
    return replace(gone, counts=False, stays={}, crossing={}) if gone else None


def _is_wanted(rules: Rules, track: Track, size: float, now_s: float) -> bool:
    if rules.classes and track.class_id not in rules.classes:
        return False
    return size >= rules.min_size and now_s - track.first_s >= rules.min_age_s


def _crossed(
    lines: Iterable[Line], view: _View, row: int, track: Track, teller: "_Teller"
) -> Iterator[tuple[str, int]]:
    """Tell what has crossed; give what is still under way."""
    for number, line in enumerate(lines):
        net = track.crossing.get(line.name, 0)
        if not line.classes or track.class_id in line.classes:
            net += int(view.moves[number][row])
        if not view.clear[number][row]:
            if net:
                yield line.name, net
        elif net:
            teller.cross(line, net)


def _stays(
    zones: Iterable[Zone], view: _View, row: int, track: Track, teller: "_Teller"
) -> Iterator[tuple[str, Stay]]:
    """Tell who enters, leaves and dwells; give who is inside."""
    now_s = view.seen.at_s
    for number, zone in enumerate(zones):
        stay, is_wanted = track.stays.get(zone.name), not zone.classes or track.class_id in zone.classes
        if stay is None:
            if not (view.inside[number][row] and is_wanted):
                continue
            stay = Stay(now_s, track.class_id)
            teller.tell(EventKind.ENTER, zone=zone.name)
        elif view.outside[number][row]:
            teller.tell(EventKind.LEAVE, zone=zone.name)
            continue
        elif is_wanted and stay.class_id != track.class_id:
            stay = replace(stay, class_id=track.class_id)
        if zone.dwell_s is not None and not stay.dwelt and now_s - stay.since_s >= zone.dwell_s:
            stay = replace(stay, dwelt=True)
            teller.tell(EventKind.DWELL, zone=zone.name)
        yield zone.name, stay


def _end(rules: Rules, track: Track, seen: Sighting, track_id: int) -> tuple[Track, list[ObjectEvent]]:
    """A track ends: it has crossed what it was crossing, leaves its zones, and is lost."""
    teller = _Teller(seen, track_id, track)
    if track.counts:
        for line in rules.lines:
            if net := track.crossing.get(line.name, 0):
                teller.cross(line, net)
        for name in track.stays:
            teller.tell(EventKind.LEAVE, zone=name)
        teller.tell(EventKind.LOST)
    return teller.into(track), teller.told


def _confirmed(track: Track) -> tuple[Track, list[ObjectEvent]]:
    if track.confirmed:
        return track, []
    settled = replace(track, confirmed=True, denied=False, open=())
    return settled, _settled(track, Phase.CONFIRMED)


def _denied(track: Track) -> tuple[Track, list[ObjectEvent]]:
    """The cloud did not see it; an object that it saw in another frame is there all the same."""
    if track.confirmed or track.denied:
        return track, []
    settled = replace(track, denied=True, counts=False, stays={}, crossing={}, open=())
    return settled, _settled(track, Phase.WITHDRAWN)


def _settled(track: Track, phase: Phase) -> list[ObjectEvent]:
    best = track.best_frame_id
    return [replace(one, phase=phase, best_frame_id=best, settles=True) for one in track.open]


def _counted(
    crossed: Mapping[tuple[str, str], int], told: Iterable[ObjectEvent]
) -> dict[tuple[str, str], int]:
    """The lines' counts with these events: a crossing counts when it is first told, and until withdrawn."""
    found = dict(crossed)
    for event in told:
        if event.kind is EventKind.CROSS:
            key = (event.line, event.direction)
            more = -1 if event.phase is Phase.WITHDRAWN else 0 if event.settles else 1
            found[key] = found.get(key, 0) + more
    return found


class _Teller:
    """Collects the events of one object in one frame."""

    def __init__(self, seen: Sighting, track_id: int, track: Track) -> None:
        self._seen = seen
        self._track_id = track_id
        self._track = track
        self._phase = Phase.CONFIRMED if track.confirmed else Phase.PROVISIONAL
        self.told: list[ObjectEvent] = []

    def tell(self, kind: EventKind, *, zone: str = "", line: str = "", direction: str = "") -> None:
        """Note an event."""
        seen, track = self._seen, self._track
        self.told.append(
            ObjectEvent(
                kind,
                self._phase,
                seen.frame_id,
                seen.sequence,
                seen.at_unix_s,
                self._track_id,
                track.class_id,
                track.best_frame_id,
                zone,
                line,
                direction,
            )
        )

    def cross(self, line: Line, net: int) -> None:
        """Note a crossing, if this line tells of that direction."""
        direction = Direction.IN if net > 0 else Direction.OUT
        if direction in line.directions:
            self.tell(EventKind.CROSS, line=line.name, direction=direction.value)

    def into(self, track: Track) -> Track:
        """The track with its new provisional events."""
        if self._phase is Phase.CONFIRMED or not self.told:
            return track
        return replace(track, open=(*track.open, *self.told)[-MOST_OPEN:])
