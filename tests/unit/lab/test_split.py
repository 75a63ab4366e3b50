"""Cuts of a network: all are found, all are cuts, and head and tail say what the whole says."""

import string
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import ModelError
from spillover.common.features.quantizer import Quantizer
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.split import head_path, open_split_plan, tail_path
from spillover.common.types import Classification, Detections
from spillover.lab.files import package_file
from spillover.lab.models.prepare.checkpoint import read_checkpoint
from spillover.lab.models.prepare.efficientnet_lite import SCALINGS, build_efficientnet_lite
from spillover.lab.models.prepare.pair import LITE0, LITE2
from spillover.lab.split.candidates import cut_name, fronts, pareto
from spillover.lab.split.clip import fit_distribution, optimal_clip
from spillover.lab.split.coding import LEVELS, Examples, choose_coding, coded, mean_bytes
from spillover.lab.split.cuts import dominated, find_cuts, separates
from spillover.lab.split.extract import TOLERANCE, Half, cut_network, largest_difference
from spillover.lab.split.fidelity import fidelity
from spillover.lab.split.graph import ActivationGraph, Tensor, activation_graph, load_network
from spillover.lab.split.plan import SplitOptions, candidate_cuts, split_model
from spillover.lab.terminal import Silent
from tests.support.splitting import coloured_pictures, residual_classifier, split_classifier

pytestmark = pytest.mark.slow


@st.composite
def _graphs(draw):
    """Small directed acyclic graphs, every tensor of which leads somewhere or is an output."""
    count = draw(st.integers(3, 8))
    tensors = [Tensor("t0", (), "", (64,), 0, is_float=True)]
    for number in range(1, count):
        sources = draw(st.sets(st.integers(0, number - 1), min_size=1, max_size=3))
        tensors.append(
            Tensor(
                f"t{number}", tuple(sorted(sources)), "Conv", (draw(st.integers(1, 64)),), 1, is_float=True
            )
        )
    used = {source for tensor in tensors for source in tensor.sources}
    return ActivationGraph(tuple(tensors), tuple(n for n in range(count) if n not in used))


@given(_graphs(), st.integers(1, 3))
def test_all_cuts_are_found_and_nothing_else(graph, size):
    """Against trying every set: separating, and none of its tensors could be left out."""
    inner = [n for n in range(1, len(graph.tensors)) if n not in graph.outputs]
    expected = {
        chosen
        for length in range(1, size + 1)
        for chosen in combinations(inner, length)
        if separates(graph, chosen)
        and not any(separates(graph, chosen[:i] + chosen[i + 1 :]) for i in range(length))
    }
    assert set(find_cuts(graph, size)) == expected


def test_a_tensor_before_a_cheap_operator_is_dominated(tmp_path):
    """Cutting before a ReLU is never better than behind it; before a convolution it may be."""
    graph = activation_graph(load_network(residual_classifier(tmp_path) / "model.onnx"))
    names = {graph.tensors[n].name for n in dominated(graph)}
    assert {"c1", "c3", "r3"} <= names
    assert not names & {"r1", "sum", "image"}


def _check_every_candidate(path, scratch):
    """Cut at every candidate that the planner would measure; the kept cuts are among them."""
    network = load_network(path)
    graph = activation_graph(network)
    whole = Half(path, threads=1)
    shape = [1 if n < 0 else n for n in whole.inputs[0].shape]
    picture = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    expected = whole.run([picture])
    candidates = candidate_cuts(graph, find_cuts(graph, 3))
    assert len(candidates) >= 8
    for cut in candidates:
        halves = cut_network(network, [graph.tensors[n].name for n in cut])
        onnx.save(halves.head, scratch / "head.onnx")
        onnx.save(halves.tail, scratch / "tail.onnx")
        features = Half(scratch / "head.onnx", threads=1).run([picture])
        found = Half(scratch / "tail.onnx", threads=1).run(features)
        assert largest_difference(expected, found) <= TOLERANCE, [graph.tensors[n].name for n in cut]


