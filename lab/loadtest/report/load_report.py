"""Fills the HTML templates of the load test's report and of the comparison of two reports."""

import base64
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spillover.lab.files import write_whole
from spillover.lab.loadtest.baselines import BYTES, baselines, share_shown
from spillover.lab.loadtest.links import links_of
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.report import plots
from spillover.lab.loadtest.report.first_page import first_page
from spillover.lab.loadtest.report.fleets import fleet_table
from spillover.lab.loadtest.results import (
    Capacity,
    Cell,
    GoalOutcome,
    Report,
    by_place,
)

_SPENT = (
    "first_p50_ms",
    "first_p99_ms",
    "final_p99_ms",
    "on_time_share",
    "degraded_share",
    BYTES,
    "server_cpu_s_per_1000_frames",
    "generator_cpu_share_per_100_edges",
)
_SHOWN = (
    "accuracy",
    "accuracy_spread",
    "agreement",
    "agreement_spread",
    "streaming",
    "confirmed_share",
    "tracks",
    "detection_delay_s",
    "idf1",
    "switches",
)
_ASKED = (
    "wanted_share",
    "offered_share",
    "sent_share",
    "answered_share",
    "in_time_share",
    "degraded_share",
    "ideal_in_time_share",
    "ideal_agreement",
    "sent_in_time_share",
)
_PARTS = (("Time and bytes", _SPENT), ("What was shown", _SHOWN), ("What the cloud was asked", _ASKED))
_VERDICTS = {True: ("met", "met"), False: ("missed", "missed"), None: ("not measured", "unknown")}
_WRONG_BY = 1.5
"""A prediction that is off by more than this factor is in red."""
_TIMELINES = 4
"""Time lines are drawn of the first cells of a scenario; the figures of all are in report.json."""

_STAR = (
    " A star is a sender that knows the link, with that mode's pictures: no other gets more of them answered "
    "in time."
)

Rows = list[list[str]]


def write_page(report: Report, path: Path) -> None:
    """Write report.html."""
    palette = plots.Palette()
    scenarios = itertools.groupby(report.cells, key=lambda cell: cell.scenario)
    context = {
        "report": report,
        "first": first_page(report),
        "goals": [_goal(goal) for goal in report.goals],
        "scenarios": [_scenario(name, list(cells), report, palette) for name, cells in scenarios],
        "capacity": _capacity(report.capacity, palette) if report.capacity else None,
        "fleet": _fleet(report) if report.fleet else None,
        "config": yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True),
    }
    write_whole(path, _render("load_report.html.jinja", context).encode())


def write_comparison_page(
    rows: Rows, verdicts: Sequence[str], path: Path, *, other_machine: bool, warning: str = ""
) -> None:
    """Write compare.html: a row a figure, and its verdict (`worse`, `better` or empty)."""
    context = {"rows": rows, "verdicts": verdicts, "other_machine": other_machine, "warning": warning}
    write_whole(path, _render("comparison.html.jinja", context).encode())


