"""load.yaml: what it may say, and that mistakes are named."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml

from spillover.cloud.config import CloudConfig
from spillover.common.config import Section, load_config, parse_config
from spillover.common.errors import ConfigError
from spillover.edge.config import EdgeConfig
from spillover.lab.files import merged, nested
from spillover.lab.loadtest import config as section
from spillover.lab.loadtest.cells import cells_of, has_settled, interleaved
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.paths import placed
from spillover.lab.loadtest.server import require_loopback

EXAMPLE = Path(__file__).parents[3] / "examples" / "load.yaml"
SMALL = """
modes: {a: {mode: edge_only}}
links: {l: {rtt_ms: 10}}
scenarios: {s: {modes: [a], links: [l]}}
"""


def test_example_is_what_the_program_reads() -> None:
    """The example file loads, and its scenarios are all that the make target shows."""
    config = load_config(EXAMPLE, LoadConfig)
    assert set(config.scenarios) == {"video", "detection", "labelled", "fleet"}
    assert config.goals


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (section.LoadConfig, []),
        (section.CloudPart, ["cloud"]),
        (section.BuyerConfig, ["buyer"]),
        (section.CapacityConfig, ["capacity", 0]),
        (section.SweepConfig, ["sweep"]),
        (section.FleetConfig, ["fleet"]),
        (section.LinkConfig, ["links", "50ms-5mbit"]),
    ],
)
def test_example_explains_every_key(kind: type[msgspec.Struct], path: list[str | int]) -> None:
    """Every key of a section is in the example, under its own name."""
    found = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    for step in path:
        found = found[step]
    assert set(found) == {field.encode_name for field in msgspec.structs.fields(kind)}


def test_a_scenario_has_one_source_or_several() -> None:
    """Both say what edges play."""
    both = {"modes": ["a"], "links": ["l"], "source": "x.mp4", "sources": ["y.mp4"]}
    with pytest.raises(msgspec.ValidationError, match="leave out one of both"):
        msgspec.convert(both, section.ScenarioConfig)


def scattered(*on_time: float) -> list[dict[str, float]]:
    """Repeats that differ in what was on time alone."""
    return [{"on_time_share": share, "up_bytes_per_frame": 100.0, "in_time_share": 0.0} for share in on_time]


def test_repeats_end_when_the_last_three_are_alike() -> None:
    """What came before them does not count, and two say nothing."""
    assert not has_settled(scattered(0.9, 0.9), 0.05)
    assert has_settled(scattered(0.5, 0.9, 0.91, 0.9), 0.05)
    assert not has_settled(scattered(0.9, 0.9, 0.8), 0.05)


def test_example_explains_every_key_of_a_scenario() -> None:
    """The example's scenarios together show all keys that one may have."""
    scenarios = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["scenarios"]
    shown = {key for scenario in scenarios.values() for key in scenario}
    assert shown == {field.encode_name for field in msgspec.structs.fields(section.ScenarioConfig)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scenarios": {"s": {"modes": ["b"], "links": ["l"]}}}, "'b'"),
        ({"scenarios": {"s": {"modes": ["a"], "links": ["m"]}}}, "'m'"),
        ({"scenarios": {"s": {"modes": ["a"], "links": ["l"], "kind": "simulated"}}}, "record"),
        ({"goals": [{"scenario": "t", "mode": "a", "measure": "lost", "at_most": 0}]}, "'t'"),
        ({"goals": [{"scenario": "s", "mode": "a", "measure": "speed", "at_most": 0}]}, "speed"),
        ({"goals": [{"scenario": "s", "mode": "a", "measure": "lost"}]}, "at_most or at_least"),
        ({"buyer": {"scenarios": ["t"]}}, "'t'"),
        ({"buyer": {"currency": "<b>"}}, "currency"),
        ({"sweep": {"scenario": "s", "modes": ["a"], "values": {}}}, "values"),
        ({"fps": 3}, "fps"),
    ],
)
def test_a_mistake_is_named(change: dict[str, object], named: str) -> None:
    """A name that is nowhere defined, an unknown measure or key: the error says which."""
    text = yaml.safe_dump(yaml.safe_load(SMALL) | change)
    with pytest.raises(ConfigError, match=r"load\.yaml") as caught:
        parse_config(text, LoadConfig, "load.yaml")
    assert named in str(caught.value)


@pytest.mark.parametrize("key", ["rtt_ms", "up_mbit_per_s", "down_mbit_per_s"])
def test_figures_beside_a_trace_are_a_mistake(key: str) -> None:
    """A trace has rates and round trips of its own: file and key of the ignored figure are named."""
    text = yaml.safe_dump(yaml.safe_load(SMALL) | {"links": {"l": {"trace": "lte", key: 80}}})
    with pytest.raises(ConfigError, match=rf"load\.yaml.*links\.l\.{key}.*trace lte"):
        parse_config(text, LoadConfig, "load.yaml")


def test_a_scenario_may_have_a_pair_of_its_own() -> None:
    """Other scenarios have the test's pair, and simulated edges that of the scenario they replay."""
    simulated = "{kind: simulated, record: s, modes: [a], links: [l]}"
    raw = merged(yaml.safe_load(SMALL), {"edge_model": "e/1", "cloud_model": "c/1"})
    raw = merged(
        raw, nested("scenarios.s.cloud_model", "d/1"), nested("scenarios.m", yaml.safe_load(simulated))
    )
    config = msgspec.convert(raw, LoadConfig)
    pairs = [config.with_pair_of(scenario) for scenario in config.scenarios.values()]
    assert [(pair.edge_model, pair.cloud_model) for pair in pairs] == [("e/1", "d/1")] * 2
    text = yaml.safe_dump(merged(raw, nested("scenarios.m.edge_model", "e/2")))
    with pytest.raises(ConfigError, match=r"scenarios\.m\.edge_model"):
        parse_config(text, LoadConfig, "load.yaml")


