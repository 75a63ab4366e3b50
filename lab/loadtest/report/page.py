"""The order of the report: goals, each scenario, capacity, sweep and fleet, then what it rests on."""

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.report import plots
from spillover.lab.loadtest.report.html import Column, Content, Markup, details, element, figure, page, table
from spillover.lab.loadtest.results import Capacity, Cell, Fleet, GoalOutcome, Report, Sweep

_MAIN = (
    "first_p50_ms",
    "first_p99_ms",
    "final_p99_ms",
    "on_time_share",
    "accuracy",
    "agreement",
    "sent_share",
    "up_bytes_per_frame",
    "server_cpu_s_per_1000_frames",
    "generator_cpu_share_per_100_edges",
)
_VERDICTS = {True: ("met", "met"), False: ("missed", "missed"), None: ("not measured", "unknown")}
_TIMELINES = 4
"""Drawn for this many cells of a scenario at most; the figures of all are in report.json."""


def write_page(report: Report, path: Path) -> None:
    """Write report.html."""
    path.write_text(page("Spillover load test", *_contents(report)), encoding="utf-8")


def _contents(report: Report) -> Iterator[Content]:
    palette = plots.Palette()
    started = dt.datetime.fromtimestamp(report.started_unix_s, dt.UTC)
    host = report.host
    yield element("h1", "Spillover load test")
    yield element(
        "p",
        f"{started:%Y-%m-%d %H:%M} UTC, {report.took_s / 60:.1f} minutes, "
        f"{host.processor or host.machine}, {host.cores} cores, {host.system}, Python {host.python}.",
        css="lead",
    )
    yield from (element("p", note, css="small") for note in report.notes)
    if report.goals:
        yield element("h2", "Goals")
        yield _goals(report.goals)
    for scenario, cells in itertools.groupby(report.cells, key=lambda cell: cell.scenario):
        yield from _scenario(scenario, list(cells), report, palette)
    if report.capacity:
        yield from _capacity(report.capacity, palette)
    if report.sweep:
        yield from _sweep(report.sweep)
    if report.fleet:
        yield from _fleet(report.fleet, report.capacity)
    yield element("h2", "Method and configuration")
    yield from _method(report)


def _goals(goals: Sequence[GoalOutcome]) -> Markup:
    columns = [Column("goal", text=True, wrap=True), Column("measured", text=True), Column("", text=True)]
    rows: list[list[Content]] = []
    for goal in goals:
        word, css = _VERDICTS[goal.met]
        rows.append([goal.text, goal.note or goal.figure, element("span", word, css=css)])
    columns[1] = Column("measured", text=True, wrap=True)
    return table(columns, rows)


def _scenario(name: str, cells: Sequence[Cell], report: Report, palette: plots.Palette) -> Iterator[Content]:
    first = cells[0]
    settings = report.config["scenarios"][name]
    yield element("h2", f"Scenario {name}")
    repeats = len(first.runs)
    interval = f"; below it the range of {repeats} repeats" if repeats > 1 else ""
    yield element(
        "p",
        f"{first.kind.capitalize()} edges at {settings['fps']:g} frames a second, deadline "
        f"{report.config['deadline_s'] * 1e3:g} ms. Each figure is the median{interval}.",
        css="lead",
    )
    yield _cells(cells, [m for m in _MAIN if any(m in cell.summary for cell in cells)])
    yield details("All figures", _all_figures(cells))
    drawn = list(_plots(cells, report.config["deadline_s"], palette))
    yield element("div", *drawn, css="plots")
    causes = [c for c in cells if c.reasons or c.drops]
    if causes:
        yield details("Why answers were missing, and frames dropped", _causes(causes))


def _cells(cells: Sequence[Cell], measures: Sequence[str]) -> Markup:
    columns = [Column("mode", text=True), Column("link", text=True), Column("edges")]
    columns += [Column(MEASURES[m].title) for m in measures]
    rows: list[list[Content]] = [
        [cell.mode, cell.link, str(cell.edges), *(_figure(cell, m) for m in measures)] for cell in cells
    ]
    return table(columns, rows)


