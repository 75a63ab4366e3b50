"""The whole load test with real processes and a model of three colours."""

import csv
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from spillover.common.config import load_config
from spillover.common.errors import ConfigError, ModelError, SourceError, UnavailableError
from spillover.common.types import Action
from spillover.edge.config import EdgeConfig
from spillover.lab.loadtest.config import GoalConfig, LoadConfig
from spillover.lab.loadtest.load_test import LoadTest, Settings
from spillover.lab.loadtest.results import Report, read_report
from spillover.lab.records import read_records
from tests.support.models import centre_detector, colour_classifier
from tests.support.scripted_cloud import no_server_address
from tests.support.serving import jpeg_of
from tests.support.splitting import residual_classifier, split_classifier

pytestmark = pytest.mark.slow

COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (40, 40, 250))


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four labelled pictures, one of them wrongly, and the classifier as edge's and cloud's model."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    colour_classifier(tmp_path / "home" / "models")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, bgr in enumerate(COLOURS):
        (folder / f"{index}.jpg").write_bytes(jpeg_of(bgr))
    labels = "file,class_index\n0.jpg,0\n1.jpg,1\n2.jpg,2\n3.jpg,1\n"
    (folder / "labels.csv").write_text(labels, encoding="utf-8")
    return folder


def config_for(pictures: Path, **changes: object) -> LoadConfig:
    """Three modes with a real edge, a simulated fleet of four, one link; a deadline no machine misses."""
    base = {
        "edge_model": "colour/1",
        "cloud_model": "colour/1",
        "deadline_s": 4.0,
        "modes": {
            "edge_only": {"mode": "edge_only"},
            "cloud_only": {"mode": "cloud_only", "uplink": {"max_in_flight": 64}},
        },
        "links": {"quick": {"rtt_ms": 10}},
        "scenarios": {
            "real": {
                "source": str(pictures),
                "modes": ["edge_only", "cloud_only"],
                "links": ["quick"],
                "fps": 4,
                "warm_up_s": 0.5,
                "window_s": None,
                "repeats": 1,
            },
            "many": {
                "kind": "simulated",
                "record": "real",
                "modes": ["cloud_only"],
                "links": ["quick"],
                "edges": [2, 4],
                "fps": 5,
                "warm_up_s": 0.1,
                "window_s": 1,
                "repeats": 1,
                "until": 0.5,
                "most_repeats": 2,
            },
        },
    }
    return msgspec.convert(base | changes, LoadConfig)


def run(config: LoadConfig, out: Path) -> Report:
    """Run it quietly."""
    return LoadTest(config, Settings(out), Console(quiet=True)).run()


def test_modes_are_measured_side_by_side(pictures: Path, tmp_path: Path) -> None:
    """Real edges in both modes, then simulated ones, extrapolated: every figure is there and adds up."""
    goals = [{"scenario": "many", "mode": "cloud_only", "measure": "lost", "at_most": 0}]
    config = config_for(pictures, goals=goals, fleet={"scenario": "many"})
    report = run(config, tmp_path / "out")
    edge_only, cloud_only, *fleet = report.cells
    assert (edge_only.mode, cloud_only.mode) == ("edge_only", "cloud_only")
    assert edge_only.figure("accuracy") == cloud_only.figure("accuracy") == 0.75
    assert edge_only.figure("agreement") == 1
    assert edge_only.figure("up_bytes_per_frame") == 0
    assert (
        (cloud_only.figure("up_bytes_per_frame") or 0)
        > (cloud_only.figure("payload_bytes_per_frame") or 0)
        > 0
    )
    assert cloud_only.figure("cloud_share") == 1
    assert cloud_only.figure("ideal_in_time_share") == cloud_only.figure("ideal_agreement") == 1
    assert [cell.edges for cell in fleet] == [2, 4]
    assert [len(cell.runs) for cell in fleet] == [2, 2]
    assert sum("not settled within 50% after 2 repeats" in note for note in report.notes) == 2
    assert [cell.figure("frames") for cell in fleet] == [10, 20]
    assert [goal.met for goal in report.goals] == [True, True]
    assert report.fleet is not None
    assert len(report.fleet.checks) == 1
    assert read_report(tmp_path / "out") == report
    assert "cloud_only" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    with (tmp_path / "out" / "report.csv").open(newline="", encoding="utf-8") as file:
        assert {row["scenario"] for row in csv.DictReader(file)} == {"real", "many"}


def test_a_test_that_ends_early_leaves_the_report_of_what_has_ended(pictures: Path, tmp_path: Path) -> None:
    """Finished cells are in the report, and a note says why the test did not end."""
    config = config_for(pictures)
    real = msgspec.structs.replace(config.scenarios["real"], modes=("edge_only",))
    many = msgspec.structs.replace(config.scenarios["many"], window_s=None)  # found when its turn comes
    with pytest.raises(SourceError, match="window_s"):
        run(msgspec.structs.replace(config, scenarios={"real": real, "many": many}), tmp_path / "out")
    report = read_report(tmp_path / "out")
    assert [cell.mode for cell in report.cells] == ["edge_only"]
    assert any("did not end: scenarios.many.window_s" in note for note in report.notes)
    assert (tmp_path / "out" / "report.html").is_file()


