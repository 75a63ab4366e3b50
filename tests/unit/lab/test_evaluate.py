"""Evaluation: curves mean what they say, mixtures of boxes are what COCO's own evaluation gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import (
    Input,
    Layout,
    Manifest,
    Output,
    file_sha256,
    write_manifest,
)
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Classification, Detections, Prediction
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.accuracy_curve import (
    SHARES,
    Interval,
    Point,
    curve_by_score,
    oracle_curve,
    random_curve,
)
from spillover.lab.pairs.evaluate.cli import evaluate
from spillover.lab.pairs.evaluate.detection import BoxMixture, mean_average_precision
from spillover.lab.pairs.evaluate.evaluation import Evaluation, scorers_of
from spillover.lab.pairs.evaluate.mixture import ClassMixture, accuracy_of
from spillover.lab.pairs.evaluate.predict import load_predictions, save_predictions
from spillover.lab.pairs.fit.cli import fit

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def class_mixture(outcomes: list[tuple[bool, bool]]) -> ClassMixture:
    """A mixture in which the edge and the cloud are right or wrong as given."""
    truth = ClassLabels(np.ones(len(outcomes), np.int64))

    def said(right: bool) -> Classification:
        order = [1, 0] if right else [0, 1]
        return Classification(np.array(order, np.int32), np.array([0.9, 0.1], np.float32))

    return ClassMixture(truth, [said(e) for e, _ in outcomes], [said(c) for _, c in outcomes])


@given(OUTCOMES, st.integers(0, 9))
def test_every_curve_begins_at_the_edge_and_ends_at_the_cloud(
    outcomes: list[tuple[bool, bool]], seed: int
) -> None:
    """At 0 % the accuracy is the edge's and at 100 % the cloud's, under any order."""
    mixture = class_mixture(outcomes)
    random = np.random.default_rng(seed)
    for curve in (
        curve_by_score(mixture, random.random(len(mixture)), random),
        random_curve(mixture, random),
        oracle_curve(mixture),
    ):
        assert curve[0].accuracy == pytest.approx(np.mean([edge for edge, _ in outcomes]))
        assert curve[-1].accuracy == pytest.approx(np.mean([cloud for _, cloud in outcomes]))


@given(OUTCOMES, st.integers(0, 9))
def test_nobody_beats_the_oracle_of_a_classification(outcomes: list[tuple[bool, bool]], seed: int) -> None:
    """Its order is the best there is at every share."""
    mixture = class_mixture(outcomes)
    random = np.random.default_rng(seed)
    other = curve_by_score(mixture, random.random(len(mixture)), random)
    for ours, best in zip(other, oracle_curve(mixture), strict=True):
        assert ours.accuracy <= best.accuracy + 1e-9


def test_the_gap_share_is_the_part_of_the_gap_that_is_closed() -> None:
    """Half of the edge's mistakes repaired by half of the pictures: half the gap."""
    mixture = class_mixture([(False, True)] * 10)
    point = next(
        p for p in curve_by_score(mixture, np.arange(10.0), np.random.default_rng()) if p.offload == 0.5
    )
    assert point.gap_share == pytest.approx(0.5)
    equal = curve_by_score(class_mixture([(True, True)]), np.zeros(1), np.random.default_rng())
    assert equal[3].gap_share is None


def boxes(rng: np.random.Generator, xywh: list[list[float]], classes: list[int], noise: float) -> Detections:
    """Boxes near the true ones, with random confidence, and one that is nowhere near."""
    xywh_array = np.array([*xywh, [200.0, 200.0, 9.0, 9.0]])
    xywh_array = xywh_array + rng.normal(0, noise, xywh_array.shape)
    xyxy = np.concatenate([xywh_array[:, :2], xywh_array[:, :2] + xywh_array[:, 2:]], axis=1)
    confidence = np.sort(rng.random(len(xyxy)))[::-1]
    return Detections(
        xyxy.astype(np.float32), confidence.astype(np.float32), np.array([*classes, 0], np.int32)
    )


@pytest.fixture
def scene() -> tuple[CocoTruth, list[Prediction], list[Prediction]]:
    """Twelve pictures whose ids are not in order, with a careless edge and a careful cloud."""
    rng = np.random.default_rng(3)
    ids = rng.permutation(12) * 7 + 1
    annotations, edge, cloud = [], [], []
    for image_id in ids.tolist():
        xywh = rng.uniform(10, 90, (3, 4)).tolist()
        classes = rng.integers(0, 2, 3).tolist()
        for box, class_id in zip(xywh, classes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        edge.append(boxes(rng, xywh, classes, 8.0))
        cloud.append(boxes(rng, xywh, classes, 1.0))
    instances = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 256, "height": 256} for i in ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    return CocoTruth(instances, tuple(ids.tolist())), edge, cloud