def _all_figures(cells: Sequence[Cell]) -> Markup:
    columns = [Column("measure", text=True)]
    columns += [Column(f"{c.mode}, {c.link}, {c.edges}") for c in cells]
    known = [m for m in MEASURES if any(m in cell.summary for cell in cells)]
    rows: list[list[Content]] = [[MEASURES[m].title, *(_figure(c, m) for c in cells)] for m in known]
    return table(columns, rows)


def _figure(cell: Cell, measure: str) -> Content:
    """The median, and below it the interval where there are repeats."""
    if measure not in cell.summary:
        return "-"
    summary, shown = cell.summary[measure], MEASURES[measure]
    if summary.low == summary.high:
        return shown.show(summary.median)
    low, high = (shown.show(x).removesuffix(shown.unit).strip() for x in (summary.low, summary.high))
    return Markup(
        element("span", shown.show(summary.median)).text
        + element("span", f"{low} to {high}", css="interval").text
    )


def _plots(cells: Sequence[Cell], deadline_s: float, palette: plots.Palette) -> Iterator[Markup]:
    quality = next((m for m in ("accuracy", "agreement") if any(m in c.summary for c in cells)), None)
    if quality:
        known = [c for c in cells if quality in c.summary]
        yield figure(
            plots.quality_over_bytes(known, quality, palette),
            f"{MEASURES[quality].title.capitalize()} over bytes",
            "Up and to the left is better. Bars show the range of the repeats.",
        )
    for (link, edges), group in _groups(cells):
        yield figure(
            plots.latency_distribution(group, deadline_s, palette),
            f"Latency over {link}, {edges} edge{'s' if edges > 1 else ''}",
            "From the moment a frame was due by the camera's rate to its first answer (dashed: to its last).",
        )
    for cell in [c for c in cells if c.timeline and c.figure("sent_share")][:_TIMELINES]:
        yield figure(
            plots.timeline(cell),
            f"{cell.mode} over {cell.link}, {cell.edges} edge{'s' if cell.edges > 1 else ''}: over time",
            "Top: latency. Middle: what was sent, and what was wanted from the cloud and not had in time. "
            "Bottom: the link.",
        )


def _groups(cells: Sequence[Cell]) -> list[tuple[tuple[str, int], list[Cell]]]:
    keys = dict.fromkeys((cell.link, cell.edges) for cell in cells)
    return [(key, [c for c in cells if (c.link, c.edges) == key]) for key in keys]


def _causes(cells: Sequence[Cell]) -> Markup:
    columns = [
        Column("cell", text=True),
        Column("what", text=True),
        Column("reason", text=True),
        Column("frames"),
    ]
    rows: list[list[Content]] = []
    for cell in cells:
        name = f"{cell.mode}, {cell.link}, {cell.edges}"
        rows += [[name, "no cloud answer", reason, str(n)] for reason, n in sorted(cell.reasons.items())]
        rows += [[name, "dropped (with warm-up)", reason, str(n)] for reason, n in sorted(cell.drops.items())]
    return table(columns, rows)


def _capacity(searches: Sequence[Capacity], palette: plots.Palette) -> Iterator[Content]:
    yield element("h2", "Capacity")
    yield element(
        "p",
        "The largest number of simulated edges for which that share of the frames sent was answered by the "
        "cloud in time and none was lost, found by bisection.",
        css="lead",
    )
    columns = [Column("mode", text=True), Column("link", text=True), Column("in time"), Column("held")]
    columns += [Column("not held"), Column("requests a second when held")]
    rows: list[list[Content]] = []
    for search in searches:
        rate = max((p.offered_per_s for p in search.probes if p.edges == search.held), default=0.0)
        failed = "-" if search.failed is None else f"{search.failed:,}"
        goal = f"{search.goal_share:.0%}"
        rows.append([search.mode, search.link, goal, f"{search.held:,}", failed, f"{rate:,.1f}"])
    yield table(columns, rows)
    yield figure(
        plots.capacity(searches, palette),
        "Answered in time over the number of edges",
        "Every number that was tried; the line joins the better of two tries.",
    )


