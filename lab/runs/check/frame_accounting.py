"""Checks that every captured frame of a run has exactly one ending, and that no accepted frame is lost.

Endings are a first result (`edge`, `cloud`, `edge_degraded`) or a `dropped` event. A revision follows a first
result, comes from the cloud, and comes once; after a restart it may come again, because delivery from disk
is at least once. A frame whose `spool` event says `accepted` ends there too: `answered` (then there is a
revision), `evicted`, `expired`, `corrupt` or `failed`, or it still waits.

A run of the daemon is known by its boot id, the part of a frame id between camera and number. A run with a
`stopped` event must account for every frame that it captured. A killed run has none: its last frames may be
missing, as many as its queues and its link held. Lines that begin without a `started` event begin in the
middle of a run, because older files were rotated away: what that run did before them is not asked for.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from spillover.common.types import AnsweredBy
from spillover.edge.results.delivery import EventKind
from spillover.edge.sinks.record import is_event

_ENDINGS = frozenset(ending.value for ending in AnsweredBy)
_TAIL_FRAMES = 64
"""How many of the last frames of a killed run may be missing."""
_MAX_EXAMPLES = 5
_FIRST = f'{{"event":"{EventKind.STARTED.value}"'.encode()


class _Line(msgspec.Struct, frozen=True):
    """The fields of a result that are checked."""

    frame_id: str
    sequence: int
    answered_by: str
    revision: int
    reused_from: str = ""


class _Event(msgspec.Struct, frozen=True):
    """The fields of an event that are checked."""

    event: str
    frame_id: str = ""
    boot_id: str = ""
    fate: str = ""
    captured: int = -1


@dataclass(slots=True)
class _Boot:
    """One run of the daemon."""

    endings: Counter[int] = field(default_factory=Counter)
    captured: int | None = None
    last: bool = True
    is_cut: bool = False
    """Whether its beginning is not in the lines."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The outcome of the check; `violations` is empty when every frame is accounted for."""

    frames: int
    endings: dict[str, int]
    revisions: int
    repeated_revisions: int
    accepted: int
    """Frames that the spool accepted."""
    fates: dict[str, int]
    """How those ended."""
    boots: int
    killed: int
    """Runs without a `stopped` event."""
    missing_at_kill: int
    before: int
    """Frames of the first run from before the lines begin."""
    torn_lines: int
    violations: tuple[str, ...]


