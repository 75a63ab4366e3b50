"""What a report says: goals, pages, tables and comparisons."""

import csv
import re
import resource
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from spillover.common.errors import SourceError, SpilloverError
from spillover.common.types import Action, Decision
from spillover.lab.files import write_yaml
from spillover.lab.loadtest.answer.parts import Costs
from spillover.lab.loadtest.baselines import held_back, silent
from spillover.lab.loadtest.buyer import BuyerConfig
from spillover.lab.loadtest.comparison import changes, print_changes, write_comparison
from spillover.lab.loadtest.config import GoalConfig, LoadConfig
from spillover.lab.loadtest.goals import judge
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.report.load_report import write_page
from spillover.lab.loadtest.report.tables import print_report
from spillover.lab.loadtest.results import (
    FORMAT,
    Capacity,
    Cell,
    Fleet,
    FleetCheck,
    FleetPoint,
    Moment,
    Probe,
    Report,
    read_report,
    summarise,
    this_host,
    write_csv,
    write_json,
)

SOME_DECISION = Decision(Action.KEEP, "mode")
HOSTILE = "<script>alert(1)</script>"


def cell(mode: str, *runs: dict[str, float], link: str = "home") -> Cell:
    """A cell of scenario `s` with these repeats."""
    moments = [Moment(t / 2, 0.5, 0.1, 20.0, 0.3, 1.0, 5.0, breaker_open=t == 1) for t in range(3)]
    return Cell(
        scenario="s",
        mode=mode,
        link=link,
        edges=1,
        kind="real",
        runs=list(runs),
        summary=summarise(runs),
        first_quantiles_ms=[1.0, 10.0, 100.0],
        final_quantiles_ms=[1.0, 10.0, 400.0],
        timeline=moments,
        reasons={"pushback": 2},
        drops={"queue full": 1},
    )


def report(*cells: Cell, **changes: object) -> Report:
    """A report of these cells."""
    fields: dict[str, object] = {
        "format": FORMAT,
        "started_unix_s": 1.8e9,
        "took_s": 60.0,
        "host": this_host(),
        "config": {
            "deadline_s": 0.3,
            "scenarios": {"s": {"fps": 10}},
            "buyer": msgspec.json.decode(msgspec.json.encode(BuyerConfig())),
            "edge": {},
            "links": {"home": {"share": 1}, HOSTILE: {"share": 1}},
            "modes": {"e": {"mode": "edge_only"}, "c": {"mode": "cloud_only"}, "h": {}},
        },
        "notes": ["edges run at full speed"],
        "cells": list(cells),
    }
    return Report(**(fields | changes))


def goal(**fields: object) -> GoalConfig:
    """A goal about mode `h` of scenario `s`."""
    return msgspec.convert({"scenario": "s", "mode": "h"} | fields, GoalConfig)


CELLS = [
    cell("e", {"accuracy": 0.8, "first_p50_ms": 10.0, "lost": 0.0}),
    cell("c", {"accuracy": 0.9, "first_p50_ms": 100.0, "lost": 0.0}),
    cell("h", {"accuracy": 0.89, "first_p50_ms": 11.0, "lost": 1.0}),
]


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"measure": "first_p50_ms", "at_most": 11}, True),
        ({"measure": "lost", "at_most": 0}, False),
        ({"measure": "first_p50_ms", "at_most": 0.1, "times": "c"}, False),
        ({"measure": "first_p50_ms", "at_most": 0.11, "times": "c"}, True),
        ({"measure": "accuracy", "at_least": 0.88, "gap_from": "e", "times": "c"}, True),
        ({"measure": "accuracy", "at_least": 0.95, "gap_from": "e", "times": "c"}, False),
        ({"measure": "accuracy", "at_least": 0.9, "gap_from": "c", "times": "e"}, None),
        ({"measure": "agreement", "at_least": 0.9}, None),
        ({"measure": "lost", "at_most": 0.5, "times": "c"}, None),
    ],
)
def test_goals_are_judged_by_medians(fields: dict[str, object], met: bool | None) -> None:
    """At most, at least, a share of another mode's figure, a share of a gap; what is not there is not met."""
    (outcome,) = judge([goal(**fields)], CELLS, [])
    assert outcome.met is met


def test_a_goal_about_nothing_says_why() -> None:
    """A scenario that was left out leaves its goals open, with the reason."""
    wanted = goal(scenario="t", measure="lost", at_most=0)
    (outcome,) = judge([wanted], CELLS, ["scenario t was left out: no such folder"])
    assert outcome.met is None
    assert "no such folder" in outcome.note


