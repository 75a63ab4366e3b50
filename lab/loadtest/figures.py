"""The figures and the time line of one run, from its frames and the samples of its resources."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.outcomes import CLOUD, DEGRADED, DROPPED, Floats, Outcomes, Window, percentile_ms
from spillover.lab.loadtest.results import Moment
from spillover.lab.loadtest.sampling import TICK_S, Sample, between

_DAY_S = 86_400
_PERCENTILES = (("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p999", 99.9))


@dataclass(frozen=True, slots=True)
class FigureContext:
    """Edges, deadline and window that a run's figures refer to."""

    edges: int
    deadline_s: float
    window: Window


@dataclass(frozen=True, slots=True)
class Carried:
    """Bytes of a whole run, warm-up and last answers included."""

    up_bytes: float
    """On the wire."""
    payload_bytes: float

    def up_bytes_of(self, outcomes: Outcomes, seen_bytes: float) -> float:
        """Bytes on the wire for the frames of a window: their payloads, times the run's ratio of both.

        What the link carried between the window's borders belongs in part to frames before it, and lacks what
        its last frames were still to send: it may be less than the payloads. A run without payloads has only
        that, `seen_bytes`.
        """
        if not self.payload_bytes:
            return seen_bytes
        return self.up_bytes * float(outcomes.payload_bytes.sum()) / self.payload_bytes


def frame_figures(outcomes: Outcomes, context: FigureContext) -> dict[str, float]:
    """Figures of the frames alone. Shares are of all frames that were due by the camera's rate."""
    count = max(1, len(outcomes))
    wanted, sent, in_time = outcomes.wanted, outcomes.sent, outcomes.in_time(context.deadline_s)
    figures: dict[str, float | None] = {
        "frames": len(outcomes),
        "fps": float((outcomes.ending != DROPPED).sum()) / context.window.length_s / context.edges,
        "on_time_share": float((outcomes.first_s <= context.deadline_s).mean()),
        "wanted_share": float(wanted.mean()),
        "offered_share": float(outcomes.offered.mean()),
        "sent_share": float(sent.mean()),
        "answered_share": float(outcomes.answered.mean()),
        "in_time_share": float(in_time.mean()),
        "cloud_share": float((outcomes.ending == CLOUD).mean()),
        "degraded_share": float((outcomes.ending == DEGRADED).mean()),
        "late_share": float(outcomes.late.mean()),
        "dropped_share": float((outcomes.ending == DROPPED).mean()),
        "lost": float((sent & ~outcomes.answered).sum()),
        "payload_bytes_per_frame": float(outcomes.payload_bytes.sum()) / count,
        "sent_per_s": float(sent.sum()) / context.window.length_s,
        "emit_p99_ms": percentile_ms(outcomes.emit_s, 99),
    }
    if sent.any():
        figures["sent_in_time_share"] = float(in_time.sum() / sent.sum())
    if wanted.any():
        figures["wanted_in_time_share"] = float(in_time.sum() / wanted.sum())
    if outcomes.answered.any():
        figures["cloud_answer_ms"] = float(outcomes.final_s[outcomes.answered].mean()) * 1e3
    inferred = outcomes.server_infer_s > 0
    if inferred.any():
        infer_s = outcomes.server_infer_s[inferred]
        figures["server_queue_ms"] = float(outcomes.server_queue_s[inferred].mean()) * 1e3
        figures["server_infer_ms"] = float(infer_s.mean()) * 1e3
        figures["server_infer_cv2"] = float(infer_s.var() / infer_s.mean() ** 2)
    for name, percent in _PERCENTILES:
        figures[f"first_{name}_ms"] = percentile_ms(outcomes.first_s, percent)
        figures[f"final_{name}_ms"] = percentile_ms(outcomes.final_s, percent)
    return {name: float(figure) for name, figure in figures.items() if figure is not None}


def resource_figures(
    samples: Sequence[Sample], outcomes: Outcomes, context: FigureContext, carried: Carried, *, ours: bool
) -> dict[str, float]:
    """Figures of server, edges, link and power over the window; `ours`: this test started the server."""
    took_s, frames = between(samples, lambda s: s.unix_s), len(outcomes)
    seen_up, down = between(samples, lambda s: s.up_bytes), between(samples, lambda s: s.down_bytes)
    up = carried.up_bytes_of(outcomes, seen_up)
    per_day = _DAY_S / took_s / context.edges / 1e6
    frames = max(1, frames)
    figures = {
        "up_bytes_per_frame": up / frames,
        "down_bytes_per_frame": down / frames,
        "up_mb_per_day": up * per_day,
        "down_mb_per_day": down * per_day,
    }
    if ours:
        cpu_s = between(samples, lambda s: s.server_cpu_s)
        gpu_s = between(samples, lambda s: s.server_gpu_s or 0.0)
        if samples[-1].server_gpu_s is not None:
            figures["server_gpu_s_per_1000_frames"] = gpu_s / frames * 1000
        figures["server_cpu_s_per_1000_frames"] = cpu_s / frames * 1000
        figures["server_cpu_share"] = cpu_s / took_s
        figures["server_rss_mb"] = max(s.server_rss_bytes for s in samples) / 1e6
    if edges_cpu_s := between(samples, lambda s: s.edges_cpu_s):
        figures["edge_cpu_share"] = edges_cpu_s / took_s / context.edges
        figures["edge_rss_mb"] = max(s.edge_rss_bytes for s in samples) / 1e6
    if samples[-1].energy_j is not None:
        figures["energy_j_per_frame"] = between(samples, lambda s: s.energy_j or 0.0) / frames
    return figures


def quantiles_ms(seconds: Floats, points: int = 201) -> list[float]:
    """Latencies in ms at `points` even steps from 0 to 100 %: the cumulative distribution."""
    known = seconds[~np.isnan(seconds)]
    if not known.size:
        return []
    return [round(float(q) * 1e3, 3) for q in np.quantile(known, np.linspace(0, 1, points))]


def timeline_of(
    outcomes: Outcomes, samples: Sequence[Sample], window: Window, records: Sequence[Record] = ()
) -> list[Moment]:
    """One moment for each two consecutive samples of the window."""
    opened = np.array([r.captured_unix_s for r in records if "breaker" in r.decision.reason])
    moments = []
    for before, after in itertools.pairwise(samples):
        length_s = after.unix_s - before.unix_s
        if length_s < TICK_S / 2:  # the closing sample right after a tick: too few frames to say anything
            continue
        here = (outcomes.intended_s >= before.unix_s) & (outcomes.intended_s < after.unix_s)
        count = max(1, int(here.sum()))
        moments.append(
            Moment(
                at_s=round(before.unix_s - window.begin_s, 2),
                sent_share=float(outcomes.sent[here].sum()) / count,
                degraded_share=float((outcomes.ending[here] == DEGRADED).sum()) / count,
                first_p95_ms=percentile_ms(outcomes.first_s[here], 95),
                server_cores=(after.server_cpu_s - before.server_cpu_s) / length_s,
                up_mbit_per_s=(after.up_bytes - before.up_bytes) * 8e-6 / length_s,
                link_up_mbit_per_s=before.up_mbit_per_s,
                breaker_open=bool(((opened >= before.unix_s) & (opened < after.unix_s)).any()),
            )
        )
    return moments