class FrameAccounting:
    """Takes the lines of results and events in order; `report` gives the outcome so far."""

    def __init__(self) -> None:
        self._boots: dict[str, _Boot] = {}
        self._first: Counter[str] = Counter()
        self._endings: Counter[str] = Counter()
        self._revised: Counter[str] = Counter()
        self._revisions_after: dict[str, set[int]] = defaultdict(set)
        self._fates: dict[str, list[str]] = defaultdict(list)
        self._reused: dict[str, str] = {}
        """A frame whose answer was given again, and one of those that have it."""
        self._torn = 0
        self._torn_first = 0
        self._starts = 0
        self._violations: list[str] = []
        self._line = msgspec.json.Decoder(_Line)
        self._event = msgspec.json.Decoder(_Event)

    def add(self, lines: Iterable[bytes]) -> None:
        """Take the next lines in."""
        for line in lines:
            try:
                if is_event(line):
                    self._take_event(self._event.decode(line))
                else:
                    self._take_result(self._line.decode(line))
            except msgspec.DecodeError:
                self._torn += 1
                self._torn_first += _begins_run(line)

    def report(self, *, on_disk: Collection[str] | None = None) -> AuditReport:
        """The outcome so far; more lines may follow.

        `on_disk` are the frames in the spool's file, where accepted frames may wait; None leaves that
        unchecked.
        """
        violations = list(self._violations)
        killed = [boot for boot in self._boots.values() if boot.captured is None]
        before = sum(map(_before, self._boots.values()))
        missing = sum(_close(name, boot, violations) for name, boot in self._boots.items())
        self._close_revisions(violations)
        self._close_reused(violations)
        fates = self._close_spool(on_disk, violations)
        # A run that was killed while it wrote its first line left that torn line alone.
        cut_off = len(killed) + self._torn_first
        if self._torn > cut_off:
            violations.append(f"{self._torn} lines cannot be read, but only {cut_off} runs were killed")
        return AuditReport(
            frames=sum(self._first.values()),
            endings=dict(self._endings),
            revisions=sum(self._revised.values()),
            repeated_revisions=sum(count - 1 for count in self._revised.values()),
            accepted=len(self._fates),
            fates=dict(fates),
            boots=len(self._boots),
            killed=len(killed),
            missing_at_kill=missing,
            before=before,
            torn_lines=self._torn,
            violations=tuple(violations),
        )

    def _take_result(self, line: _Line) -> None:
        if line.revision:
            if line.answered_by != "cloud":
                self._violations.append(f"{line.frame_id}: revision {line.revision} by {line.answered_by}")
            self._revised[line.frame_id] += 1
            if self._starts in self._revisions_after[line.frame_id]:
                self._violations.append(f"{line.frame_id}: the same revision twice in one run")
            self._revisions_after[line.frame_id].add(self._starts)
            return
        if line.answered_by not in _ENDINGS:
            self._violations.append(f"{line.frame_id}: answered by {line.answered_by!r}")
        self._end(line.frame_id, line.answered_by)
        if line.reused_from:
            self._reused[line.reused_from] = line.frame_id

    def _boot(self, boot_id: str) -> _Boot:
        """A run by its id; one that was never said to start had begun before the lines."""
        if boot_id not in self._boots:
            self._boots[boot_id] = _Boot(is_cut=not self._boots and not self._torn_first)
        return self._boots[boot_id]

    def _take_event(self, event: _Event) -> None:
        match event.event:
            case EventKind.STARTED.value:
                self._starts += 1
                self._boots.setdefault(event.boot_id, _Boot())
            case EventKind.STOPPED.value:
                self._boot(event.boot_id).captured = event.captured
            case EventKind.DROPPED.value:
                self._end(event.frame_id, "dropped")
            case EventKind.SPOOL.value:
                self._fates[event.frame_id].append(event.fate)

    def _end(self, frame_id: str, ending: str) -> None:
        _, boot_id, sequence = frame_id.rsplit("-", 2)
        self._boot(boot_id).endings[int(sequence)] += 1
        self._first[frame_id] += 1
        self._endings[ending] += 1
        if self._first[frame_id] > 1:
            self._violations.append(f"{frame_id}: {self._first[frame_id]} endings")

    def _close_revisions(self, violations: list[str]) -> None:
        killed = {name for name, boot in self._boots.items() if boot.captured is None}
        for frame_id in self._revised:
            boot_id, sequence = frame_id.rsplit("-", 2)[1:]
            if boot_id in self._boots and int(sequence) < _cut_until(self._boots[boot_id]):
                continue
            if not self._first[frame_id] and boot_id not in killed and boot_id in self._boots:
                violations.append(f"{frame_id}: a revision without a first result")

    def _close_reused(self, violations: list[str]) -> None:
        """An answer that was given again is that of an earlier frame of the run, which has its own ending."""
        for looked_at, frame_id in self._reused.items():
            run, number = looked_at.rpartition("-")[::2]
            own_run, own_number = frame_id.rpartition("-")[::2]
            is_earlier = run == own_run and number.isdigit() and int(number) < int(own_number)
            if not is_earlier:
                violations.append(f"{frame_id}: its answer is that of {looked_at}, which is no earlier frame")
            elif not (self._first[looked_at] or self._is_cut(looked_at) or self._was_killed(looked_at)):
                violations.append(f"{frame_id}: its answer is that of {looked_at}, which has no result")

    def _was_killed(self, frame_id: str) -> bool:
        """Whether the frame's run has no end in the lines, so that its newest frames may be missing."""
        boot = self._boots.get(frame_id.rsplit("-", 2)[1])
        return boot is not None and boot.captured is None

    def _is_cut(self, frame_id: str) -> bool:
        """Whether the frame's run has a beginning that is not in the lines."""
        boot = self._boots.get(frame_id.rsplit("-", 2)[1])
        return boot is not None and boot.is_cut

    def _close_spool(self, on_disk: Collection[str] | None, violations: list[str]) -> Counter[str]:
        """The fates of accepted frames: by their events, or by the revision that proves an answer."""
        fates: Counter[str] = Counter()
        for frame_id, events in self._fates.items():
            ended = [fate for fate in events if fate != "accepted"]
            if ended:
                fates[ended[-1]] += 1
            elif self._revised[frame_id]:
                fates["answered"] += 1
            else:
                fates["waiting"] += 1
                if on_disk is not None and frame_id not in on_disk:
                    violations.append(f"{frame_id}: accepted by the spool, and lost")
            if "answered" in events and not self._revised[frame_id] and not self._is_cut(frame_id):
                violations.append(f"{frame_id}: reported as answered, but there is no revision")
        return fates


def _cut_until(boot: _Boot) -> int:
    """The frame up to which some may be missing because lines were rotated away; 0 if none were."""
    return min(boot.endings, default=0) + _TAIL_FRAMES if boot.is_cut else 0


def _before(boot: _Boot) -> int:
    """How many frames there were before the lines begin."""
    return sum(
        not boot.endings[number]
        for number in range(_cut_until(boot))
        if number <= max(boot.endings, default=-1)
    )


def _close(boot_id: str, boot: _Boot, violations: list[str]) -> int:
    """Add what is missing to `violations`; returns how many missing frames a kill explains."""
    captured = max(boot.endings, default=-1) + 1 if boot.captured is None else boot.captured
    missing = [number for number in range(_cut_until(boot), captured) if not boot.endings[number]]
    excused = [n for n in missing if boot.captured is None and n >= captured - _TAIL_FRAMES]
    if wrong := sorted(set(missing) - set(excused)):
        violations.append(
            f"run {boot_id}: {len(wrong)} of {captured} frames have no ending: {wrong[:_MAX_EXAMPLES]}"
        )
    if boot.captured is not None and (beyond := [n for n in boot.endings if n >= captured]):
        violations.append(f"run {boot_id}: frames beyond those captured: {beyond[:_MAX_EXAMPLES]}")
    return len(excused)


def _begins_run(torn: bytes) -> bool:
    """Whether this is the rest of a `started` event, the first line of every run that writes events."""
    return _FIRST.startswith(torn.rstrip(b"\n")[: len(_FIRST)])
