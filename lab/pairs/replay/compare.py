"""The same frames over the same links under two policies, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from spillover.edge.link.byte_budget import Budget
from spillover.edge.policy.share import Thresholds, thresholds_for
from spillover.lab.pairs.replay.simulate import (
    LinkAware,
    Naive,
    Outcome,
    ReplayFrame,
    Sender,
    Setting,
    simulate,
)
from spillover.lab.pairs.replay.trace import LinkTrace
from spillover.lab.pairs.replay.truth import Judge
from spillover.lab.terminal import open_console, table

BUCKET_FRAMES = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """Which scores are sent, as `policy` of edge.yaml says it: one of the two at most."""

    send_share: float | None = None
    threshold: float | None = None

    def thresholds(self, *, has_budget: bool) -> Thresholds:
        """What the daemon would have, new for each run."""
        return thresholds_for(self.send_share, self.threshold, else_any=has_budget)


@dataclass(frozen=True, slots=True)
class Row:
    """One policy over one link; shares are 0..1, `over_budget_bytes` is the worst period's excess."""

    link: str
    policy: str
    frames: int
    sent: int
    on_time_share: float
    gain_share: float
    bytes_sent: float
    over_budget_bytes: float
    accuracy: float | None = None
    """Of all answers given in time, by the labels; None without any."""


def compare(
    frames: Sequence[ReplayFrame],
    traces: Sequence[LinkTrace],
    setting: Setting,
    choice: Choice,
    budget_bytes: float | None = None,
    period_s: float = 3600.0,
    judge: Judge | None = None,
) -> list[Row]:
    """By score alone against link and budget, on each trace."""
    rows = []
    for trace in traces:
        budget = _budget(frames, budget_bytes, period_s)
        senders: list[tuple[str, Sender]] = [
            ("score alone", Naive(choice.thresholds(has_budget=False))),
            ("link-aware", LinkAware(setting, choice.thresholds(has_budget=budget is not None), budget)),
        ]
        for name, sender in senders:
            outcome = simulate(frames, sender, trace, setting, period_s)
            accuracy = judge.accuracy(frames, outcome.arrived) if judge else None
            rows.append(_row(trace.name, name, outcome, budget_bytes, accuracy))
    return rows


def _budget(frames: Sequence[ReplayFrame], budget_bytes: float | None, period_s: float) -> Budget | None:
    if budget_bytes is None:
        return None
    mean = sum(frame.payload_bytes for frame in frames) / len(frames)
    return Budget(budget_bytes, period_s, min(BUCKET_FRAMES * mean, budget_bytes / 2))


def _row(link: str, policy: str, outcome: Outcome, budget_bytes: float | None, accuracy: float | None) -> Row:
    over = max(0.0, outcome.most_bytes_in_period - budget_bytes) if budget_bytes is not None else 0.0
    gain = outcome.gain_on_time / outcome.gain_offered if outcome.gain_offered else 0.0
    return Row(
        link,
        policy,
        outcome.frames,
        outcome.sent,
        outcome.on_time_share,
        gain,
        outcome.bytes_sent,
        over,
        accuracy,
    )


def print_table(rows: Sequence[Row]) -> None:
    """One row a link and policy."""
    judged = any(row.accuracy is not None for row in rows)
    headings = ("link", "policy", "frames", "sent", "on time", "gain", "MB", "MB over budget")
    made = table(
        (*headings, "accuracy") if judged else headings,
        map(_cells, rows),
        caption="on time: of what was sent; gain: of all expected gain, what arrived in time",
        left=("policy",),
    )
    open_console().print(made)


def _cells(row: Row) -> list[str]:
    return [
        row.link,
        row.policy,
        str(row.frames),
        str(row.sent),
        f"{row.on_time_share:.1%}",
        f"{row.gain_share:.0%}",
        f"{row.bytes_sent / 1e6:.1f}",
        f"{row.over_budget_bytes / 1e6:.1f}",
        *([f"{row.accuracy:.4f}"] if row.accuracy is not None else []),
    ]
