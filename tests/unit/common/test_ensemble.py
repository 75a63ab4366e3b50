"""Fused models: the fusion by its definition, and models of several networks as models like any other."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.images import encode_jpeg
from spillover.common.model.calibration import Calibration
from spillover.common.model.ensemble.ensemble import Ensemble
from spillover.common.model.ensemble.opening import load_model, open_model
from spillover.common.model.ensemble.weighted_boxes import weighted_boxes
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import Manifest, open_model_folder, write_manifest
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import NO_BOXES, Detections
from tests.support.models import bright_detector, centre_detector, colour_classifier, fuse

ONE = SessionConfig(threads=1, providers=("CPUExecutionProvider",))
WHITE = np.full((48, 64, 3), 255, np.uint8)


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows of corners, confidence and class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def test_a_box_that_both_see_is_their_weighted_mean() -> None:
    """Corners by confidence; confidence is the sum over the number of models."""
    one, other = boxes((0, 0, 10, 10, 0.9, 1)), boxes((2, 0, 12, 10, 0.3, 1))
    found = weighted_boxes([one, other], 0.6)
    np.testing.assert_allclose(found.xyxy, [[0.5, 0, 10.5, 10]])
    np.testing.assert_allclose(found.confidence, [0.6])
    assert found.class_id.tolist() == [1]


def test_a_box_that_one_of_two_sees_has_half_its_confidence() -> None:
    """What nobody confirms counts for less, and comes behind what somebody does."""
    found = weighted_boxes(
        [boxes((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.5, 1)), boxes((50, 50, 60, 60, 0.6, 1))], 0.6
    )
    np.testing.assert_allclose(found.confidence, [0.55, 0.45])
    np.testing.assert_allclose(found.xyxy, [[50, 50, 60, 60], [0, 0, 10, 10]])


def test_classes_are_never_mixed() -> None:
    """Equal boxes of two classes stay two."""
    found = weighted_boxes([boxes((0, 0, 10, 10, 0.9, 1)), boxes((0, 0, 10, 10, 0.8, 2))], 0.6)
    assert found.class_id.tolist() == [1, 2]


def test_nothing_fused_is_nothing() -> None:
    """No model sees a box."""
    assert len(weighted_boxes([NO_BOXES, NO_BOXES], 0.6)) == 0


def plainly_fused(answers: list[Detections], threshold: float) -> list[tuple[list[float], float, int]]:
    """The paper's steps 1 to 6, written with lists."""

    def iou(a: list[float], b: list[float]) -> float:
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
        return common / union if union > 0 else 0.0

    everything = [
        (box.tolist(), float(confidence), int(class_id))
        for one in answers
        for box, confidence, class_id in zip(one.xyxy, one.confidence, one.class_id, strict=True)
    ]
    clusters: list[list[tuple[list[float], float, int]]] = []
    fused: list[list[float]] = []
    for box in sorted(everything, key=lambda row: -row[1]):
        overlaps = [
            iou(place, box[0]) if cluster[0][2] == box[2] else 0.0
            for place, cluster in zip(fused, clusters, strict=True)
        ]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] <= threshold:
            clusters.append([box])
            fused.append(box[0])
            continue
        clusters[best].append(box)
        total = sum(confidence for _, confidence, _ in clusters[best])
        fused[best] = [
            sum(confidence * corner[i] for corner, confidence, _ in clusters[best]) / total for i in range(4)
        ]
    models = len(answers)
    rows = []
    for place, cluster in zip(fused, clusters, strict=True):
        mean = sum(confidence for _, confidence, _ in cluster) / len(cluster)
        rows.append((place, mean * min(len(cluster), models) / models, cluster[0][2]))
    return sorted(rows, key=lambda row: -row[1])


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from([0.3, 0.6]))
@settings(deadline=None, max_examples=50)
def test_fusion_is_the_papers(seed: int, models: int, threshold: float) -> None:
    """Any number of models and boxes, as the steps of the paper give it; never more boxes, never above 1."""
    random = np.random.default_rng(seed)
    answers = []
    for _ in range(models):
        count = int(random.integers(0, 8))
        low, size = random.uniform(0, 30, (count, 2)), random.uniform(10, 30, (count, 2))
        confidence = np.sort(random.uniform(0.01, 1, count))[::-1]
        answers.append(
            Detections(
                np.concatenate([low, low + size], axis=1).astype(np.float32),
                confidence.astype(np.float32),
                random.integers(0, 2, count).astype(np.int32),
            )
        )
    found, expected = weighted_boxes(answers, threshold), plainly_fused(answers, threshold)
    assert len(found) == len(expected)
    assert (found.confidence <= 1).all()
    for index, (place, confidence, class_id) in enumerate(expected):
        np.testing.assert_allclose(found.xyxy[index], place, rtol=1e-4, atol=1e-3)
        assert found.confidence[index] == pytest.approx(confidence, rel=1e-4)
        assert found.class_id[index] == class_id