def _render(template: str, context: dict[str, Any]) -> str:
    """Fill a template; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"columns_of": _columns_of, "css_of": _css_of}
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment.get_template(template).render(context)


def _columns_of(headings: Sequence[str], texts: int = 1) -> list[tuple[str, str]]:
    """Headings with the style of their columns: the first `texts` are words, and one without a name."""
    return [(name, "" if number >= texts and name else "text narrow") for number, name in enumerate(headings)]


def _css_of(chosen: Sequence[bool]) -> list[str]:
    return ["better" if one else "" for one in chosen]


def _goal(goal: GoalOutcome) -> list[str]:
    word, css = _VERDICTS[goal.met]
    return [goal.text, goal.shown, Markup('<span class="{}">{}</span>').format(css, word)]


def _scenario(name: str, cells: Sequence[Cell], report: Report, palette: plots.Palette) -> dict[str, Any]:
    known = [m for m in MEASURES if any(m in cell.summary for cell in cells)]
    parts = [
        _part(heading, names, cells)
        for heading, names in _PARTS
        if names is _SPENT or set(names) & set(known)
    ]
    for whole in baselines(cells, report.config):
        parts[0]["columns"].append((f"bytes up, of {whole}'s", ""))
        for cell, row in zip(cells, parts[0]["rows"], strict=True):
            row.append(share_shown(cell, whole, cells))
    return {
        "name": name,
        "kind": cells[0].kind.capitalize(),
        "fps": report.config["scenarios"][name]["fps"],
        "repeats": len(cells[0].runs),
        "parts": parts,
        "all_columns": [("measure", "text"), *((_name(cell), "") for cell in cells)],
        "all_rows": [[MEASURES[m].title, *(_figure(cell, m) for cell in cells)] for m in known],
        "plots": list(_plots(cells, report, palette)),
        "causes": [row for cell in cells for row in _causes(cell)],
    }


def _part(heading: str, names: Sequence[str], cells: Sequence[Cell]) -> dict[str, Any]:
    """A table of those measures that a cell has, and what they mean."""
    known = [m for m in names if any(m in cell.summary for cell in cells)]
    return {
        "heading": heading,
        "columns": [
            ("mode", "text"),
            ("link", "text"),
            ("edges", ""),
            *((MEASURES[m].title, "") for m in known),
        ],
        "rows": [[c.mode, c.link, str(c.edges), *(_figure(c, m) for m in known)] for c in cells],
        "legend": [(MEASURES[m].title, MEASURES[m].meaning) for m in known if MEASURES[m].meaning],
    }


def _name(cell: Cell) -> str:
    return f"{cell.mode}, {cell.link}, {cell.edges}"


def _figure(cell: Cell, measure: str) -> str:
    """The median, and below it the range where there are repeats."""
    if measure not in cell.summary:
        return "-"
    summary, shown = cell.summary[measure], MEASURES[measure]
    if summary.low == summary.high:
        return shown.show(summary.median)
    low, high = (shown.show(x).removesuffix(shown.unit).strip() for x in (summary.low, summary.high))
    both = Markup('<span>{}</span><span class="interval">{} to {}</span>')
    return both.format(shown.show(summary.median), low, high)


def _plots(cells: Sequence[Cell], report: Report, palette: plots.Palette) -> Iterator[tuple[bytes, str, str]]:
    """(plot, title, caption)."""
    first = next((m for m in ("accuracy", "agreement") if any(m in c.summary for c in cells)), None)
    for quality in (m for m in (first, "streaming") if m and any(m in c.summary for c in cells)):
        known = [cell for cell in cells if quality in cell.summary]
        yield (
            plots.quality_over_bytes(known, quality, palette),
            f"{MEASURES[quality].title.capitalize()} over bytes",
            "Up and to the left is better. Bars show the range of the repeats."
            + (
                _STAR if any("ideal_agreement" in c.summary for c in known) and quality == "agreement" else ""
            ),
        )
    for group in by_place(cells):
        yield (
            plots.latency_distribution(group, report.config["deadline_s"], palette),
            f"Latency over {group[0].link}, {_edges(group[0].edges)}",
            "From the moment a frame was due by the camera's rate to its first answer (dashed: to its last).",
        )
    for cell in [cell for cell in cells if cell.timeline and cell.figure("sent_share")][:_TIMELINES]:
        yield (
            plots.timeline(cell, links_of(cell.edges, report.config["links"][cell.link]["share"])),
            f"{cell.mode} over {cell.link}, {_edges(cell.edges)}: over time",
            "Top: latency. Middle: what was sent, and what was wanted from the cloud and not had in time. "
            "Bottom: what all links together offered, and what passed.",
        )


def _edges(count: int) -> str:
    return f"{count} edge{'s' if count > 1 else ''}"


def _causes(cell: Cell) -> Rows:
    name = _name(cell)
    missing = [[name, "no cloud answer", reason, str(n)] for reason, n in sorted(cell.reasons.items())]
    dropped = [[name, "dropped (with warm-up)", reason, str(n)] for reason, n in sorted(cell.drops.items())]
    return missing + dropped


def _capacity(searches: Sequence[Capacity], palette: plots.Palette) -> dict[str, Any]:
    rows = []
    for search in searches:
        failed = "-" if search.failed is None else f"{search.failed:,}"
        needed = f"{search.needed} of {search.windows}"
        held = f"{search.goal_share:.0%}", needed, f"{search.held:,}", failed, _rate(search)
        limit = "-" if search.cpu_limit_per_s is None else f"{search.cpu_limit_per_s:,.1f}"
        rows.append([search.mode, search.link, *held, limit])
    return {"rows": rows, "plot": plots.capacity(searches, palette)}


def _rate(search: Capacity) -> str:
    rate = f"{search.held_per_s:,.1f}"
    if not search.is_above_cpu_limit:
        return rate
    return Markup('<span class="missed">{}, above its CPU bound</span>').format(rate)


def _times(ratio: float | None) -> str:
    """Measured over predicted, in red where the one is more than 1.5 times the other."""
    if ratio is None:
        return "-"
    shown = f"{ratio:.2f}"
    wrong = max(ratio, 1 / ratio) > _WRONG_BY
    return Markup('<span class="missed">{}</span>').format(shown) if wrong else shown


def _fleet(report: Report) -> dict[str, Any]:
    fleet = report.fleet
    assert fleet is not None  # noqa: S101 - asked for where there is one
    checks = [
        [
            f"{c.edges:,}",
            "-" if c.asked_per_s is None else f"{c.asked_per_s:,.1f}",
            f"{c.requests_per_s:,.1f}",
            f"{c.predicted_utilization:.0%}",
            f"{c.measured_utilization:.0%}",
            _times(c.utilization_ratio),
            "overrun" if c.predicted_wait_ms < 0 else f"{c.predicted_wait_ms:,.2f} ms",
            f"{c.measured_wait_ms:,.2f} ms",
            _times(c.wait_ratio),
        ]
        for c in fleet.checks
    ]
    measured = [
        {
            "mode": search.mode,
            "link": search.link,
            "held_per_s": search.held_per_s,
            "failed_per_s": min(
                (p.sent_per_s for p in search.probes if p.edges == search.failed), default=None
            ),
        }
        for search in report.capacity
    ]
    headings, rows = fleet_table(fleet, report.config["buyer"]["currency"])
    return {"headings": headings, "rows": rows, "checks": checks, "searches": measured}
