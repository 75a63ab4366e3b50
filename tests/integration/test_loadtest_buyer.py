"""The answer to a buyer, from real processes with tiny detectors, counted again from the raw records."""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from spillover.lab.loadtest.baselines import baselines, share_shown
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.load_test import LoadTest, Settings
from spillover.lab.loadtest.recommended import from_anywhere
from spillover.lab.loadtest.results import Report
from tests.support.clips import write_avi, write_pictures
from tests.support.models import centre_detector, colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER
from tests.support.recount import Json, numbers_in, recount, table_of, take

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WITHIN = 0.01
BUYER = {
    "scenarios": ["street"],
    "cameras": 20,
    "hours_a_day": 12,
    "gb_month_camera": 1000,
    "least_on_time": 0.5,
    "currency": "CHF",
    "months": 24,
    "device": 120,
    "sender": 80,
    "sim_month": 3,
    "gigabyte": 0.5,
    "server_core_hour": 0.04,
    "kilowatt_hour": 0.3,
    "device_idle_watt": 3,
    "device_core_watt": 1.5,
    "server_core_watt": 8,
}
SHORT = {"links": ["quick"], "fps": 5, "warm_up_s": 0.3, "window_s": 1.6, "repeats": 1}
LOAD: Json = {
    "edge_model": "colour/1",
    "cloud_model": "colour/1",
    "deadline_s": 2.0,
    "modes": {
        "edge_only": {"mode": "edge_only"},
        "cloud_only": {"mode": "cloud_only", "uplink": {"max_in_flight": 64}},
        "hybrid": {"mode": "hybrid", "policy": {"send_share": 0.4}, "uplink": {"max_in_flight": 64}},
    },
    "links": {"quick": {"rtt_ms": 10, "up_mbit_per_s": 50, "down_mbit_per_s": 50, "share": 2}},
    "scenarios": {
        "pictures": {**SHORT, "source": "pictures", "modes": ["edge_only"], "window_s": 1},
        "street": {
            **SHORT,
            "source": "clip.avi",
            "edge_model": "edge/1",
            "cloud_model": "cloud/1",
            "modes": ["edge_only", "cloud_only", "hybrid"],
            "edges": [2],
        },
    },
    "goals": [{"scenario": "street", "mode": "cloud_only", "measure": "streaming", "at_least": 0.5}],
    "buyer": BUYER,
}
"""Two cameras whose detectors see things in different places, beside classifiers with another pair."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """The report of the test, and its folder; paths are relative to where it was started."""
    home = tmp_path_factory.mktemp("home")
    for name, x in (("edge", 0.5), ("cloud", 0.8)):
        centre_detector(home / "models", name, beside=(x, 0.2, 0.3, 0.3, 0.9))
    colour_classifier(home / "models")
    write_avi(home / "clip.avi", 12, 4)
    write_pictures(home / "pictures", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPILLOVER_HOME", str(home))
        patch.chdir(home)
        test = LoadTest(msgspec.convert(LOAD, LoadConfig), Settings(Path("out")), Console(quiet=True))
        return test.run(), home / "out"


@pytest.fixture(scope="module")
def counted(done: tuple[Report, Path]) -> dict[str, Json]:
    """The first page, by other arithmetic."""
    return recount(done[1], LOAD, "street", "quick", 2)


def test_each_number_of_the_table_is_that_of_the_raw_records(
    done: tuple[Report, Path], counted: dict[str, Json]
) -> None:
    """Quality, streaming, tracks, shares, gigabytes, every part of the costs, energy: within 1 % as shown."""
    shown = table_of((done[1] / "report.md").read_text(encoding="utf-8"))
    assert list(shown) == list(counted)
    for mode, month in counted.items():
        columns = {heading for heading in shown[mode] if heading and heading != "mode"}
        assert columns == month.keys() - {"cores"}
        for heading in columns:
            (number,) = numbers_in(shown[mode][heading])
            assert number == pytest.approx(month[heading], rel=WITHIN, abs=1e-9), (mode, heading)


def test_each_number_of_the_verdict_is_that_of_the_raw_records(
    done: tuple[Report, Path], counted: dict[str, Json]
) -> None:
    """What to take, what else there is, what the next unit buys, the break-even, and all cameras together."""
    (verdict,) = done[0].verdicts
    edge, cloud, hybrid = (counted[mode] for mode in ("edge_only", "cloud_only", "hybrid"))
    assert verdict.chosen == take(counted, BUYER) == "cloud_only"  # it alone sees what the cloud sees
    price = ("GB", "CHF")
    saved = cloud["GB"] - hybrid["GB"]
    even = ((hybrid["CHF"] - hybrid["data"]) - (cloud["CHF"] - cloud["data"])) / saved
    many = BUYER["cameras"]
    expected = [
        [2, 5, 1000, cloud["quality"], *(cloud[key] for key in price)],
        [edge["quality"], *(edge[key] for key in price)],
        [1],
        [],
        [even] if even > 0 else [],
        [
            many,
            cloud["device"] * BUYER["months"] * many,
            (cloud["CHF"] - cloud["device"]) * many,
            cloud["GB"] * many,
            cloud["cores"],
        ],
    ]
    assert len(verdict.sentences) == len(expected)
    for sentence, numbers in zip(verdict.sentences, expected, strict=True):
        assert numbers_in(sentence) == pytest.approx(numbers, rel=WITHIN), sentence


def test_each_pair_has_its_figures_and_its_server(done: tuple[Report, Path]) -> None:
    """Detectors on a clip beside classifiers: streaming accuracy, tracks, and bytes beside cloud_only's."""
    report, out = done
    of_street = [cell for cell in report.cells if cell.scenario == "street"]
    edge, cloud, hybrid = of_street
    assert (edge.figure("agreement"), cloud.figure("agreement")) == (0, 1)
    assert (cloud.figure("streaming") or 0) > 0.9  # what is seen stands still
    assert 0 < (hybrid.figure("streaming") or 0) <= 1
    assert [cell.figure("confirmed_share") for cell in (edge, cloud)] == [0, 1]
    assert [goal.met for goal in report.goals] == [True]
    assert (out / "cloud-cloud" / "cloud.yaml").is_file()
    assert baselines(report.cells, report.config) == ["cloud_only"]
    assert [share_shown(cell, "cloud_only", report.cells) for cell in (edge, cloud)] == ["0.0%", "100.0%"]