@pytest.fixture
def fused(tmp_path: Path) -> Path:
    """Two detectors of one box each, which overlap by 0.67; the second half as sure, on larger pictures."""
    one = bright_detector(tmp_path / "parts", "one", labels=["thing"])
    two = bright_detector(tmp_path / "parts", "two", box=(0.25, 0.35, 0.75, 0.85), gain=0.5, side=32)
    return fuse(tmp_path, one, two, iou_threshold=0.6)


def test_a_fused_folder_is_a_model(fused: Path) -> None:
    """It is found by name, opened, loaded and asked as any model; labels are those of a member."""
    model = load_model(find_model_folder(fused.parent), ONE)
    assert isinstance(model, Ensemble)
    assert str(model.model_id) == "fused@1"
    assert model.folder.labels == ("thing",)
    assert model.class_count == 1
    prediction, steps = model.predict(WHITE)
    # Weighted 1 to 0.5: top at .25 and .35 of 48 pixels.
    np.testing.assert_allclose(prediction.xyxy, [[16, 13.6, 48, 37.6]], atol=0.05)
    np.testing.assert_allclose(prediction.confidence, [0.75], atol=0.01)
    assert min(steps.preprocess_s, steps.infer_s, steps.decode_s) > 0


def test_a_jpeg_is_answered_as_its_pixels(fused: Path) -> None:
    """`predict_jpeg` decodes once for all members; a reduced decode keeps the boxes in place."""
    model = load_model(fused, ONE)
    large = np.full((480, 640, 3), 200, np.uint8)
    answer = model.predict_jpeg(encode_jpeg(large, 90).data, 10**6)
    expected = model.predict(large)[0]
    np.testing.assert_allclose(answer.xyxy, expected.xyxy, atol=0.5)
    np.testing.assert_allclose(answer.confidence, expected.confidence, atol=0.02)
    with pytest.raises(InvalidInputError):
        model.predict_jpeg(encode_jpeg(large, 90).data, 1000)


def test_thresholds_and_calibration_are_the_fused_models(fused: Path) -> None:
    """`output` of the fused model.yaml counts for the fused boxes: threshold, number, calibration."""
    manifest = open_model_folder(fused).manifest
    output = msgspec.structs.replace(manifest.output, confidence_threshold=0.8)
    write_manifest(fused, msgspec.structs.replace(manifest, output=output))
    assert len(load_model(fused, ONE).predict(WHITE)[0]) == 0
    calibration = Calibration(offset=1.0, scale=1.0)
    output = msgspec.structs.replace(output, calibration=calibration)
    write_manifest(fused, msgspec.structs.replace(manifest, output=output))
    found = load_model(fused, ONE).predict(WHITE)[0]
    np.testing.assert_allclose(found.confidence, calibration.apply(np.array([0.75], np.float32)), atol=0.01)


def test_a_member_of_one_row_at_a_time_is_no_hindrance(tmp_path: Path) -> None:
    """A member whose batch axis is fixed beside one whose is free."""
    one, two = centre_detector(tmp_path / "parts", "one"), bright_detector(tmp_path / "parts", "two")
    found = load_model(fuse(tmp_path, one, two), ONE).predict(WHITE)[0]
    assert len(found) == 1
    assert found.confidence[0] == pytest.approx(1, abs=0.01)


def _yaml(folder: Path, **changes: object) -> None:
    manifest = open_model_folder(folder).manifest
    write_manifest(folder, msgspec.structs.replace(manifest, sha256="", **changes))


def _text(folder: Path, before: str, after: str) -> None:
    path = folder / "model.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def _nested(folder: Path) -> None:
    (folder / "deep").mkdir()
    for name in ("one", "two"):
        (folder / name).rename(folder / "deep" / name)
    (folder / "model.yaml").rename(folder / "deep" / "model.yaml")
    (folder / "one").symlink_to("deep/one")
    (folder / "model.yaml").write_bytes((folder / "deep" / "model.yaml").read_bytes())
    _text(folder, "- two", "- deep")


