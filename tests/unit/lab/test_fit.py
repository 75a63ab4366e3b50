"""Fitting the expected gain: it learns what can be learnt, from the pictures it may see and no others."""

import numpy as np
import pytest

from common.model.manifest import Task
from common.types import Classification, Detections, Prediction
from edge.policy.gain import GainModel
from lab.data.labelled import ClassLabels, CocoTruth, LabelledSet
from lab.data.pictures import ArrayPicture
from lab.evaluate.detection import BoxMixture
from lab.evaluate.progress import Silent
from lab.policy.crossfit import cross_fitted
from lab.policy.fit import Pair, fit_pair
from lab.policy.ridge import PENALTIES, fit_ridge
from lab.policy.targets import OricReward, fit_temperature, taught_by

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

    def target(pictures: np.ndarray) -> np.ndarray:
        seen.append(set(pictures.tolist()))
        return noise[pictures]

    scores = cross_fitted(60, lambda _: remembers, target, np.random.default_rng(1), Silent())
    assert all(len(train) == 48 for train in seen)
    assert all(abs(np.corrcoef(s, noise)[0, 1]) < 0.4 for s in scores)


def classifications(count: int) -> tuple[list[Prediction], list[Prediction], np.ndarray]:
    """An edge that is often wrong when it says class 0, and a cloud that is never wrong."""
    truth = RNG.integers(0, 3, count)
    edge: list[Prediction] = []
    for label in truth:
        says = 0 if label == 1 and RNG.random() < 0.4 else label
        order = [says, *(c for c in range(3) if c != says)]
        edge.append(Classification(np.array(order, np.int32), np.array([0.7, 0.2, 0.1], np.float32)))
    cloud: list[Prediction] = [
        Classification(
            np.roll(np.arange(3), -int(t)).astype(np.int32), np.array([0.9, 0.05, 0.05], np.float32)
        )
        for t in truth
    ]
    return edge, cloud, truth.astype(np.int64)


def pair(task: Task, edge: list[Prediction], cloud: list[Prediction], truth: ClassLabels | CocoTruth) -> Pair:
    """A pair over pictures that nobody looks at."""
    pictures = tuple(ArrayPicture(str(i), np.full((1, 1, 3), i % 256, np.uint8)) for i in range(len(edge)))
    return Pair(task, "e@1", "c@1", 3, edge, edge, cloud, LabelledSet("set", pictures, truth))


@pytest.mark.parametrize("teacher", [False, True])
def test_the_fit_learns_what_confidence_cannot_say(teacher: bool) -> None:
    """Where the edge is equally confident of right and wrong, knowing its weak class closes the gap."""
    edge, cloud, truth = classifications(300)
    fit = fit_pair(pair(Task.CLASSIFICATION, edge, cloud, ClassLabels(truth)), Silent(), teacher=teacher)
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


def test_the_oric_reward_is_positive_where_the_cloud_sees_more() -> None:
    """A picture whose object only the cloud finds is worth sending; one that both find is not."""
    box = np.array([[10, 10, 50, 50]], np.float32)
    found = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int32))
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    truth = taught_by(Task.DETECTION, [found] * 6, 1)
    assert isinstance(truth, CocoTruth)
    mixture = BoxMixture(truth, [nothing, found, nothing, found, found, found], [found] * 6)
    rewards = OricReward(mixture)(np.arange(6))
    assert (rewards[[0, 2]] > 0).all()
    assert (rewards[[1, 3, 4, 5]] <= 0).all()


def test_a_second_look_is_judged_against_the_gap_of_the_plain_edge() -> None:
    """An edge that looks twice and is always right has closed the gap before anything is sent."""
    edge, cloud, truth = classifications(100)
    looked = Pair(
        Task.CLASSIFICATION,
        "e@1",
        "c@1",
        3,
        edge,
        cloud,
        cloud,
        pair(Task.CLASSIFICATION, edge, cloud, ClassLabels(truth)).data,
    )
    fit = fit_pair(looked, Silent())
    assert fit.edge_accuracy < 0.95
    assert fit.curves["expected_gain"][0].gap_share == pytest.approx(1.0)
    assert fit.curves["max_softmax"][0].gap_share == pytest.approx(0.0)
    assert fit.curves["max_softmax + look"][0].gap_share == pytest.approx(1.0)
