"""Expected gain: features have one length, the file is checked, and a decision costs little."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import ConfigError
from spillover.common.model.calibration import Calibration
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, Classification, Detections, Prediction
from spillover.edge.config import MultiViewConfig
from spillover.edge.link.state import LinkState
from spillover.edge.policy.base import Context
from spillover.edge.policy.gain import (
    FEATURES,
    EdgeSide,
    FeatureSettings,
    GainFile,
    GainModel,
    classification_features,
    detection_features,
    tempered,
)
from tests.support.policies import decide, policy_of

CLASSES = 10
WEIGHT = np.linspace(0.1, 2.0, CLASSES)


@st.composite
def predictions(draw: st.DrawFn, task: TaskSpec) -> Prediction:
    """Any prediction of a model with ten classes, cut short or empty as well."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if task is CLASSIFICATION:
        count = draw(st.integers(1, CLASSES))
        probability = np.sort(rng.dirichlet(np.full(CLASSES, 0.2)))[::-1][:count]
        return Classification(
            rng.permutation(CLASSES)[:count].astype(np.int32), probability.astype(np.float32)
        )
    count = draw(st.integers(0, 100))
    confidence = np.sort(rng.uniform(0.01, 1, count))[::-1]
    return Detections(
        rng.uniform(0, 500, (count, 4)).astype(np.float32),
        confidence.astype(np.float32),
        rng.integers(0, CLASSES + 3, count).astype(np.int32),
    )


def gain_file(task: TaskSpec) -> GainFile:
    """An estimator that is the sum of its features."""
    blank = (
        classification_features(Classification(np.zeros(1, np.int32), np.ones(1, np.float32)), CLASSES, 1.0)
        if task is CLASSIFICATION
        else detection_features(
            Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)),
            WEIGHT,
            0.1,
        )
    )
    size = len(blank)
    return GainFile(
        task=task.name,
        edge=EdgeSide("e@1", "a" * 64, 0.1),
        cloud_model="c@1",
        classes=CLASSES,
        temperature=1.5,
        mean=(0.25,) * size,
        scale=(2.0,) * size,
        weights=(1.0,) * size,
        bias=0.5,
        pictures=1,
        data_sha256="0" * 64,
        class_weight=tuple(WEIGHT.tolist()),
    )


@pytest.mark.parametrize("task", [CLASSIFICATION, DETECTION])
@given(data=st.data())
@settings(deadline=None)
def test_the_gain_is_the_formula_of_the_file(task: TaskSpec, data: st.DataObject) -> None:
    """bias + weights . (features - mean) / scale, finite for every prediction."""  # noqa: D403 - a formula
    prediction = data.draw(predictions(task))
    model = GainModel(gain_file(task))
    features = FEATURES[task.name](prediction, FeatureSettings(CLASSES, 1.5, WEIGHT, 0.1))
    assert np.isfinite(features).all()
    assert model.gain(prediction) == pytest.approx(0.5 + ((features - 0.25) / 2).sum(), rel=1e-6, abs=1e-6)


