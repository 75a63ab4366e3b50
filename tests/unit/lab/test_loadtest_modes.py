"""Modes of a load test: what they make of edge.yaml, and the cuts that they need."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from spillover.common.config import load_config
from spillover.common.errors import ConfigError, ModelError, SpilloverError
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.split import open_split_plan
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.edge.config import EdgeConfig
from spillover.edge.link.byte_budget import CONNECTION_BYTES, SavedTokens
from spillover.edge.policy.budget import WINDOW
from spillover.lab.daemons import EdgeProcess
from spillover.lab.loadtest.baselines import is_pure_cloud
from spillover.lab.loadtest.budgets import steady_budget
from spillover.lab.loadtest.config import LoadConfig, SweepConfig
from spillover.lab.loadtest.cuts import prepare_cuts
from spillover.lab.loadtest.edges import check_fits, drops_of, edge_of
from spillover.lab.loadtest.preparing import prepare_pairs
from spillover.lab.loadtest.sweep import alike, with_swept_modes
from spillover.lab.terminal import Silent
from tests.support.models import colour_classifier
from tests.support.splitting import residual_classifier, split_classifier
from tests.unit.lab.test_loadtest_report import cell


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with two prepared models."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path))
    colour_classifier(tmp_path / "models")
    residual_classifier(tmp_path / "models")
    return tmp_path / "models"


def config_for(**modes: object) -> LoadConfig:
    """One scenario of all the modes, and a mode that nothing runs."""
    raw = {
        "edge_model": "colour/1",
        "cloud_model": "residual/1",
        "modes": {**modes, "unused": {}},
        "links": {"l": {}},
        "scenarios": {"s": {"modes": list(modes), "links": ["l"]}},
    }
    return msgspec.convert(raw, LoadConfig)


def sending(cut: str, folder: str = "residual/1") -> EdgeConfig:
    """An edge that sends features of a cut."""
    uplink = {"payload": "features", "split": {"folder": folder, "cuts": [cut]}}
    return edge_of(config_for(split={"mode": "cloud_only", "uplink": uplink}), "split")


@pytest.mark.usefixtures("home")
def test_a_mistake_in_a_mode_names_the_mode_and_the_key() -> None:
    """Long before an edge is started."""
    with pytest.raises(ConfigError, match=r"modes\.odd.*polcy"):
        edge_of(config_for(odd={"polcy": {}}), "odd")


@pytest.mark.usefixtures("home")
def test_a_mistake_in_a_swept_key_names_it() -> None:
    """As in any other mode."""
    with pytest.raises(ConfigError, match=r"modes\.a-0\.5.*treshold"):
        edge_of(with_swept_modes(sweeping({"policy.treshold": (0.5,)})), "a-0.5")


def sweeping(values: dict[str, tuple[float | str, ...]]) -> LoadConfig:
    """A test that sweeps mode `a` of scenario `s`."""
    return msgspec.structs.replace(config_for(a={}), sweep=SweepConfig("s", values, ("a",)))


@pytest.mark.usefixtures("home")
def test_a_sweep_is_modes_of_its_scenario() -> None:
    """Every combination of words and numbers, run as any other mode over all links with all edges."""
    swept = with_swept_modes(
        sweeping({"policy.kind": ("margin", "entropy"), "policy.send_share": (0.1, 0.2)})
    )
    names = ("a", "a-margin-0.1", "a-margin-0.2", "a-entropy-0.1", "a-entropy-0.2")
    assert swept.scenarios["s"].modes == names
    assert edge_of(swept, "a-entropy-0.2").policy.kind == "entropy"


def test_values_that_change_nothing_are_said() -> None:
    """Points that sent and showed the same are one; that is a note, and no choice between them."""
    test = sweeping({"policy.threshold": (0.1, 0.2)})
    for second, said in ((0.3, True), (0.4, False)):
        cells = [
            cell(mode, {"sent_share": sent, "agreement": 0.9})
            for mode, sent in (("a-0.1", 0.3), ("a-0.2", second))
        ]
        notes = list(alike(cells, test.sweep or pytest.fail("no sweep"), test))
        assert [("a-0.1, a-0.2 came out alike" in note) for note in notes] == [True] * said


@pytest.mark.usefixtures("home")
def test_a_mode_that_is_not_for_the_model_is_named() -> None:
    """A score of the other task, or a detector that carries: an error before an edge is started."""
    modes = config_for(odd={"policy": {"kind": "near_threshold"}}, carries={"temporal": {}})
    with pytest.raises(ConfigError, match=r"modes\.odd: policy\.kind"):
        check_fits(edge_of(modes, "odd"), "odd", CLASSIFICATION)
    with pytest.raises(ConfigError, match=r"modes\.carries: temporal"):
        check_fits(edge_of(modes, "carries"), "carries", DETECTION)
    check_fits(edge_of(modes, "carries"), "carries", CLASSIFICATION)


@pytest.mark.usefixtures("home")
def test_the_modes_of_the_example_fit_its_models() -> None:
    """`make loadtest` runs them with classifiers, or with detectors in scenarios that name a pair."""
    example = load_config(Path(__file__).parents[3] / "examples" / "load.yaml", LoadConfig)
    own = {name for name, scenario in example.scenarios.items() if example.played_by(scenario).edge_model}
    assert own
    prepared = msgspec.structs.replace(example, edge_model="colour/1")  # the example's may not be prepared
    for name, scenario in example.scenarios.items():
        for mode in scenario.modes:
            check_fits(edge_of(prepared, mode), mode, DETECTION if name in own else CLASSIFICATION)


@pytest.mark.usefixtures("home")
def test_cloud_only_is_pure_cloud_unless_the_mode_asks_for_the_edges_rules() -> None:
    """The forecast holds nothing back, and what others' bytes are shares of is pure cloud alone."""
    modes = config_for(
        pure={"mode": "cloud_only"},
        ruled={"mode": "cloud_only", "uplink": {"forecast": True}},
        hybrid={"mode": "hybrid"},
    )
    assert [edge_of(modes, mode).uplink.forecast for mode in ("pure", "ruled", "hybrid")] == [
        False,
        True,
        True,
    ]
    assert [is_pure_cloud(modes.modes[mode]) for mode in ("pure", "ruled", "hybrid")] == [True, False, False]