def test_every_cell_is_run_once_a_repeat_and_none_always_first() -> None:
    """Repeats visit all cells, and begin with another one each time."""
    plan = msgspec.convert(
        {"modes": ["a", "b"], "links": ["l", "m"], "edges": [1, 5]}, section.ScenarioConfig
    )
    cells = cells_of("s", plan)
    assert len(set(cells)) == len(cells) == 8
    turns = list(interleaved(cells, 3))
    for repeat in range(3):
        of_repeat = [cell for r, cell in turns if r == repeat]
        assert sorted(of_repeat, key=str) == sorted(cells, key=str)
    assert len({next(cell for r, cell in turns if r == repeat) for repeat in range(3)}) == 3


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:50051", "[::1]:7"])
def test_loopback_is_let_through(address: str) -> None:
    """Addresses of this machine need no permission."""
    require_loopback(address, "cloud.address")


def test_another_machine_needs_permission() -> None:
    """An address outside the loopback interface is refused, and the flag that allows it is named."""
    with pytest.raises(ConfigError, match="--remote"):
        require_loopback("192.0.2.1:50051", "cloud.address")


def test_parts_of_a_configuration_are_laid_over_each_other() -> None:
    """Nested sections merge key by key, later ones win, and inputs stay as they were."""
    base = {"policy": {"kind": "margin", "threshold": 0.5}, "mode": "hybrid"}
    assert merged(base, nested("policy.threshold", 0.7), {"mode": "edge_only"}) == {
        "policy": {"kind": "margin", "threshold": 0.7},
        "mode": "edge_only",
    }
    assert base["policy"] == {"kind": "margin", "threshold": 0.5}


def test_paths_begin_at_the_folder_of_the_file(tmp_path: Path) -> None:
    """From wherever it is started; variables, absolute paths, modelled traces and prepared models stay."""
    (tmp_path / "mine" / "1").mkdir(parents=True)
    mode = {
        "mode": "hybrid",
        "policy": {"gain_file": "gain.json"},
        "uplink": {"split": {"folder": "prepared/1"}},
    }
    scenario = {"modes": ["a"], "links": ["l"]}
    raw = {
        "edge_model": "mine/1",
        "cloud_model": "prepared/1",
        "modes": {"a": mode},
        "links": {"l": {"trace": "drive.csv"}, "m": {"trace": "lte"}},
        "scenarios": {
            "s": scenario | {"source": "clip.avi"},
            "t": scenario | {"sources": ["$HOME/a.avi", "/b.avi"], "edge_model": "mine/1"},
            "u": scenario,
        },
        "cloud": {"config": {"security": {"tokens_file": "tokens"}}},
    }
    config = placed(msgspec.convert(raw, LoadConfig), tmp_path)
    assert (config.edge_model, config.cloud_model) == (str(tmp_path / "mine/1"), "prepared/1")
    assert config.scenarios["t"].edge_model == config.edge_model
    assert [one.all_sources for one in config.scenarios.values()] == [
        (str(tmp_path / "clip.avi"),),
        ("$HOME/a.avi", "/b.avi"),
        ("",),
    ]
    assert [link.trace for link in config.links.values()] == [str(tmp_path / "drive.csv"), "lte"]
    assert config.modes["a"] == merged(mode, nested("policy.gain_file", str(tmp_path / "gain.json")))
    assert config.cloud.config["security"]["tokens_file"] == str(tmp_path / "tokens")


def files_in(kind: type[msgspec.Struct]) -> Iterator[str]:
    """The dotted keys of a configuration that name a file, by their last parts."""
    for field in msgspec.structs.fields(kind):
        for one in get_args(field.type) or (field.type,):
            if one is str and re.search(r"(^|_)(file|ca|certificate|key|crl|repository)$", field.encode_name):
                yield field.encode_name
            elif isinstance(one, type) and issubclass(one, Section):
                yield from (f"{field.encode_name}.{key}" for key in files_in(one))


def test_every_file_that_edge_and_server_read_is_below_the_folder(tmp_path: Path) -> None:
    """All keys of both that name one: certificates, tokens and lists of revoked ones, whoever reads them."""
    edge, cloud = (set(files_in(kind)) for kind in (EdgeConfig, CloudConfig))
    edge -= {"health.file", "policy.budget.state_file"}  # which it writes
    edge = {key for key in edge if not key.startswith("camera")}  # which the test sets
    assert {"uplink.tls.ca", "security.tls.key", "policy.gain_file"} <= edge
    assert {"models.repository", "security.forwarded.crl"} <= cloud
    config = msgspec.convert(yaml.safe_load(SMALL), LoadConfig)
    mode, server = (merged(*(nested(key, "some.pem") for key in keys)) for keys in (edge, cloud))
    made = placed(
        msgspec.structs.replace(config, modes={"a": mode}, cloud=section.CloudPart(config=server)), tmp_path
    )
    there = str(tmp_path / "some.pem")
    assert made.modes["a"] == merged(*(nested(key, there) for key in edge))
    assert made.cloud.config == merged(*(nested(key, there) for key in cloud))