def _sweep(found: Sweep) -> Iterator[Content]:
    yield element("h2", f"Sweep of {found.key}")
    yield figure(
        plots.sweep(found),
        f"{MEASURES[found.quality].title.capitalize()} over bytes, by {found.key}",
        "Lines join the points that no other beats in both; rings are recommended.",
    )
    columns = [Column("link", text=True), Column("mode", text=True), Column(found.key)]
    columns += [Column("B a frame"), Column("quality")]
    columns += [Column("in time"), Column("", text=True)]
    rows: list[list[Content]] = []
    for number, point in enumerate(found.points):
        best = found.recommended.get(point.link) == number
        word = "recommended" if best else "on the front" if point.on_front else ""
        shares = (f"{point.quality:.1%}", f"{point.on_time_share:.2%}")
        rows.append(
            [point.link, point.mode, f"{point.value:g}", f"{point.bytes_per_frame:,.0f}", *shares, word]
        )
    yield table(columns, rows)
    for link, folder in found.folders.items():
        yield element("p", f"Recommended for {link}: edge.yaml and cloud.yaml in {folder}", css="small")


def _fleet(found: Fleet, searches: Sequence[Capacity]) -> Iterator[Content]:
    yield element("h2", "Larger fleets, extrapolated")
    yield element("p", *(f"{sentence} " for sentence in found.assumptions), css="lead")
    columns = [Column("edges"), Column("requests a second"), Column("servers"), Column("wait p99, ms")]
    columns += [Column("cost a day"), Column("Mbit/s into the servers")]
    rows: list[list[Content]] = [
        [
            f"{p.edges:,}",
            f"{p.requests_per_s:,.0f}",
            f"{p.servers:,}",
            f"{p.wait_p99_ms:,.1f}",
            f"{p.cost_per_day:,.2f}",
            f"{p.up_mbit_per_s:,.0f}",
        ]
        for p in found.points
    ]
    yield table(columns, rows)
    yield figure(plots.fleet(found), "Servers needed", "Servers like the one measured here.")
    columns = [Column("edges"), Column("requests a second"), Column("server busy, measured")]
    columns += [Column("predicted"), Column("mean wait, measured"), Column("predicted")]
    yield element("h3", "The model against what was measured")
    rows = [
        [
            f"{c.edges:,}",
            f"{c.requests_per_s:,.1f}",
            f"{c.measured_utilization:.0%}",
            f"{c.predicted_utilization:.0%}",
            f"{c.measured_wait_ms:,.2f} ms",
            f"{c.predicted_wait_ms:,.2f} ms",
        ]
        for c in found.checks
    ]
    yield table(columns, rows)
    for search in searches:
        held_per_s = max((p.offered_per_s for p in search.probes if p.held), default=0.0)
        failed = min((p.offered_per_s for p in search.probes if p.edges == search.failed), default=None)
        yield element(
            "p",
            f"Predicted for one server: {found.server_limit_per_s:,.1f} to "
            f"{found.server_limit_most_per_s:,.1f} requests a second. Measured by the search for the "
            f"capacity of {search.mode} over {search.link}: held {held_per_s:,.1f}"
            + (f" and failed at {failed:,.1f}." if failed is not None else "."),
            css="small",
        )


def _method(report: Report) -> Iterator[Content]:
    yield element(
        "p",
        "Frames are due at the camera's rate whether or not earlier ones are done, and latency counts from "
        "when a frame was due, so a stall is not hidden. Frames without an answer have no latency and count "
        "as not in time. Every repeat runs all modes in turn before the next begins. A range of R repeats "
        "holds the true median with probability 1 - 2^(1-R).",
        css="small",
    )
    text = yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True)
    yield details("load.yaml, defaults filled in", element("pre", text))