def test_what_is_recommended_starts_from_any_folder(done: tuple[Report, Path], tmp_path: Path) -> None:
    """Its paths are absolute: the edge plays the clip to its end from a folder that has none of the files."""
    report, out = done
    folder = out / "recommended" / report.verdicts[0].place
    environment = os.environ | {"SPILLOVER_HOME": str(tmp_path)}
    command = [*SPILLOVER, "edge", "-c", str(folder / "edge.yaml")]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"repository: /", (folder / "cloud.yaml").read_text(encoding="utf-8"))
    assert "cloud_only" in (folder.parents[1] / "README.md").read_text(encoding="utf-8")


def test_files_of_a_recommendation_are_absolute_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gains lie beside edge.yaml; keys of TLS name their place; words that are no paths stay."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gain.json").write_text("{}", encoding="utf-8")
    (tmp_path / "there").mkdir()
    tls = {"ca": "ca.pem", "server_name": "cloud"}
    edge = {"policy": {"gain_file": "gain.json", "kind": "expected_gain"}, "uplink": {"tls": tls}}
    made = from_anywhere(edge, tmp_path / "there")
    assert made["policy"] == {"gain_file": str(tmp_path / "there" / "gain.json"), "kind": "expected_gain"}
    assert (tmp_path / "there" / "gain.json").is_file()
    assert made["uplink"]["tls"] == {"ca": str(tmp_path / "ca.pem"), "server_name": "cloud"}