@pytest.mark.parametrize("name", ["cifar_resnet56", "fastestdet_352", "yolox_nano_416"])
def test_head_and_tail_of_real_networks_say_what_the_whole_says(shared_dir, tmp_path, name):
    """To 1e-4, without coding: residual and multi-branch networks, and cuts of several tensors."""
    _check_every_candidate(shared_dir / "models" / f"{name}.onnx", tmp_path)


@pytest.mark.parametrize("weights", [LITE0, LITE2], ids=["lite0", "lite2"])
def test_head_and_tail_of_the_default_pair_say_what_the_whole_says(tmp_path, weights):
    """To 1e-4, without coding, on both EfficientNets with their real weights."""
    checkpoint = package_file(weights.package, "models", weights.file)
    network = build_efficientnet_lite(SCALINGS[weights.lite], read_checkpoint(checkpoint), weights.size)
    onnx.save(network, tmp_path / "model.onnx")
    _check_every_candidate(tmp_path / "model.onnx", tmp_path)


def test_a_set_that_is_no_cut_is_refused(tmp_path):
    """One branch of a residual block alone: the tail would still need the picture."""
    network = load_network(residual_classifier(tmp_path) / "model.onnx")
    with pytest.raises(ModelError, match="cannot cut at r2"):
        cut_network(network, ["r2"])


def test_a_split_is_written_whole_and_read_back(tmp_path):
    """The plan names cuts whose halves are there, timed on this device, at most eight."""
    folder = residual_classifier(tmp_path)
    options = SplitOptions(max_loss=0.1, threads=1, rounds=1)
    report = split_model(folder, coloured_pictures(), options, Silent())
    plan = open_split_plan(open_model_folder(folder))
    assert plan == report.plan
    assert 1 <= len(plan.cuts) <= 8
    assert report.largest_difference <= TOLERANCE
    assert set(plan.profiles[0].head_s) == {cut.name for cut in plan.cuts}


@pytest.mark.parametrize("name", ["cifar_resnet56", "fastestdet_352", "yolox_nano_416"])
def test_no_two_cuts_have_one_name(shared_dir, name):
    """Head and tail of each have files of their own."""
    graph = activation_graph(load_network(shared_dir / "models" / f"{name}.onnx"))
    cuts = find_cuts(graph, 3)
    names = {cut_name([graph.tensors[number].name for number in cut]) for cut in cuts}
    assert len(names) == len(cuts)
    assert all(
        len(one) <= 80 and set(one) <= set(string.ascii_letters + string.digits + "-._") for one in names
    )


def test_cuts_can_be_named(tmp_path):
    """Then those are made, whatever they cost, and an unknown one is refused with those that there are."""
    folder = residual_classifier(tmp_path)
    assert [cut.name for cut in split_classifier(folder).plan.cuts] == ["sum", "flat"]
    with pytest.raises(ModelError, match=r"no cut 'nowhere'; it has .*sum"):
        split_model(folder, coloured_pictures(), SplitOptions(cuts=("nowhere",)), Silent())


def _coding_examples(count=24):
    """Features in two clusters; the answer is the sign of their mean, unsure near zero."""
    random = np.random.default_rng(0)
    features = [[random.normal((-1) ** n * 0.3, 1, (4, 8, 8)).astype(np.float32)] for n in range(count)]

    def answer(number, tensors):
        del number
        share = float(1 / (1 + np.exp(-20 * tensors[0].mean())))
        classes = np.array([0, 1] if share > 0.5 else [1, 0], np.int32)
        return Classification(classes, np.array([max(share, 1 - share), min(share, 1 - share)], np.float32))

    return Examples(features, [answer(n, f) for n, f in enumerate(features)], answer)


def test_judging_stops_early_and_misjudges_nothing():
    """The coding that is chosen keeps enough on all pictures; no smaller one of the grid does."""
    examples = _coding_examples()
    found = choose_coding(examples, 0.02)
    assert found is not None

    def kept(quantizers):
        answers = [examples.tail(n, coded(f, quantizers)) for n, f in enumerate(examples.features)]
        return fidelity(examples.whole, answers)

    assert found.fidelity == pytest.approx(kept(found.quantizers))
    assert found.fidelity >= 0.98
    for levels in (q for q in LEVELS if q < found.quantizers[0].levels):
        fit = fit_distribution(np.stack([f[0] for f in examples.features[:16]]))
        low, high = optimal_clip(fit, levels)
        quantizers = (Quantizer(levels=levels, low=low, high=high),)
        assert kept(quantizers) < 0.98 or mean_bytes(examples.features, quantizers) >= found.feature_bytes


