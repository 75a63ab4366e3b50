"""The answer to a buyer: which mode is taken, what binds, what more would buy, and how it is said."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from spillover.lab.loadtest.answer.answers import verdicts_of
from spillover.lab.loadtest.answer.numbers import digits
from spillover.lab.loadtest.answer.parts import Verdict
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.recommended import write_recommended
from spillover.lab.loadtest.report.load_report import write_page
from spillover.lab.loadtest.report.markdown import write_markdown
from spillover.lab.loadtest.results import Cell
from spillover.lab.loadtest.scenarios import Scenarios
from spillover.lab.loadtest.slow import brake_for
from spillover.lab.terminal import Silent
from tests.support.chromium import chromium
from tests.unit.lab.test_loadtest_report import cell, full_report, report

PRICES = {"gigabyte": 1.0, "device": 72.0, "sender": 36.0, "sim_month": 1.0, "server_core_hour": 0.0}


def config_for(**buyer: Any) -> LoadConfig:
    """One camera at 10 frames a second, in the three modes and a hybrid one that sends more."""
    names = ("e", "c", "h", "more")
    modes = {name: {"mode": {"e": "edge_only", "c": "cloud_only"}.get(name, "hybrid")} for name in names}
    scenarios = {"s": {"modes": list(modes), "links": ["home"]}}
    return msgspec.convert(
        {"modes": modes, "links": {"home": {}}, "scenarios": scenarios, "buyer": buyer}, LoadConfig
    )


def measured(mode: str, quality: float, bytes_a_frame: float, **figures: float) -> Cell:
    """A cell of that quality and traffic; 1000 bytes a frame are 25.9 GB in a month of whole days."""
    usual = {"on_time_share": 1.0, "sent_share": 1.0 if mode == "c" else 0.1, "degraded_share": 0.0}
    traffic = {"up_bytes_per_frame": bytes_a_frame * 0.9, "down_bytes_per_frame": bytes_a_frame * 0.1}
    return cell(mode, {"agreement": quality, **usual, **traffic, **figures})


CELLS = [
    measured("e", 0.55, 0, sent_share=0.0),
    measured("c", 0.95, 2000),
    measured("h", 0.80, 30),
    measured("more", 0.90, 300),
]


def verdict(*cells: Cell, **buyer: Any) -> Verdict:
    """The one verdict."""
    (only,) = verdicts_of(cells or CELLS, config_for(**buyer))
    return only


@pytest.mark.parametrize(
    ("buyer", "chosen", "binds"),
    [
        ({}, "c", "rule"),
        ({"gb_month_camera": 10}, "more", "budget"),
        ({"gb_month_camera": 1}, "h", "budget"),
        ({"gb_month_camera": 0.1}, "e", "budget"),
        ({"gb_month_camera": 1, "least_quality": 0.85}, None, "budget"),
    ],
)
def test_the_best_within_the_limits_is_taken(buyer: dict[str, Any], chosen: str | None, binds: str) -> None:
    """And what keeps a better one from being taken is named; where none keeps to the limits none is taken."""
    found = verdict(**buyer)
    assert (found.chosen, found.binds) == (chosen, binds)


def test_of_equals_the_cheapest_is_taken() -> None:
    """A point of quality is no reason to pay: two modes within one point differ by their costs."""
    cells = [*CELLS[:2], measured("h", 0.945, 300), measured("more", 0.943, 30)]
    assert verdict(*cells, **PRICES).chosen == "more"


@pytest.mark.parametrize(
    ("figures", "reasons", "binds"),
    [
        ({"server_infer_ms": 20.0}, {"link too slow": 30}, "link"),
        ({"server_queue_ms": 300.0}, {"link too slow": 30}, "server"),
        ({"server_infer_ms": 20.0}, {"pushback": 30, "late": 9}, "server"),
        ({"server_infer_ms": 20.0}, {"over budget": 30}, "budget"),
        ({"on_time_share": 0.8}, {"no time left": 30, "pushback": 9}, "device"),
        ({"on_time_share": 0.5}, {"link too slow": 30}, "device"),
    ],
)
def test_frames_that_were_not_had_are_laid_to_what_held_them(
    figures: dict[str, float], reasons: dict[str, int], binds: str
) -> None:
    """By their reasons; late answers by which side takes more of an answer's time."""
    slow = measured("h", 0.9, 30, **{"degraded_share": 0.3, "cloud_answer_ms": 400.0} | figures)
    found = verdict(CELLS[0], msgspec.structs.replace(slow, reasons=reasons))
    assert found.binds == binds


def test_the_verdict_is_in_words() -> None:
    """What to take, what the others need, what binds, what more buys, the break-even, and all together."""
    (taken, edge, cloud, limit, more, even, whole) = verdict(
        gb_month_camera=1, cameras=200, currency="CHF", **PRICES
    ).sentences
    # 30 bytes a frame: 0.778 GB; devices 72 over 36 months, a SIM: 2 + 1 + 0.778.
    assert taken == (
        "Over home (s, 1 camera at 10 frames a second), with 1 GB a month and camera, take h: it reaches "
        "80.0% of the cloud's answers for 0.778 GB and 3.78 CHF a month and camera."
    )
    assert edge == "e reaches 55.0% for 0 GB and 2.00 CHF."
    assert cloud == "c would need 51.8 GB and 53.84 CHF, and reaches 95.0%."
    assert limit == "The limit is the budget: c would reach 95.0% for 51.8 GB and 53.84 CHF."
    # From h to more: 10 points for 7.0 GB, and as many francs.
    assert more.startswith(
        "A month and camera: the next GB buys 1.43 points of quality, by more (90.0% for 7.78"
    )
    assert even == "Break-even at 0.0196 CHF a GB: below it c costs less than h, above it more."
    assert whole == "All 200 cameras with h: 14,400 CHF once for devices, 355.52 CHF a month, 156 GB a month."


