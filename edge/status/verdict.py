"""What a status amounts to: whether its sums hold, and what was lost."""

import enum
from collections.abc import Iterator

from spillover.edge.camera.source import CameraState
from spillover.edge.spool.values import Fate, Refusal
from spillover.edge.status.values import Counted, Status

_BY_DESIGN = frozenset({Refusal.LEAST_VALUABLE.value})
"""Refusals of a spool that is full and keeps what is worth more, as it does when it evicts."""
_GIVEN_UP = (Fate.EVICTED.value, Fate.EXPIRED.value)


class Verdict(enum.Enum):
    """From best to worst; the later one counts."""

    BALANCED = "the books balance"
    GIVEN_UP = "the sums hold; late answers were given up for want of room or time"
    FAILING = "nothing is lost yet, but something fails, and what waits for it may be"
    LOST = "RESULTS OR EVENTS ARE LOST"
    UNBALANCED = "THE BOOKS DO NOT BALANCE"


def verdict(status: Status) -> Verdict:
    """The worst that the status tells."""
    if not _sums_hold(status):
        return Verdict.UNBALANCED
    if any(losses(status)):
        return Verdict.LOST
    if any(failures(status)):
        return Verdict.FAILING
    return Verdict.GIVEN_UP if _given_up(status) else Verdict.BALANCED


def losses(status: Status) -> Iterator[str]:
    """A line for everything that was lost."""
    for sink in status.sinks:
        if sink.lost:
            yield f"sink {sink.name} has lost {total(sink.lost)} results: {listed(sink.lost)}"
        if sink.events_lost:
            yield f"sink {sink.name} has lost {total(sink.events_lost)} events: {listed(sink.events_lost)}"
    for name, lost in status.former_sinks_lost.items():
        yield f"sink {name}, which a reload took out, has lost {lost} results"
    if status.spool is None:
        return
    refused = {why: count for why, count in status.spool.refused.items() if why not in _BY_DESIGN}
    if refused:
        yield f"the spool has refused {total(refused)} frames, which get no late answer: {listed(refused)}"
    if corrupt := status.spool.fates.get(Fate.CORRUPT.value):
        yield f"{corrupt} frames of the spool were damaged"


def failures(status: Status) -> Iterator[str]:
    """A line for everything that does not work now, so that results or frames wait in memory."""
    for sink in status.sinks:
        if sink.failing:
            yield f"sink {sink.name} fails, and {sink.waiting} items wait in memory: {sink.last_error}"
    if status.spool is not None and status.spool.error:
        yield f"the spool cannot use its disk: {status.spool.error}"


def unready(status: Status) -> Iterator[str]:
    """A line for every camera that gives no pictures now; a file that has ended is as it should be."""
    for camera in status.cameras:
        has_ended = camera.state == CameraState.ENDED.value and not camera.detail
        if camera.state != CameraState.OK.value and not has_ended:
            yield f"camera {camera.name}: {camera.state}{f', {camera.detail}' if camera.detail else ''}"


def total(counts: Counted) -> int:
    """The sum of all."""
    return sum(counts.values())


def listed(counts: Counted) -> str:
    """Every count with its name, in one line."""
    return ", ".join(f"{name or 'payload'} {count}" for name, count in sorted(counts.items())) or "none"


def _sums_hold(status: Status) -> bool:
    spool = status.spool
    return status.frames.under_way >= 0 and (
        spool is None or spool.recovered + spool.accepted == total(spool.fates) + spool.pending
    )


def _given_up(status: Status) -> bool:
    if status.spool is None:
        return False
    return bool(status.spool.refused) or any(fate in status.spool.fates for fate in _GIVEN_UP)