def test_a_baseline_that_was_held_back_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A share of the bytes of a mode that could send a quarter of its frames says so, as a note does."""
    cells = [
        cell("c", {"up_bytes_per_frame": 1e4, "sent_share": 0.25, "agreement": 0.9}),
        cell("h", {"up_bytes_per_frame": 1e3, "sent_share": 0.1, "agreement": 0.9}),
    ]
    wanted = goal(measure="up_bytes_per_frame", at_most=0.2, times="c")
    (outcome,) = judge([wanted], cells, [])
    assert (outcome.met, outcome.figure) == (
        True,
        "10.00% (1,000 B of 10,000 B, which is 25% of its frames)",
    )
    config = msgspec.convert(
        {
            "modes": {"c": {"mode": "cloud_only"}, "h": {}},
            "links": {"home": {}},
            "scenarios": {"s": {"modes": ["c", "h"], "links": ["home"]}},
        },
        LoadConfig,
    )
    (note,) = held_back(cells, config)
    assert note.startswith("s / c / home / 1: sent 25%")
    print_report(report(*cells), Console(width=110))
    assert "10.0%" in capsys.readouterr().out


def test_a_mode_that_sends_nothing_says_why() -> None:
    """The most frequent reasons; where there is none its policy wanted nothing. edge_only never may send."""
    cells = [
        cell("e", {"sent_share": 0.0}),
        cell("h", {"sent_share": 0.0}),
        msgspec.structs.replace(cell("c", {"sent_share": 0.0}), reasons={}),
        cell("h", {"sent_share": 0.1}),
    ]
    config = msgspec.convert(
        {
            "modes": {"e": {"mode": "edge_only"}, "c": {"mode": "cloud_only"}, "h": {}},
            "links": {"home": {}},
            "scenarios": {"s": {"modes": ["c", "h"], "links": ["home"]}},
        },
        LoadConfig,
    )
    assert list(silent(cells, config)) == [
        "s / h / home / 1: sent nothing: pushback (2 frames)",
        "s / c / home / 1: sent nothing: its policy wanted the cloud for no frame",
    ]


def test_what_was_shown_has_a_table_of_its_own_where_one_is_too_wide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No figure of a detector's cell is cut in the width of a log."""
    names = ("first_p50_ms", "first_p99_ms", "on_time_share", "sent_share", "up_bytes_per_frame")
    shown = ("agreement", "streaming", "confirmed_share", "tracks", "detection_delay_s", "idf1", "switches")
    print_report(report(cell("c", dict.fromkeys((*names, *shown), 1.0))), Console(width=110))
    text = capsys.readouterr().out
    assert "what was shown" in text
    assert "\u2026" not in text