def test_a_cut_that_is_there_is_used(home: Path) -> None:
    """A split of one's own is not made anew."""
    (first, *_) = split_classifier(home / "residual" / "1").plan.cuts
    written = (home / "residual" / "1" / "split.yaml").stat().st_mtime_ns
    assert prepare_cuts([sending(first.name)], Silent(), make=True) == []
    assert (home / "residual" / "1" / "split.yaml").stat().st_mtime_ns == written


def test_other_cuts_are_not_replaced(home: Path) -> None:
    """A prepared model with a split that lacks the cut is left as it is; the error says how to add it."""
    split_classifier(home / "residual" / "1")
    with pytest.raises(ConfigError, match=r"no cut nosuch; .spillover lab split residual/1 .*--cut nosuch"):
        prepare_cuts([sending("nosuch")], Silent(), make=True)


@pytest.mark.usefixtures("home")
def test_no_cut_is_made_for_a_server_elsewhere() -> None:
    """Its tails would not be the same."""
    with pytest.raises(ConfigError, match="the server needs the same"):
        prepare_cuts([sending("relu")], Silent(), make=False)


def test_an_unknown_cut_is_named(home: Path) -> None:
    """A network is not split at a place that it has not, and keeps no half-made plan."""
    with pytest.raises(ModelError, match="nosuch"):
        prepare_cuts([sending("nosuch")], Silent(), make=True)
    with pytest.raises(ModelError):
        open_split_plan(open_model_folder(home / "residual" / "1"))


@pytest.mark.usefixtures("home")
def test_pictures_need_no_cuts() -> None:
    """Modes without features leave every model alone."""
    assert prepare_cuts([edge_of(config_for(a={}), "a")], Silent(), make=True) == []


