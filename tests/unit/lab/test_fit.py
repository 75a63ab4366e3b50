"""Fitting the expected gain: it learns what can be learnt, from the pictures it may see and no others."""

import numpy as np
import pytest

from spillover.common.errors import ModelError, SourceError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Classification, Detections, Prediction
from spillover.edge.policy.gain import GainModel
from spillover.lab.data.labelled import ClassLabels, CocoTruth
from spillover.lab.pairs.evaluate.mixture import mixture_of
from spillover.lab.pairs.fit.calibrate import boxes_of, fit_calibration, out_of_fold
from spillover.lab.pairs.fit.fitting import fit_pair
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.fit.ridge import PENALTIES, cross_fitted, fit_ridge
from spillover.lab.pairs.fit.targets import BoxGain, ClassGain, fit_temperature, taught_by
from spillover.lab.terminal import Silent
from tests.support.pairs import SIDE, boxes, classifications, pair, too_bold

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


def test_ridge_finds_the_weights_it_was_made_from() -> None:
    """With more equations than unknowns and little noise the weights come back; dead columns get none."""
    x = RNG.normal(3, 2, (200, 5))
    x[:, 4] = 7.0
    y = x[:, :4] @ [1.0, -2.0, 0.0, 0.5] + 4 + RNG.normal(0, 0.01, 200)
    fitted = fit_ridge(x, y)
    np.testing.assert_allclose(fitted.weights / fitted.scale, [1, -2, 0, 0.5, 0], atol=0.03)
    np.testing.assert_allclose(fitted.predict(x), y, atol=0.2)


def test_the_penalty_is_the_one_of_least_leave_one_out_error() -> None:
    """The closed form is what really leaving out each picture gives, up to the mean that it keeps."""
    x, y = RNG.normal(0, 1, (30, 8)), RNG.normal(0, 1, 30)

    def left_out(penalty: float) -> float:
        errors = []
        for i in range(30):
            rest = np.arange(30) != i
            z = (x - x.mean(0)) / x.std(0)
            zc, yc = z[rest] - z[rest].mean(0), y[rest] - y[rest].mean()
            w = np.linalg.solve(zc.T @ zc + penalty * np.eye(8), zc.T @ yc)
            errors.append((y[i] - y[rest].mean() - (z[i] - z[rest].mean(0)) @ w) ** 2)
        return float(np.mean(errors))

    z = (x - x.mean(0)) / x.std(0)
    best = min(PENALTIES, key=left_out)
    expected = np.linalg.solve(z.T @ z + best * np.eye(8), z.T @ (y - y.mean()))
    np.testing.assert_allclose(fit_ridge(x, y).weights, expected, atol=0.02)


def test_no_picture_is_scored_by_an_estimator_that_has_seen_it() -> None:
    """Targets that are pure noise cannot be predicted, however many features could remember them."""
    noise = RNG.normal(0, 1, 60)
    remembers = np.eye(60)
    seen: list[set[int]] = []

    def fit_and_score(pictures: np.ndarray) -> np.ndarray:
        seen.append(set(pictures.tolist()))
        return fit_ridge(remembers[pictures], noise[pictures]).predict(remembers)

    scores = cross_fitted(60, fit_and_score, np.random.default_rng(1), Silent())
    assert {len(train) for train in seen} == {48}
    assert len(scores)
    assert max(abs(np.corrcoef(s, noise)[0, 1]) for s in scores) < 0.4


@pytest.mark.parametrize("teacher", [False, True])
def test_the_fit_learns_what_confidence_cannot_say(teacher: bool) -> None:
    """Where the edge is equally confident of right and wrong, knowing its weak class closes the gap."""
    edge, cloud, truth = classifications(300)
    fit = fit_pair(pair(CLASSIFICATION.name, edge, cloud, ClassLabels(truth)), Silent(), teacher=teacher)
    fitted = {p.offload: p.gap_share for p in fit.curves["expected_gain"]}
    baseline = {p.offload: p.gap_share for p in fit.curves["max_softmax"]}
    assert fitted[0.75] == pytest.approx(1.0)
    assert (fitted[0.5] or 0) > (baseline[0.5] or 0) + 0.15
    model = GainModel(fit.file)
    gains = {int(p.class_id[0]): model.gain(p) for p in edge if isinstance(p, Classification)}
    assert gains[0] > gains[1]
    assert fit.intervals["expected_gain"][3].low is not None


def test_temperature_softens_a_model_that_is_too_sure() -> None:
    """A model that says 95 % and is right 70 % of the time gets a temperature above one."""
    predictions: list[Prediction] = [
        Classification(np.array([0, 1], np.int32), np.array([0.95, 0.05], np.float32)) for _ in range(100)
    ]
    labels = (np.arange(100) % 10 >= 7).astype(np.int64)
    assert fit_temperature(predictions, labels) > 1.5