def test_what_it_would_take_to_send_every_frame_is_said() -> None:
    """A baseline that could send a quarter of its frames would need four times its bytes for all."""
    cells = [CELLS[0], measured("c", 0.7, 500, sent_share=0.25, degraded_share=0.75)]
    assert "c would need 51.8 GB for every frame; it could send 25.0%" in " ".join(
        verdict(*cells, gb_month_camera=10).sentences
    )


def test_servers_are_whole_and_shared() -> None:
    """90 cameras that take 0.05 cores each fill 6.4 cores at 70 %: seven are rented, 80 at 8 hours a day."""
    (month,) = verdict(
        measured("h", 0.9, 30, server_cpu_s_per_1000_frames=5.0),
        cameras=90,
        hours_a_day=8,
        server_core_hour=0.1,
        server_core_watt=9.0,
    ).months
    assert (month.server_cores, month.gpus) == (7, 0)
    assert month.costs.server == pytest.approx(7 * 240 * 0.1 / 90)
    assert month.server_kwh == pytest.approx(7 * 9 * 240 / 1000 / 90)


@pytest.mark.parametrize(
    ("number", "least", "shown"),
    [
        (0, 2, "0.00"),
        (0.0000123456, 0, "0.0000123"),
        (0.9999, 0, "1.00"),
        (12.345, 0, "12.3"),
        (1234.5, 2, "1,234"),
    ],
)
def test_a_number_shows_three_digits(number: float, least: int, shown: str) -> None:
    """So what is read is within half a percent of what was measured."""
    assert digits(number, least) == shown


def test_text_for_pasting_holds_the_first_page(tmp_path: Path) -> None:
    """report.md: the verdict, the table with the mode to take, what its words mean; names are no markup."""
    config = config_for(gb_month_camera=1, **PRICES)
    whole = report(*CELLS, config=msgspec.json.decode(msgspec.json.encode(config)), notes=["a|b <i>"])
    write_markdown(
        msgspec.structs.replace(whole, verdicts=verdicts_of(CELLS, config)), tmp_path / "report.md"
    )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**Over home" in text
    assert "| h | take this | 80.0% |" in text
    assert "- *degraded*: " in text
    assert "a\\|b &lt;i>" in text


def test_without_a_quality_there_is_no_verdict(tmp_path: Path) -> None:
    """And the first page says so in its place."""
    bare = report(cell("e", {"on_time_share": 1.0}))
    assert verdicts_of(bare.cells, config_for()) == []
    write_markdown(bare, tmp_path / "report.md")
    assert "There is no verdict" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_recommendation_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """The folder is there all the same, and its README.md says what came closest and what it breaks."""
    config = config_for(gb_month_camera=0.1, least_quality=0.85)
    with brake_for(None) as brake:
        scenarios = Scenarios(config, tmp_path, {}, brake, Silent())
        write_recommended(verdicts_of(CELLS, config), scenarios)
        text = (tmp_path / "recommended" / "README.md").read_text(encoding="utf-8")
        assert "`s/home-1`: no configuration. Over home" in text
        assert "no mode keeps to the limits. c comes closest" in text
        write_recommended([], scenarios)
    assert "Nothing: no cell" in (tmp_path / "recommended" / "README.md").read_text(encoding="utf-8")


@pytest.mark.needs("chromium")
@pytest.mark.timeout(300)
def test_no_part_of_the_page_is_cut(tmp_path: Path) -> None:
    """In a browser 1300 and 400 pixels wide and on paper: no table is wider than its place, nothing fails."""
    config = config_for(gb_month_camera=1, device_idle_watt=3.0, kilowatt_hour=0.3, **PRICES)
    tracked = {"streaming": 0.8, "confirmed_share": 0.5, "tracks": 9.0, "first_p99_ms": 100.0}
    cells = [measured(name, 0.8, 300, **tracked) for name in ("e", "c", "h", "more")]
    whole = msgspec.structs.replace(
        full_report(),
        cells=cells,
        config=msgspec.json.decode(msgspec.json.encode(config)),
        verdicts=verdicts_of(cells, config),
    )
    write_page(whole, tmp_path / "report.html")
    address = (tmp_path / "report.html").as_uri()
    wider = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    with chromium(tmp_path) as page:
        for width in (1300, 400):
            page.open(f"{address}?{width}", width)
            page.until("document.readyState === 'complete'")
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.value(wider) == 0
            assert page.value("[...document.images].every(i => i.naturalWidth > 0)")
        page.paper(width_px=1046)
        assert page.value(wider) == 0
        assert page.complaints == []