def test_accuracy_is_the_share_of_right_classes() -> None:
    """Two of four."""
    ones: list[Prediction] = [
        Classification(np.array([k], np.int32), np.ones(1, np.float32)) for k in (0, 1, 1, 1)
    ]
    assert accuracy_of(ClassLabels(np.arange(4)), ones) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_a_mixture_of_boxes_is_what_a_whole_evaluation_gives(
    scene: tuple[CocoTruth, list[Prediction], list[Prediction]], seed: int
) -> None:
    """Choosing matches per picture gives exactly the mAP of the chosen boxes evaluated from scratch."""
    truth, edge, cloud = scene
    sent = np.random.default_rng(seed).random(12) < 0.5
    chosen = [c if s else e for e, c, s in zip(edge, cloud, sent, strict=True)]
    whole = mean_average_precision(truth, chosen)
    assert BoxMixture(truth, edge, cloud).precision(sent) == whole
    assert 0 < whole.ap < 1


def test_the_reward_of_a_picture_is_what_sending_it_alone_gains(
    scene: tuple[CocoTruth, list[Prediction], list[Prediction]],
) -> None:
    """The detection oracle's order comes from the change of mAP of the whole set."""
    truth, edge, cloud = scene
    mixture = BoxMixture(truth, edge, cloud)
    alone = np.arange(12) == 4
    gain = mixture.accuracy(alone) - mixture.accuracy(np.zeros(12, np.bool_))
    assert mixture.reward()[4] == pytest.approx(gain)


def test_a_model_that_sees_nothing_has_no_precision(
    scene: tuple[CocoTruth, list[Prediction], list[Prediction]],
) -> None:
    """No boxes at all are an answer, not an error."""
    truth, _, cloud = scene
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    mixture = BoxMixture(truth, [empty] * 12, cloud)
    assert mixture.accuracy(np.zeros(12, np.bool_)) == 0
    assert mixture.accuracy(np.ones(12, np.bool_)) > 0.3


@pytest.mark.parametrize("count", [1, 5])
def test_predictions_survive_the_disk(tmp_path: Path, count: int) -> None:
    """What is read back is what was written, pictures without boxes too."""
    rng = np.random.default_rng(0)
    written: list[Prediction] = [
        boxes(rng, [[1, 2, 3, 4]] * (i % 3), [0] * (i % 3), 1.0) for i in range(count)
    ]
    save_predictions(tmp_path / "p.npz", written)
    for before, after in zip(written, load_predictions(tmp_path / "p.npz"), strict=True):
        assert isinstance(after, Detections)
        np.testing.assert_array_equal(before.xyxy, after.xyxy)
        np.testing.assert_array_equal(before.class_id, after.class_id)