def test_features_are_sent_recorded_and_replayed(pictures: Path, tmp_path: Path) -> None:
    """A mode with a split network: real edges send features, and simulated ones replay them."""
    folder = residual_classifier(tmp_path / "home" / "models")
    (first, *_) = split_classifier(folder).plan.cuts
    uplink = {
        "payload": "features",
        "split": {"folder": "residual/1", "cuts": [first.name]},
        "max_in_flight": 64,
    }
    report = run(
        config_for(pictures, cloud_model="residual/1", modes=modes_with(cloud_only=uplink)), tmp_path / "out"
    )
    _, sending, *fleet = report.cells
    log = tmp_path / "out" / "real" / "cloud_only-quick-1" / "repeat-0" / "edge-0.jsonl"
    assert {record.decision.action for record in read_records(log)} == {Action.SEND_FEATURES}
    assert [cell.figure("cloud_share") for cell in (sending, *fleet)] == [1, 1, 1]
    assert (fleet[0].figure("payload_bytes_per_frame") or 0) > 0


def modes_with(cloud_only: dict[str, object]) -> dict[str, object]:
    """Both modes, `cloud_only` with this uplink."""
    return {
        "edge_only": {"mode": "edge_only"},
        "cloud_only": {"mode": "cloud_only", "uplink": cloud_only},
    }


def test_a_pair_must_do_the_same_task(pictures: Path, tmp_path: Path) -> None:
    """A classifier's answers cannot be judged by a detector's: refused before anything is started."""
    centre_detector(tmp_path / "home" / "models")
    with pytest.raises(ConfigError, match="do not belong together"):
        run(config_for(pictures, cloud_model="centre/1"), tmp_path / "out")


def test_an_address_where_nobody_answers_is_an_error(pictures: Path, tmp_path: Path) -> None:
    """Not a report in which every call has failed."""
    config = config_for(pictures, cloud={"address": no_server_address()})
    with pytest.raises(UnavailableError, match=r"cloud\.address"):
        run(config, tmp_path / "out")


def test_sweep_and_search_leave_a_configuration_to_start_from(pictures: Path, tmp_path: Path) -> None:
    """A sweep writes an edge.yaml that the edge accepts; a search finds what the server holds at most."""
    config = config_for(
        pictures,
        modes={"hybrid": {"mode": "hybrid", "policy": {"threshold": 0.0}, "uplink": {"max_in_flight": 64}}},
        scenarios={
            "real": {
                "source": str(pictures),
                "modes": ["hybrid"],
                "links": ["quick"],
                "fps": 10,
                "warm_up_s": 0.2,
                "window_s": None,
                "repeats": 1,
            },
            "many": {
                "kind": "simulated",
                "record": "real",
                "modes": ["hybrid"],
                "links": ["quick"],
                "fps": 5,
                "offload_share": 1.0,
                "warm_up_s": 0.1,
                "window_s": 0.5,
                "repeats": 1,
            },
        },
        capacity=[{"scenario": "many", "first_edges": 1, "max_edges": 2, "window_s": 0.5}],
        sweep={"scenario": "real", "values": {"policy.threshold": [0.0, 1.0]}},
    )
    report = run(config, tmp_path / "out")
    assert [cell.mode for cell in report.cells] == ["hybrid", "hybrid-0", "hybrid-1", "hybrid"]
    (verdict,) = report.verdicts
    assert verdict.chosen == "hybrid-1"  # equally good, and nothing sent
    edge = load_config(tmp_path / "out" / "recommended" / verdict.place / "edge.yaml", EdgeConfig)
    assert edge.policy.threshold == 1.0
    (capacity,) = report.capacity
    assert (capacity.held, capacity.failed) == (2, None)


def test_a_scenario_may_be_left_out_but_not_in_silence(pictures: Path, tmp_path: Path) -> None:
    """An optional scenario without its source is noted, its goals stay open; any other fails the test."""
    config = config_for(pictures)
    absent = msgspec.structs.replace(config.scenarios["real"], source="$SPILLOVER_NOWHERE/x", optional=True)
    goal = GoalConfig(scenario="real", mode="edge_only", measure="lost", at_most=0)
    left_out = msgspec.structs.replace(config, scenarios={"real": absent}, goals=(goal,))
    report = run(left_out, tmp_path / "out")
    assert any("SPILLOVER_NOWHERE" in note for note in report.notes)
    assert [goal.met for goal in report.goals] == [None]
    needed = msgspec.structs.replace(absent, optional=False)
    with pytest.raises(SourceError, match="SPILLOVER_NOWHERE"):
        run(msgspec.structs.replace(config, scenarios={"real": needed}), tmp_path / "again")


def test_a_pair_that_is_absent_is_left_out_with_the_command_that_makes_it(
    pictures: Path, tmp_path: Path
) -> None:
    """If the scenario is optional; else it is an error, before anything is started."""
    config = config_for(pictures)
    absent = msgspec.structs.replace(config.scenarios["real"], cloud_model="nanodet-g-coco-ssd/1")
    optional = msgspec.structs.replace(absent, optional=True)
    report = run(msgspec.structs.replace(config, scenarios={"street": optional}), tmp_path / "out")
    assert report.cells == []
    assert any("scenario street was left out" in n and "prepare --pair detection" in n for n in report.notes)
    with pytest.raises(ModelError, match="nanodet-g-coco-ssd"):
        run(msgspec.structs.replace(config, scenarios={"street": absent}), tmp_path / "again")


def test_another_machine_is_not_loaded_unasked(pictures: Path, tmp_path: Path) -> None:
    """An address outside the loopback interface is refused before anything is started."""
    config = config_for(pictures, cloud={"address": "192.0.2.1:50051"})
    with pytest.raises(ConfigError, match="--remote"):
        run(config, tmp_path / "out")