def sending_video(*, optional: bool = False, **scenario: object) -> LoadConfig:
    """A mode of payload video in one scenario, and simulated edges that replay it if `scenario` says so."""
    config = config_for(video={"mode": "cloud_only", "uplink": {"payload": "video"}})
    real = msgspec.structs.replace(config.scenarios["s"], optional=optional)
    scenarios = {"s": real}
    if scenario:
        scenarios["m"] = msgspec.convert(scenario | {"modes": ["video"], "links": ["l"]}, type(real))
    return msgspec.structs.replace(config, scenarios=scenarios)


@pytest.mark.usefixtures("home")
def test_without_a_codec_nothing_is_measured_as_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEG would go in its place: the scenario is left out if it may be, else the test ends here."""
    quiet = Console(quiet=True)
    assert prepare_pairs(sending_video(), ["s"], quiet).absent == {}
    monkeypatch.setitem(sys.modules, "av", None)
    assert "[video]" in prepare_pairs(sending_video(optional=True), ["s"], quiet).absent["s"]
    with pytest.raises(ConfigError, match=r"\[video\]"):
        prepare_pairs(sending_video(), ["s"], quiet)


@pytest.mark.usefixtures("home")
def test_simulated_edges_send_no_video() -> None:
    """They replay payloads one by one, and each must stand alone: JPEG would go in place of video."""
    config = sending_video(kind="simulated", record="s")
    with pytest.raises(ConfigError, match=r"scenarios\.m\.modes: .*take out video"):
        prepare_pairs(config, list(config.scenarios), Console(quiet=True))


def budgeted(**keys: object) -> LoadConfig:
    """A hybrid mode and pure cloud, both with a byte budget."""
    policy = {"budget": {"bytes": 1_000_000_000, "per": "month"} | keys}
    return config_for(
        hybrid={"mode": "hybrid", "policy": policy}, cloud={"mode": "cloud_only", "policy": policy}
    )


@pytest.mark.usefixtures("home")
def test_a_budget_begins_as_after_a_typical_day_and_its_state_stays_in_the_test(tmp_path: Path) -> None:
    """Half of the bucket where frames are ranked, none where they are not; the report says so."""
    hybrid, cloud = (steady_budget(budgeted(), mode) for mode in ("hybrid", "cloud"))
    assert hybrid is not None
    assert cloud is not None
    for edge, budget in enumerate((hybrid, cloud)):
        file = Path(budget.begin(tmp_path, edge)["budget"]["state_file"])
        assert file.parent == tmp_path
        saved = SavedTokens(file)
        assert saved.left_bytes == (50_000_000 if budget is hybrid else CONNECTION_BYTES)
        saved.close()
    assert hybrid.warm_up_s(10, pass_s=80, usual_s=2) == WINDOW / 10
    assert (hybrid.warm_up_s(10, pass_s=20, usual_s=2), cloud.warm_up_s(10, 20, 2)) == (20, 2)
    (note, other) = prepare_pairs(budgeted(), ["s"], Console(quiet=True)).notes
    assert "half full" in note
    assert "empty" in other


@pytest.mark.usefixtures("home")
def test_a_budget_that_can_send_nothing_is_refused_before_anything_runs() -> None:
    """Keep-alive pings alone would spend it: the mistake of a mode, not of an edge that ended early."""
    config = budgeted(bytes=20_000, per="day")
    with pytest.raises(ConfigError, match=r"modes\.hybrid: policy\.budget\.bytes: .*keepalive_s"):
        prepare_pairs(config, ["s"], Console(quiet=True))


def test_results_that_an_edge_could_not_write_end_the_test(tmp_path: Path) -> None:
    """As on a full disk: figures of what is left would mislead. The file is named."""
    log = tmp_path / "edge-0.log"
    log.write_text('{"event": "stopped", "frames_dropped[queue full]": 3}\n')
    with subprocess.Popen(["true"]) as process:
        edge = EdgeProcess(process, log, tmp_path / "edge-0.jsonl")
    assert drops_of([edge]) == {"queue full": 3}
    log.write_text('{"event": "stopped", "results_dropped[jsonl,write failed]": 123}\n')
    with pytest.raises(SpilloverError, match=r"edge-0\.jsonl: .*123 \(jsonl,write failed\)"):
        drops_of([edge])