def test_degraded_stands_in_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log and the page show what was wanted and not had, and the page says what each word means."""
    names = ("wanted", "offered", "sent", "answered", "in_time", "degraded", "sent_in_time")
    whole = report(cell("c", {f"{name}_share": 0.5 for name in names} | {"up_bytes_per_frame": 1e4}))
    print_report(whole, Console(width=110))
    text = capsys.readouterr().out
    assert re.findall("wanted|offered|sent|answered|in time|degraded", text)[:6] == [
        "degraded", "wanted", "offered", "sent", "answered", "in time",
    ]  # fmt: skip
    write_page(whole, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in names:
        measure = MEASURES[f"{name}_share"]
        assert f"<dt>{measure.title.replace(chr(39), '&#39;')}</dt>" in page
        assert measure.meaning.replace("'", "&#39;") in page


def full_report() -> Report:
    """A report with every section, and a name that must be escaped."""
    runs = [
        {"agreement": 0.9, "up_bytes_per_frame": 1e4, "sent_share": 0.3, "first_p99_ms": 100.0 + i}
        for i in (1, 2)
    ]
    probes = [Probe(8, 1.0, 2.0, 0, held=True), Probe(16, 0.5, 4.0, 1, held=False)]
    return report(
        cell("h", *runs, link=HOSTILE),
        cell("c", *runs),
        goals=judge([goal(measure="agreement", at_least=0.5)], [cell("h", *runs)], []),
        capacity=[Capacity("s", "h", "home", 0.99, 8, 16, probes)],
        fleet=Fleet(
            "s",
            "h",
            0.02,
            40.0,
            ["It is assumed."],
            [FleetPoint(10_000, 20, 1, 3, 2, 9, Costs(1, 2, 3, 4, 5))],
            [FleetCheck(9, 1, 0.1, 0.1, 2, 2)],
        ),
    )


def test_page_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    """The page holds its style and pictures itself, names no address, and runs no script."""
    write_page(full_report(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    for heading in ("Goals", "Scenario s", "Capacity", "Larger fleets"):
        assert heading in text


def test_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """report.json holds everything, and its folder may be named in its place."""
    written = full_report()
    write_json(written, tmp_path / "report.json")
    assert read_report(tmp_path) == written


def test_a_full_disk_leaves_no_torn_report(tmp_path: Path) -> None:
    """The file is named, and what was there before is still whole."""
    written = full_report()
    write_json(written, tmp_path / "report.json")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(SpilloverError, match=r"report\.json: cannot be written: File too large"):
            write_json(msgspec.structs.replace(written, took_s=1.0), tmp_path / "report.json")
        with pytest.raises(SpilloverError, match=r"edge-0\.yaml: cannot be written"):
            write_yaml(tmp_path / "edge-0.yaml", {"camera": "x" * 2000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_report(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_another_file_is_no_report(tmp_path: Path, content: str) -> None:
    """A file that is no report is refused by name."""
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=r"other\.json"):
        read_report(path)


def test_table_has_a_row_for_each_figure(tmp_path: Path) -> None:
    """report.csv: one row a cell and measure, with median and range."""
    write_csv(CELLS, tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {row["mode"] for row in rows} == {"e", "c", "h"}
    assert rows[0]["median"] == "0.8"


def verdicts(before: list[float], after: list[float], measure: str) -> list[str]:
    """How the change of one measure is judged."""
    old, new = (report(cell("h", *({measure: x} for x in runs))) for runs in (before, after))
    return [change.verdict for change in changes(old, new)]


def test_a_regression_is_more_than_what_repeats_vary_by() -> None:
    """Worse and better follow the measure's own direction; overlap and small moves are no news."""
    assert verdicts([10, 11], [20, 21], "first_p50_ms") == ["worse"]
    assert verdicts([20, 21], [10, 11], "first_p50_ms") == ["better"]
    assert verdicts([0.8], [0.5], "accuracy") == ["worse"]
    assert verdicts([10, 20], [15, 25], "first_p50_ms") == [""]
    assert verdicts([100, 100], [101, 101], "first_p50_ms") == [""]
    assert verdicts([100], [120], "first_p50_ms") == [""]
    assert verdicts([0.1], [0.9], "sent_share") == [""]


def test_one_run_cannot_show_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A comparison of single runs says so, on the page too; of repeats not. 0.00 to 0.00 is no news."""
    for runs, said in ([{"lost": 0.0}], True), ([{"lost": 0.0}] * 3, False):
        old, new = report(cell("h", *runs)), report(cell("h", *runs))
        print_changes(changes(old, new), Console(width=110))
        write_comparison(old, new, changes(old, new), tmp_path / "compare.html")
        page = (tmp_path / "compare.html").read_text(encoding="utf-8")
        for text in (capsys.readouterr().out, page):
            assert ("cannot show a difference" in text) is said
    assert verdicts([0.001], [0.0], "server_cpu_s_per_1000_frames") == [""]


def test_of_single_runs_what_matters_is_judged_closely() -> None:
    """On time, quality and bytes move far less by chance than latencies do."""
    assert verdicts([1.0], [0.92], "on_time_share") == ["worse"]
    assert verdicts([1.0], [0.99], "on_time_share") == [""]
    assert verdicts([0.80], [0.85], "agreement") == ["better"]
    assert verdicts([0.80], [0.82], "agreement") == [""]
    assert verdicts([1000], [1150], "up_bytes_per_frame") == ["worse"]
    assert verdicts([1000], [1150], "down_bytes_per_frame") == [""]


def test_regressions_come_first_in_the_comparison(tmp_path: Path) -> None:
    """compare.html lists what got worse before what did not, and marks it."""
    old = report(cell("h", {"accuracy": 0.9, "first_p50_ms": 10.0}))
    new = report(cell("h", {"accuracy": 0.9, "first_p50_ms": 30.0}))
    write_comparison(old, new, changes(old, new), tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert text.index('class="worse"') < text.index("accuracy of the first answers")
    assert "1 of 2 figures are worse" in text


def test_reports_without_a_common_cell_are_not_compared() -> None:
    """Nothing got worse because nothing could be compared: that is an error, and it names what each holds."""
    with pytest.raises(SourceError, match=r"nothing in common.*s / a / home.*s / b / home"):
        changes(report(cell("a", {"lost": 0.0})), report(cell("b", {"lost": 0.0})))
