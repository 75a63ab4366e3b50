"""`lab prepare --pair detection` on tiny graphs of the same form as the real ones, with npm and without."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.manifest import open_model_folder
from spillover.common.types import Detections
from spillover.lab.models.prepare import detection
from spillover.lab.models.prepare.cli import prepare
from spillover.lab.models.prepare.int8_goals import Int8Figures, print_goals
from spillover.lab.models.quantize.layers import is_quantized
from spillover.lab.terminal import open_console
from tests.support.npm import TinyRegistry
from tests.support.tfjs import TinyGraph, window

pytestmark = pytest.mark.slow

SIDE, SSD_SIDE, ANCHORS = 416, 300, 9
CLASSES, BINS = 80, 11


def nanodet_graph() -> TinyGraph:
    """Scores that rise with the brightness of a cell, sides of three cells; NanoDet's names and shapes."""
    random = np.random.default_rng(0)
    graph = TinyGraph()
    graph.placeholder("input_1", 1, 3, SIDE, SIDE)
    graph.whole("to_last", 0, 2, 3, 1)
    graph.node("Transpose", "picture", ["input_1", "to_last"])
    graph.constant("stem_w", random.uniform(0.1, 0.3, (1, 1, 3, 4)))
    graph.node("Conv2D", "stem", ["picture", "stem_w"], **window("VALID", 2, 2))
    graph.node("LeakyRelu", "active", ["stem"], alpha={"f": 0.1})
    graph.whole("parts", CLASSES, 4 * BINS)
    graph.whole("last", 3)
    for level, stride in enumerate((8, 16, 32)):
        graph.constant(f"mid_w{level}", random.uniform(0.2, 0.4, (1, 1, 4, 4)))
        graph.node(
            "Conv2D", f"mid{level}", ["active", f"mid_w{level}"], **window("VALID", stride // 2, stride // 2)
        )
        weight = np.zeros((1, 1, 4, CLASSES + 4 * BINS))
        weight[..., 0] = 1.0
        bias = np.full(CLASSES + 4 * BINS, -8.0)
        bias[0] = -1.0
        bias[CLASSES + 3 :: BINS] = 8.0
        graph.constant(f"head_w{level}", weight)
        graph.constant(f"head_b{level}", bias)
        graph.node("Conv2D", f"head{level}", [f"mid{level}", f"head_w{level}"], **window())
        graph.node("Add", f"biased{level}", [f"head{level}", f"head_b{level}"])
        graph.node("SplitV", f"split{level}", [f"biased{level}", "parts", "last"])
        graph.node("Sigmoid", f"scores{level}", [f"split{level}"])
        cells = (SIDE // stride) ** 2
        graph.whole(f"cls_shape{level}", 1, cells, CLASSES)
        graph.whole(f"reg_shape{level}", 1, cells, 4 * BINS)
        suffix = ("", "_1", "_2")[level]
        graph.node("Reshape", f"Identity{suffix}", [f"scores{level}", f"cls_shape{level}"])
        graph.node("Reshape", f"Identity_{3 + level}", [f"split{level}:1", f"reg_shape{level}"])
    return graph


def ssd_graph() -> TinyGraph:
    """Nine anchors and 91 classes: class 1 rises with the brightness; the names of coco-ssd."""
    graph = TinyGraph()
    graph.placeholder("image_tensor", 1, SSD_SIDE, SSD_SIDE, 3)
    graph.constant("factor", 1.0)
    graph.node("Mul", "Preprocessor/sub", ["image_tensor", "factor"])
    weight, bias = np.zeros((1, 1, 3, 91)), np.full(91, -6.0)
    weight[..., 1], bias[1] = 0.5, 0.0
    graph.constant("logits_w", weight)
    graph.constant("logits_b", bias)
    graph.constant("boxes_w", np.zeros((1, 1, 3, 4)))
    graph.whole("logits_shape", 1, ANCHORS, 91)
    graph.whole("boxes_shape", 1, ANCHORS, 1, 4)
    graph.node("Conv2D", "logits", ["Preprocessor/sub", "logits_w"], **window("VALID", 100, 100))
    graph.node("BiasAdd", "logits_biased", ["logits", "logits_b"])
    graph.node("Conv2D", "boxes", ["Preprocessor/sub", "boxes_w"], **window("VALID", 100, 100))
    graph.node("Reshape", "concat_1", ["logits_biased", "logits_shape"])
    graph.node("Reshape", "concat", ["boxes", "boxes_shape"])
    low = np.stack(np.mgrid[:3, :3], axis=-1).reshape(1, ANCHORS, 2) / 3
    graph.constant("Postprocessor/ExpandDims", np.concatenate([low, low + 1 / 3], axis=2))
    return graph


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRegistry:
    """The tiny graphs as packages of a registry, in the places of the real ones."""
    made = TinyRegistry(tmp_path)
    monkeypatch.setenv("PATH", str(made.programs))
    packages = {}
    for name, graph, json_name in (
        ("one", nanodet_graph(), "nanodet.json"),
        ("two", ssd_graph(), "model.json"),
    ):
        folder = tmp_path / f"{name}-graph"
        folder.mkdir()
        graph.write(folder).rename(folder / json_name)
        packages[name] = made.publish(name, {path.name: path.read_bytes() for path in folder.iterdir()})
    monkeypatch.setattr(detection, "NANODET", packages["one"])
    monkeypatch.setattr(detection, "COCO_SSD", packages["two"])
    return made


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures with bright and dark parts."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(6):
        coarse = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def test_the_pair_is_built_once_and_kept(registry: TinyRegistry, pictures: Path, tmp_path: Path) -> None:
    """Said, fetched, converted, fused, quantised, calibrated; then up to date, and rebuilt without npm."""
    home = tmp_path / "home"
    options = [
        "--pair",
        "detection",
        "--edge-size",
        "416",
        "--home",
        str(home),
        "--calibration",
        str(pictures),
    ]
    first = CliRunner().invoke(prepare, options)
    assert first.exit_code == 0, first.output
    assert "Fetching 0 MB by npm: two 1.0.0" in first.output
    assert registry.asked == ["two@1.0.0", "one@1.0.0"]
    assert first.output.count(": building") == 4
    assert "times as fast, goal 1.6" in first.output
    edge = open_model_folder(home / "models" / detection.edge_model(416))
    cloud = open_model_folder(home / "models" / detection.CLOUD_MODEL)
    assert edge.manifest.output.calibration is not None
    assert edge.manifest.output.report_threshold in detection.EDGE_THRESHOLDS.round(4)
    assert edge.labels == cloud.labels
    assert len(cloud.labels) == 80
    assert is_quantized(edge.onnx_path)
    built = json.loads((edge.path / "build.json").read_text())
    assert built["calibration"] == str(pictures)

    picture = cv2.imread(str(pictures / "0.png"))
    answers = [load_model(one.path).predict(picture)[0] for one in (edge, cloud)]
    assert all(isinstance(answer, Detections) and len(answer) for answer in answers)

    again = CliRunner().invoke(prepare, options)
    assert again.output.count("up to date") == 4
    (registry.programs / "npm").unlink()
    forced = CliRunner().invoke(prepare, [*options, "--force"])
    assert forced.exit_code == 0, forced.output
    assert "Fetching" not in forced.output
    assert forced.output.count(": building") == 4


def test_without_a_network_the_command_says_what_helps(registry: TinyRegistry, tmp_path: Path) -> None:
    """Nothing is built, and the error is one line with the way out."""
    for archive in registry.archives.iterdir():
        archive.unlink()
    result = CliRunner().invoke(prepare, ["--pair", "detection", "--home", str(tmp_path / "home")])
    assert "npm could not fetch two@1.0.0" in str(result.exception)
    assert not (tmp_path / "home" / "models").exists()


@pytest.mark.parametrize(
    ("speedup", "ap", "said"),
    [
        (1.9, (0.30, 0.295), ["met", "met"]),
        (1.2, (0.30, 0.28), ["missed", "missed"]),
        (1.9, None, ["met", "not measured: --data"]),
    ],
)
def test_goals_are_printed_met_or_missed(
    capsys: pytest.CaptureFixture[str], speedup: float, ap: tuple[float, float] | None, said: list[str]
) -> None:
    """Each figure stands beside its goal."""
    print_goals(Int8Figures((15.0, 4.0), (20.0, 10.0), speedup, ap), open_console())
    lines = [line for line in capsys.readouterr().out.splitlines() if "goal" in line or "at most" in line]
    assert [line.split("│")[-2].strip() for line in lines[1:]] == said
