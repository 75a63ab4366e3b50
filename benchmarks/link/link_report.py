"""Runs the links and writes report.md: each figure beside its goal."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.link.links import MORE, UNSEEN_SEEDS, constant_links, varying_link
from benchmarks.link.played import (
    RECOVERED_WITHIN_S,
    Played,
    can_be_in_time,
    frames_of,
    play,
    recovery_s,
)
from benchmarks.reports import markdown_table
from spillover.lab.pairs.replay.simulate import Setting
from spillover.lab.pairs.replay.trace import MODELS, LinkTrace, read_trace
from spillover.lab.terminal import Progress

USED, USED_OF_TRACES, IN_TIME = 0.85, 0.7, 0.95
"""The goals: of what could be back in time on constant links, and on links that change; of what was sent."""
_CONSTANT_S = 600.0
_FRAMES_PER_S, _TRACE_FRAMES_PER_S = 8.0, 10.0
_DEADLINES_S = (0.5, 1.5)
_TRACE_BYTES, _TRACE_SPREAD = 40_000.0, 0.5
_SATELLITE_S = 1.5
_PAUSES_S = (0.7, 1.5, 3.0, 8.0, 60.0)
_COLD_STARTS_S, _COLD_S = (2.0, 10.0, 40.0), 1.15


def write_report(traces: Sequence[Path], out: Path, progress: Progress) -> Path:
    """Measure everything; returns the report's path. Raises SourceError: a trace cannot be read."""
    out.mkdir(parents=True, exist_ok=True)
    recorded = [read_trace(path) for path in traces]
    sections = [
        "# What the link rule makes of links",
        "Written by `make bench-link`. Simulated time; policy, link estimate, in-flight cap and breaker are "
        "the edge's own, and every frame is wanted in the cloud. *Used*: bytes back in time, of those that a "
        "sender who knows the link gets back in time. *In time*: of the frames sent.",
        _constant_section(progress),
        _varying_section(progress, recorded),
        _recovery_section(),
    ]
    path = out / "report.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def _constant_section(progress: Progress) -> str:
    """One row a link and size; pictures vary by a fifth around it."""
    rows, played = [], []
    for trace, size in progress.track(list(constant_links()), "constant links"):
        for deadline_s in _DEADLINES_S:
            setting = Setting(deadline_s=deadline_s)
            if not can_be_in_time(trace, size, setting):
                continue
            frames = frames_of(_CONSTANT_S, _FRAMES_PER_S, size, 0.2)
            one = play(frames, trace, setting)
            played.append(one)
            rows.append(
                (
                    trace.name,
                    f"{size / 1000:.0f} kB",
                    f"{deadline_s:g} s",
                    one.sent,
                    f"{one.link_share:.0%}",
                    f"{one.used_share:.0%}",
                    f"{one.in_time_share:.1%}",
                    _met(one, USED),
                )
            )
    head = ("link", "picture", "deadline", "sent", "of the link", "used", "in time", "")
    return (
        f"## Constant links\n\n{_CONSTANT_S:.0f} s at {_FRAMES_PER_S:.0f} frames/s; sizes vary by a fifth. "
        "Left out: pictures that alone take more than four fifths of their deadline. *Of the link*: of all "
        "bytes offered or that the link carries, whichever is less.\n\n"
        f"Goal: >= {USED:.0%} used at >= {IN_TIME:.0%} in time. {_verdict(played, USED)}\n\n"
        + markdown_table(head, rows)
    )


def _varying_section(progress: Progress, recorded: Sequence[LinkTrace]) -> str:
    """One row a kind of link, with the mean and the lowest of its seeds."""
    named = [(name, [varying_link(name, seed) for seed in UNSEEN_SEEDS]) for name in (*MODELS, *MORE)]
    named += [(trace.name, [trace]) for trace in recorded]
    rows, every = [], []
    for name, traces in progress.track([pair for pair in named if pair[0] != "constant"], "changing links"):
        setting = Setting(deadline_s=_SATELLITE_S if name == "satellite" else 0.5)
        played = [
            play(
                frames_of(trace.duration_s, _TRACE_FRAMES_PER_S, _TRACE_BYTES, _TRACE_SPREAD, seed),
                trace,
                setting,
            )
            for seed, trace in enumerate(traces)
        ]
        every += played
        used, in_time = [one.used_share for one in played], [one.in_time_share for one in played]
        rows.append(
            (
                name,
                f"{setting.deadline_s:g} s",
                round(_mean(one.sent for one in played)),
                f"{_mean(used):.0%}",
                f"{min(used):.0%}",
                f"{_mean(in_time):.1%}",
                f"{min(in_time):.1%}",
                "met" if all(_meets(one, USED_OF_TRACES) for one in played) else "MISSED",
            )
        )
    head = ("link", "deadline", "sent", "used", "lowest", "in time", "lowest", "")
    return (
        f"## Links that change\n\nTen minutes at {_TRACE_FRAMES_PER_S:.0f} frames/s, pictures of 20 to 60 "
        f"kB; mean and lowest of {len(UNSEEN_SEEDS)} links of each kind. The rule's settings were chosen on "
        "other links of these kinds.\n\n"
        f"Goal: >= {USED_OF_TRACES:.0%} used at >= {IN_TIME:.0%} in time. "
        f"{_verdict(every, USED_OF_TRACES)}\n\n" + markdown_table(head, rows)
    )


def _recovery_section() -> str:
    rows = [(f"nothing passes for {s:g} s", recovery_s(s)) for s in _PAUSES_S]
    for seconds in _COLD_STARTS_S:
        took_s = recovery_s(seconds, server_s=_COLD_S)
        rows.append((f"at first a server takes {_COLD_S} s a frame, for {seconds:g} s", took_s))
    return (
        "## After trouble\n\n16 Mbit/s, 5 ms, deadline 0.5 s, 8 frames/s: seconds from the first probe that "
        "is back in time until no frame is kept any more.\n\n"
        f"Goal: <= {RECOVERED_WITHIN_S:g} s.\n\n"
        + markdown_table(
            ("trouble", "seconds", ""),
            ((name, f"{s:.1f}", "met" if s <= RECOVERED_WITHIN_S else "MISSED") for name, s in rows),
        )
    )


def _meets(played: Played, used: float) -> bool:
    return played.used_share >= used and played.in_time_share >= IN_TIME


def _met(played: Played, used: float) -> str:
    return "met" if _meets(played, used) else "MISSED"


def _verdict(played: Sequence[Played], used: float) -> str:
    count = sum(_meets(one, used) for one in played)
    lowest_used = min(one.used_share for one in played)
    lowest_in_time = min(one.in_time_share for one in played)
    return (
        f"**{'Met' if count == len(played) else 'MISSED'}** on {count} of {len(played)}; lowest: "
        f"{lowest_used:.0%} used, {lowest_in_time:.1%} in time."
    )


def _mean(numbers: Iterable[float]) -> float:
    values = list(numbers)
    return sum(values) / len(values)
