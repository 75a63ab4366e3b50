"""The ideal sender: it knows the link, and sends what will be back in time. A bound for every mode."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.figures import Carried, FigureContext
from spillover.lab.loadtest.outcomes import Answered, in_window
from spillover.lab.loadtest.reference import Reference
from spillover.lab.pairs.replay.simulate import ReplayFrame, Setting, in_time_for_one_who_knows
from spillover.lab.pairs.replay.trace import LinkTrace, Step
from spillover.lab.records import local_s
from spillover.lab.shaper.link import Schedule

_NO_LIMIT_BYTES_PER_S = 1e12
_NOT_BUSY = 0.1
"""The quantile of the server's times that counts as those of a server that is not busy."""
_LONG_S = 1e6
"""How long a constant link is written down as a trace."""


@dataclass(frozen=True, slots=True)
class SharedLink:
    """The links of a run, all alike: `schedule` began at `began_unix_s`, and `share` edges use one."""

    schedule: Schedule
    began_unix_s: float
    share: int


def ideal_figures(
    runs: Sequence[tuple[Sequence[Record], Reference]],
    fps: float,
    context: FigureContext,
    carried: Carried,
    link: SharedLink,
) -> dict[str, float]:
    """What the ideal sender would have made of the frames of each edge, with their reference.

    Frames have the sizes that the mode sent, headers included, the edge's median times, and those of a server
    that is not busy: a mode that overruns it would bring its own bound down. A frame that was not sent has
    the median size. Its agreement is that of the mode's own answers: the
    cloud's on frames that are back in time, the edge's on the others.
    """
    frames = [_Frames.of(records, fps, context) for records, _ in runs]
    sent = [record for one in frames for record in one.last.values() if record.payload_bytes]
    answered = [record for record in sent if record.answered_by == "cloud"]
    if not answered:
        return {}
    setting = Setting(
        deadline_s=context.deadline_s,
        local_s=statistics.median(local_s(record) for one in frames for record in one.first.values()),
        encode_s=statistics.median(record.timings.encode_s for record in answered),
        server_s=float(np.quantile([_server_s(record) for record in answered], _NOT_BUSY)),
    )
    headers = carried.up_bytes / carried.payload_bytes
    usual = statistics.median(record.payload_bytes for record in sent)
    due, trace = sum(one.due for one in frames), _trace_of(link.schedule)
    in_time = [
        frame
        for first in range(0, len(frames), link.share)
        for frame in _in_time(frames[first : first + link.share], usual, headers, setting, link, trace)
    ]
    share = len(in_time) / max(1, due)
    figures = {
        "ideal_in_time_share": share,
        "ideal_up_bytes_per_frame": sum(frame.payload_bytes for frame in in_time) / max(1, due),
    }
    agreement = _agreement(share, frames, [reference for _, reference in runs])
    return figures if agreement is None else figures | {"ideal_agreement": agreement}


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of one edge by number: first and last records of all, and which are in the window."""

    first: dict[int, Record]
    last: dict[int, Record]
    window: dict[int, Answered]
    due: int

    @staticmethod
    def of(records: Sequence[Record], fps: float, context: FigureContext) -> "_Frames":
        window, numbers, _ = in_window(records, fps, context.window)
        first = {record.sequence: record for record in reversed(records)}
        return _Frames(first, {record.sequence: record for record in records}, window, len(numbers))


def _in_time(
    edges: Sequence[_Frames],
    usual_bytes: float,
    headers: float,
    setting: Setting,
    link: SharedLink,
    trace: LinkTrace | None,
) -> Iterator[ReplayFrame]:
    """The frames of the window, of all edges on one link, that are back in time; `trace` is its way up."""
    if trace is None:
        return
    offered: list[ReplayFrame] = []
    inside = set()
    for edge, one in enumerate(edges):
        for number, record in one.first.items():
            name = f"{edge}-{number}"
            size = (one.last[number].payload_bytes or usual_bytes) * headers
            at_s = record.captured_unix_s - link.began_unix_s + link.schedule.begin_s
            offered.append(ReplayFrame(at_s, 1.0, size, name))
            inside |= {name} if number in one.window else set()
    offered.sort(key=lambda frame: frame.captured_s)
    yield from (
        frame for frame in in_time_for_one_who_knows(offered, trace, setting) if frame.source in inside
    )


def _agreement(share: float, frames: Sequence[_Frames], references: Sequence[Reference]) -> float | None:
    """The cloud's answers on that share of the frames, the edge's on the rest; None if one was never seen."""
    by_cloud: list[float] = []
    by_edge: list[float] = []
    for one, reference in zip(frames, references, strict=True):
        for parts, is_cloud in ((by_cloud, True), (by_edge, False)):
            mine = {n: f for n, f in one.window.items() if (f.first.answered_by == "cloud") is is_cloud}
            if (value := reference.agreement(mine)) is not None:
                parts.append(value)
    if not by_cloud or (not by_edge and share < 1):
        return None
    cloud = float(np.mean(by_cloud))
    return cloud if not by_edge else share * cloud + (1 - share) * float(np.mean(by_edge))


def _trace_of(schedule: Schedule) -> LinkTrace | None:
    """The way up as a trace; None where it never carries a byte."""
    rates = [min(link.up_bytes_per_s, _NO_LIMIT_BYTES_PER_S) for link in schedule.links]
    if not any(rates):
        return None
    starts = [start_s - schedule.starts_s[0] for start_s in schedule.starts_s]
    end_s = schedule.period_s if math.isfinite(schedule.period_s) else starts[-1] + _LONG_S
    ends = [Step(end_s, rates[-1], 0.0)]
    steps = [
        Step(start_s, rate, link.rtt_ms / 1e3)
        for start_s, rate, link in zip(starts, rates, schedule.links, strict=True)
    ]
    return LinkTrace("link", steps + ends)


def _server_s(record: Record) -> float:
    """Without the wait for others."""
    times = record.timings
    return times.server_decode_s + times.server_infer_s