def test_the_gain_of_boxes_is_positive_where_the_cloud_sees_more() -> None:
    """A picture whose object only the cloud finds is worth sending; one that both find is not."""
    found, nothing = boxes([0.9]), boxes([])
    truth = taught_by(DETECTION.name, [found] * 6, 1)
    assert isinstance(truth, CocoTruth)
    edge: list[Prediction] = [nothing, found, nothing, found, found, found]
    gains = BoxGain(truth, edge, [found] * 6, 1)(np.arange(6))
    assert (gains[[0, 2]] > 0).all()
    assert gains[[1, 3, 4, 5]] == pytest.approx(0.0)


def test_classes_are_weighed_by_the_pictures_that_may_be_seen() -> None:
    """A class that the given pictures hold more of counts less; the others have no say."""
    says: list[Prediction] = [boxes([0.9], class_id=0), boxes([0.9], class_id=0), boxes([0.9], class_id=1)]
    truth = taught_by(DETECTION.name, says, 2)
    assert isinstance(truth, CocoTruth)
    gain = BoxGain(truth, says, says, 2)
    seen = gain.class_weight(np.arange(3))
    assert seen[0] < seen[1]
    fewer = gain.class_weight(np.array([2]))
    assert fewer[0] > fewer[1]


def test_the_edge_is_put_on_the_clouds_scale() -> None:
    """Each confidence becomes what the cloud says of such boxes on average; no label is looked at."""
    edge, cloud = too_bold(40)
    calibrated = fit_calibration(edge, cloud).apply(np.array([0.8, 0.4], np.float32))
    np.testing.assert_allclose(calibrated, [0.4, 0.05], atol=0.02)


def test_no_picture_is_calibrated_by_itself() -> None:
    """One picture whose cloud differs from all others does not move its own confidences."""
    edge, cloud = too_bold(10)
    random = np.random.default_rng(0)
    usual = out_of_fold(edge, cloud, random)[3]
    changed = out_of_fold(edge, [*cloud[:3], boxes([0.9, 0.9]), *cloud[4:]], np.random.default_rng(0))
    assert isinstance(usual, Detections)
    assert isinstance(changed[3], Detections)
    np.testing.assert_array_equal(usual.confidence, changed[3].confidence)
    assert any(
        (np.array(a.confidence) != b.confidence).any()
        for a, b in zip(
            boxes_of(out_of_fold(edge, cloud, np.random.default_rng(0))), boxes_of(changed), strict=True
        )
    )


def test_confidences_that_say_nothing_cannot_be_calibrated() -> None:
    """An edge that is surest where the cloud sees nothing is an error, not a map that turns the order."""
    with pytest.raises(ModelError, match="do not rise"):
        fit_calibration([boxes([0.9, 0.1])] * 5, [Detections(boxes([0.0, 0.8]).xyxy[1:], *_one(0.8))] * 5)


def _one(confidence: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([confidence], np.float32), np.zeros(1, np.int32)


def test_a_second_look_is_judged_against_the_gap_of_the_plain_edge() -> None:
    """An edge that looks twice and is always right has closed the gap before anything is sent."""
    edge, cloud, truth = classifications(100)
    looked = Pair(
        CLASSIFICATION.name,
        SIDE,
        "c@1",
        3,
        edge,
        cloud,
        cloud,
        cloud,
        pair(CLASSIFICATION.name, edge, cloud, ClassLabels(truth)).data,
    )
    fit = fit_pair(looked, Silent())
    assert fit.edge_accuracy < 0.95
    assert fit.curves["expected_gain"][0].gap_share == pytest.approx(1.0)
    assert fit.curves["max_softmax"][0].gap_share == pytest.approx(0.0)
    assert fit.curves["max_softmax + look"][0].gap_share == pytest.approx(1.0)


def test_a_doubtful_cloud_makes_a_doubtful_gain() -> None:
    """Where the label speaks for the cloud, the gain is less the less sure the cloud itself was."""
    truth = np.zeros(4, np.int64)
    edge: list[Prediction] = [_two(1, 0.6)] * 4
    cloud: list[Prediction] = [_two(0, 0.99), _two(0, 0.6), _two(0, 0.9), _two(0, 0.8)]
    labels = ClassLabels(truth)
    gains = ClassGain(labels, edge, cloud, mixture_of(labels, edge, cloud))(np.arange(4))
    assert gains[0] > gains[2] > gains[3] > gains[1] > 0.5
    assert gains[0] <= 1.0


def _two(best: int, probability: float) -> Classification:
    return Classification(
        np.array([best, 1 - best], np.int32), np.array([probability, 1 - probability], np.float32)
    )


def test_too_few_pictures_are_refused() -> None:
    """With the name of the set and how many it takes."""
    edge, cloud, truth = classifications(9)
    with pytest.raises(SourceError, match="set: 9 pictures"):
        fit_pair(pair(CLASSIFICATION.name, edge, cloud, ClassLabels(truth)), Silent())