def _loop(folder: Path) -> None:
    (folder / "back").symlink_to(folder)
    _text(folder, "- two", "- back")


def _other_names(folder: Path) -> None:
    (folder / "two" / "labels.txt").write_text("other\n")
    _yaml(folder / "two", labels="labels.txt")


def _other_count(folder: Path) -> None:
    (folder / "one" / "labels.txt").unlink()
    (folder / "labels.txt").write_text("a\nb\n")
    _text(folder / "one", "labels: labels.txt", "labels: ''")
    _text(folder, "labels: ''", "labels: labels.txt")


def _classifier(folder: Path) -> None:
    colour_classifier(folder, "three", "x")
    (folder / "three" / "x").rename(folder / "colour")
    _text(folder, "- two", "- colour")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda at: _text(at, "- two", "- three"), "three/model.yaml"),
        (lambda at: _text(at, "- two", "- ../two"), "members"),
        (lambda at: _text(at, "- two", "- one"), "members: needs two folders or more, each once"),
        (lambda at: _text(at, "- two", ""), "members: needs two folders or more, each once"),
        (lambda at: _text(at, "name: fused", "name: fused\ninput: {height: 8, width: 8}"), "input: a fused"),
        (lambda at: _text(at, "name: fused", f"name: fused\nsha256: {'ab' * 32}"), "sha256 is .* says abab"),
        (lambda at: (at / "two" / "model.onnx").write_bytes(b"x"), "two/model.onnx: sha256"),
        (lambda at: _text(at, "weighted_boxes", "yolox"), "is weighted_boxes, not 'yolox'"),
        (_nested, "deep: is fused itself"),
        (_loop, "back: is fused itself"),
        (_other_names, "fused@1 and two@1 name their classes differently"),
        (_other_count, r"know other classes: two@1 has 1 and fused@1 has 2"),
        (_classifier, "colour: its task is classification, that of fused is detection"),
    ],
)
def test_a_fused_folder_that_does_not_fit_says_why(
    fused: Path, damage: Callable[[Path], None], named: str
) -> None:
    """Each mistake is a ModelError that names the folder or the key."""
    damage(fused)
    with pytest.raises(ModelError, match=named):
        load_model(fused, ONE)


def test_a_model_without_input_or_members_is_told_which_key(tmp_path: Path) -> None:
    """`input` stays required for a model of one network."""
    folder = colour_classifier(tmp_path)
    lines = (folder / "model.yaml").read_text().splitlines()
    start = lines.index("input:")
    end = next(n for n in range(start + 1, len(lines)) if not lines[n].startswith((" ", "-")))
    (folder / "model.yaml").write_text("\n".join(lines[:start] + lines[end:]))
    with pytest.raises(ModelError, match="input: is required"):
        open_model_folder(folder)


def test_what_takes_one_network_refuses_a_fused_model(fused: Path) -> None:
    """Quantising, splitting, profiling: the error says what the model is, and what would do."""
    opened = open_model_folder(fused)
    with pytest.raises(ModelError, match="fused is fused from one and two: this takes a model of one"):
        opened.onnx_path  # noqa: B018
    with pytest.raises(ModelError, match="fused from one and two"):
        Model(opened, ONE)


def test_the_digest_follows_every_member(fused: Path, tmp_path: Path) -> None:
    """Another network in a member is another digest of the whole; model.yaml may state it."""
    before = open_model_folder(fused).manifest
    assert isinstance(before, Manifest)
    write_manifest(fused, before)
    assert open_model_folder(fused).manifest.sha256 == before.sha256
    other = bright_detector(tmp_path / "parts", "two", gain=0.25, side=32)
    for name in ("model.onnx", "model.yaml"):
        (fused / "two" / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ModelError, match="copy all together"):
        open_model_folder(fused)


def test_members_thresholds_are_their_own(fused: Path) -> None:
    """A member counts its boxes from its own confidence_threshold up."""
    opened = open_model_folder(fused / "two").manifest
    output = msgspec.structs.replace(opened.output, confidence_threshold=0.9)
    write_manifest(fused / "two", msgspec.structs.replace(opened, output=output))
    found = open_model(open_model_folder(fused), ONE).predict(WHITE)[0]
    assert found.confidence[0] == pytest.approx(0.5, abs=0.01)