def test_a_doubtful_box_of_a_rare_class_counts_more() -> None:
    """Two pictures that differ in the class of their box alone differ in the weighted features alone."""
    common, rare = (
        detection_features(
            Detections(np.zeros((1, 4), np.float32), np.full(1, 0.4, np.float32), np.array([c], np.int32)),
            WEIGHT,
            0.1,
        )
        for c in (0, CLASSES - 1)
    )
    assert (common[:3] == rare[:3]).all()
    assert (common[3:] < rare[3:]).all()


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=10), st.floats(0.2, 5))
def test_temperature_divides_the_logits(logits: list[float], temperature: float) -> None:
    """Tempering probabilities is the softmax of logits / T, without the logits."""
    z = np.array(logits)
    softmax = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    wanted = np.exp((z - z.max()) / temperature)
    np.testing.assert_allclose(tempered(softmax, temperature), wanted / wanted.sum(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", [CLASSIFICATION, DETECTION])
def test_a_written_file_is_read_back(tmp_path: Path, task: TaskSpec) -> None:
    """The JSON of `lab fit` gives the same estimator."""
    path = tmp_path / "gain.json"
    path.write_bytes(msgspec.json.encode(gain_file(task)))
    assert GainModel.load(path).file == gain_file(task)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": [1.0]}, "lists must have"),
        ({"scale": [0.0]}, r"gain\.json: scale\[0\]: must be a number above 0, not 0"),
        ({"task": "poetry"}, "task: no gain"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_file_is_the_operators_fault(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """The error names the key."""
    path = tmp_path / "gain.json"
    whole = msgspec.to_builtins(gain_file(CLASSIFICATION)) | change
    path.write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match=named):
        GainModel.load(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """The path is in the error."""
    with pytest.raises(ConfigError, match=r"no\.json"):
        GainModel.load(tmp_path / "no.json")


def test_the_policy_sends_by_expected_gain(tmp_path: Path) -> None:
    """`policy.kind: expected_gain` judges by the file, and the decision says the gain it expected."""
    path = tmp_path / "gain.json"
    path.write_bytes(msgspec.json.encode(gain_file(CLASSIFICATION)))
    prediction = Classification(np.arange(3, dtype=np.int32), np.array([0.5, 0.3, 0.2], np.float32))
    gain = GainModel.load(path).gain(prediction)
    context = Context(time_left_s=1.0, link=LinkState(max_in_flight=4))
    for threshold, action in ((gain - 0.01, Action.SEND_FRAME), (gain + 0.01, Action.KEEP)):
        policy = policy_of(kind="expected_gain", gain_file=str(path), threshold=threshold)
        decision = decide(policy, prediction, context)
        assert decision.action is action
        assert decision.expected_gain == pytest.approx(gain)
    with pytest.raises(ConfigError, match=r"policy\.threshold: 30 is never reached: no gain is above 1"):
        policy_of(kind="expected_gain", gain_file=str(path), threshold=30)


@pytest.mark.parametrize(("name", "task"), [("", CLASSIFICATION), ("gain.json", DETECTION)])
def test_a_gain_file_that_does_not_fit_is_refused(tmp_path: Path, name: str, task: TaskSpec) -> None:
    """None named, or one for the other task."""
    (tmp_path / "gain.json").write_bytes(msgspec.json.encode(gain_file(CLASSIFICATION)))
    with pytest.raises(ConfigError, match="gain_file"):
        policy_of(task=task, kind="expected_gain", gain_file=str(tmp_path / name) if name else "")


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("model", "e@2"),
        ("sha256", "b" * 64),
        ("confidence_threshold", 0.25),
        ("calibration", Calibration(-1.0, 1.0)),
        ("multi_view", MultiViewConfig()),
    ],
)
def test_a_gain_file_for_another_edge_is_refused(tmp_path: Path, key: str, other: object) -> None:
    """Its numbers mean nothing there; the error names the file and what differs."""
    file = gain_file(CLASSIFICATION)
    (tmp_path / "gain.json").write_bytes(msgspec.json.encode(file))
    keys = {"kind": "expected_gain", "gain_file": str(tmp_path / "gain.json")}
    policy_of(edge=file.edge, **keys)
    edge = msgspec.structs.replace(file.edge, **{key: other})
    with pytest.raises(ConfigError, match=rf"gain\.json: fitted to an edge whose {key} is"):
        policy_of(edge=edge, **keys)


def test_with_many_classes_the_kind_of_thing_counts() -> None:
    """Neighbouring class numbers share a feature; the features say how much probability each run has."""
    answer = Classification(np.array([0, 49, 999], np.int32), np.array([0.5, 0.3, 0.2], np.float32))
    features = classification_features(answer, 1000, 1.0)
    np.testing.assert_allclose(features[3:], [0.8, *[0.0] * 18, 0.2], atol=1e-6)