def test_a_coding_above_the_limit_is_not_made():
    """What another cut undercuts in any case is given up."""
    found = choose_coding(_coding_examples(), 0.02)
    assert found is not None
    assert choose_coding(_coding_examples(), 0.02, found.feature_bytes) is None
    assert choose_coding(_coding_examples(), 0.02, found.feature_bytes + 1) == found


def test_a_plan_of_another_network_is_refused(tmp_path):
    """A model folder that was rebuilt needs a new split."""
    first = residual_classifier(tmp_path, version="1")
    second = residual_classifier(tmp_path, version="2", seed=1)
    split_classifier(first)
    (second / "split.yaml").write_bytes(Path(first / "split.yaml").read_bytes())
    with pytest.raises(ModelError, match="another network"):
        open_split_plan(open_model_folder(second))


def test_the_closed_form_has_the_least_squared_error():
    """No clip in its neighbourhood is better on a large Laplace sample."""
    values = np.random.default_rng(0).laplace(scale=2, size=400_000).astype(np.float32)
    fit = fit_distribution(values)
    assert fit.scale == pytest.approx(2, rel=0.02)

    def error(widen):
        low, high = optimal_clip(fit, 7, widen)
        step = (high - low) / 6
        return np.square(np.clip(np.rint((values - low) / step), 0, 6) * step + low - values).mean()

    assert error(1.0) < 1.02 * min(error(0.8), error(1.25))
    assert error(1.0) < min(error(0.5), error(2.0))


def test_features_behind_a_relu_are_clipped_from_zero():
    """One-sided features spend no level below their lowest value."""
    values = np.maximum(np.random.default_rng(0).normal(size=10_000), 0).astype(np.float32)
    assert optimal_clip(fit_distribution(values), 5)[0] == 0


def test_fidelity_is_what_is_left_of_the_confidence():
    """Same class: all of it; another: the probability that the whole network gave that one."""
    whole = Classification(np.array([2, 0], np.int32), np.array([0.75, 0.25], np.float32))
    other = Classification(np.array([0, 2], np.int32), np.array([0.6, 0.4], np.float32))
    assert fidelity([whole], [whole]) == 1
    assert fidelity([whole], [other]) == pytest.approx(1 / 3)


def test_fidelity_of_boxes_counts_what_was_lost_and_what_was_added():
    """Two boxes, one found again and one stray: half of the confidence is common."""
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    moved = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    score, classes = np.array([0.5, 0.5], np.float32), np.array([1, 1], np.int32)
    assert fidelity(
        [Detections(boxes, score, classes)], [Detections(moved, score, classes)]
    ) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20), st.integers(1, 10))
def test_no_point_beats_the_pareto_set(points, count):
    """And `fronts` gives at most what was asked for, the best first front among it when it fits."""
    best = pareto(points, lambda point: point)
    assert all(not (p[0] <= q[0] and p[1] <= q[1] and p != q) for p in points for q in best)
    chosen = fronts(points, lambda point: point, count)
    assert len(chosen) <= max(count, 1)
    assert len(best) > count or set(best) <= set(chosen)


def test_heads_can_be_int8_with_the_coding_fitted_behind_them(tmp_path):
    """The head holds 8-bit weights, the tail none; the answers are still those of the whole network."""
    folder = residual_classifier(tmp_path)
    options = SplitOptions(max_loss=0.2, int8_head=True, threads=1, rounds=1)
    plan = split_model(folder, coloured_pictures(), options, Silent()).plan
    assert any(cut.head_int8 for cut in plan.cuts)
    for cut in plan.cuts:
        halves = [onnx.load(path(folder, cut.name)) for path in (head_path, tail_path)]
        kinds = [{tensor.data_type for tensor in half.graph.initializer} for half in halves]
        assert (onnx.TensorProto.INT8 in kinds[0]) == cut.head_int8
        assert onnx.TensorProto.INT8 not in kinds[1]
        assert cut.fidelity >= 0.8