def constant_model(folder: Path, answer: list[float]) -> Path:
    """A classifier of 4x4 pictures whose logits are `answer`, class 0's plus a little of the first pixel."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    weight = np.zeros((48, len(answer)), np.float32)
    weight[0, 0] = 0.01
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(answer)])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.array(answer, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    manifest = Manifest(
        name=folder.name,
        version="1",
        task=CLASSIFICATION.name,
        input=Input(height=4, width=4, layout=Layout.NHWC),
        output=Output(decoder="logits"),
        sha256=file_sha256(folder / "model.onnx"),
    )
    write_manifest(folder, manifest)
    return folder


def test_the_command_writes_the_figures_and_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run over real model folders gives JSON with every policy's curve, and a picture of them."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=x, y=np.array([0, 1] * 10))
    edge = constant_model(tmp_path / "edge", [0.0, 1.0])
    cloud = constant_model(tmp_path / "cloud", [1.0, 0.0])
    out, plot = tmp_path / "o" / "e.json", tmp_path / "o" / "e.png"
    arguments = [
        "--edge",
        edge,
        "--cloud",
        cloud,
        "--data",
        tmp_path / "set.npz",
        "--json",
        out,
        "--plot",
        plot,
    ]
    for _ in range(2):  # the second time from the cache
        done = CliRunner().invoke(evaluate, [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 0
        found = json.loads(out.read_text())
        assert found["edge_accuracy"] == pytest.approx(
            np.mean([(p > 100) == (y == 0) for p, y in zip(x[:, 0, 0, 0], [0, 1] * 10, strict=True)]),
            abs=0.06,
        )
        assert {"max_softmax", "margin", "entropy", "random", "oracle"} <= set(found["policies"])
        assert [p["offload"] for p in found["policies"]["margin"]["curve"]] == [
            0,
            0.05,
            0.1,
            0.2,
            0.3,
            0.5,
            0.75,
            1,
        ]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("closed", "low", "cloud", "says"),
    [
        (0.6, 0.4, 0.9, "Take margin: with 20% of the pictures sent it closes 60% of the gap"),
        (0.25, 0.1, 0.9, "No policy is sure to beat sending at random"),
        (0.6, 0.4, 0.5, "The cloud is no better than the edge"),
    ],
)
def test_an_evaluation_ends_with_what_follows_from_it(
    closed: float, low: float, cloud: float, says: str
) -> None:
    """Which policy to take, that none is sure to beat chance, or that there is nothing to gain."""
    curves = {
        "margin": tuple(Point(share, 0.5, closed) for share in SHARES),
        "random": tuple(Point(share, 0.5, share) for share in SHARES),
    }
    found = Evaluation(
        "e", "c", "set", 100, "top1", 0.6, cloud, {}, curves, "margin", Interval(low, closed + 0.1)
    )
    assert found.verdict().startswith(says)
    assert found.as_dict()["verdict"] == found.verdict()


def test_who_has_a_fit_is_not_sent_to_fit() -> None:
    """Where the estimator that was asked about is no better than chance, the advice is another one."""
    curves = {
        name: tuple(Point(share, 0.5, share) for share in SHARES) for name in ("expected_gain", "random")
    }
    found = Evaluation("e", "c", "set", 100, "map", 0.6, 0.9, {}, curves, "expected_gain", Interval(0.1, 0.3))
    assert "lab fit" not in found.verdict()
    assert "fit on more pictures" in found.verdict()


def test_a_clip_without_labels_is_pointed_to_video(tmp_path: Path) -> None:
    """Whoever has only a clip learns which option takes it."""
    clip = tmp_path / "clip.avi"
    clip.touch()
    model = str(constant_model(tmp_path / "model", [0.0, 1.0]))
    asked = ["--edge", model, "--cloud", model, "--json", str(tmp_path / "o.json"), "--data", str(clip)]
    done = CliRunner().invoke(evaluate, asked)
    assert done.exit_code == 2
    assert "--video for a clip" in done.output


def test_an_estimator_is_judged_on_pictures_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--gain` adds its curve on other pictures, and is refused on those that it was fitted on."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    random = np.random.default_rng(0)
    edge = constant_model(tmp_path / "edge", [0.0, 1.0])
    cloud = constant_model(tmp_path / "cloud", [1.0, 0.0])
    for name in ("seen", "new"):
        x = random.integers(0, 256, (60, 4, 4, 3)).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.array([0, 1] * 30))
    pair = ["--edge", str(edge), "--cloud", str(cloud)]
    gain, out = str(tmp_path / "gain.json"), tmp_path / "e.json"
    fitted = CliRunner().invoke(fit, [*pair, "--data", str(tmp_path / "seen.npz"), "--out", gain])
    assert fitted.exit_code == 0
    judged = [*pair, "--json", str(out), "--gain", gain, "--data"]
    done = CliRunner().invoke(evaluate, [*judged, str(tmp_path / "new.npz")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "expected_gain" in json.loads(out.read_text())["policies"]
    with pytest.raises(ConfigError, match="fitted on these pictures"):
        CliRunner().invoke(evaluate, [*judged, str(tmp_path / "seen.npz")], catch_exceptions=False)


def test_scores_are_those_of_the_daemon() -> None:
    """Boxes below the model's own threshold are unseen; what counts as reported follows it, or edge.yaml."""
    manifest = Manifest(
        name="d",
        version="1",
        task=DETECTION.name,
        input=Input(height=8, width=8),
        output=Output(decoder="yolox", confidence_threshold=0.3),
        sha256="0" * 64,
    )
    confidence = np.array([0.9, 0.6, 0.4, 0.2], np.float32)
    found = Detections(np.zeros((4, 4), np.float32), confidence, np.zeros(4, np.int32))
    plain, raised = scorers_of(manifest), scorers_of(manifest, 0.5)
    assert plain["mean_score"](found) == pytest.approx(1 - (0.9 + 0.6 + 0.4) / 3)
    assert plain["near_threshold"](found) == pytest.approx(1 / 2)
    assert raised["mean_score"](found) == pytest.approx(1 - (0.9 + 0.6) / 2)
    assert raised["near_threshold"](found) == pytest.approx(2 / 3)
    assert "entropy" not in plain
