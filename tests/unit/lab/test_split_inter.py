"""Features against those of earlier frames: chosen on one half of a clip, judged on the other."""

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import SourceError
from spillover.common.features.codec import encode_next
from spillover.common.features.quantizer import Quantizer
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.split import USUAL_AGE, open_split_plan
from spillover.common.types import Classification
from spillover.lab.split.cli import split
from spillover.lab.split.coding import Examples
from spillover.lab.split.inter import Sequences, choose_inter, judge_inter, spaced_chains
from spillover.lab.split.moving import clip_halves, shifted_halves
from spillover.lab.split.plan import SplitOptions, split_model
from spillover.lab.split.split_report import print_table
from spillover.lab.terminal import Silent
from tests.support.clips import write_avi
from tests.support.splitting import coloured_pictures, residual_classifier

_NINE = (Quantizer(levels=9, low=-2, high=2),)


def _still_camera(count=40, noise=0.1):
    """Features of a scene that stays, with noise; the answer is the sign of the scene's mean."""
    random = np.random.default_rng(0)
    scene = random.normal(0.4, 1, (4, 8, 8)).astype(np.float32)
    features = [[scene + random.normal(0, noise, scene.shape).astype(np.float32)] for _ in range(count)]

    def answer(number, tensors):
        del number
        share = float(1 / (1 + np.exp(-10 * tensors[0].mean())))
        classes = np.array([0, 1] if share > 0.5 else [1, 0], np.int32)
        return Classification(classes, np.array([max(share, 1 - share), min(share, 1 - share)], np.float32))

    examples = Examples(features, [answer(n, f) for n, f in enumerate(features)], answer)
    return Sequences(examples, spaced_chains(0, count))


def test_noise_falls_into_the_dead_zone():
    """What is chosen keeps enough, has a dead zone, and takes a fraction of what changes take without it."""
    sequences = _still_camera()
    found = choose_inter(sequences, None, 0.02, [_NINE])
    assert found is not None
    plain = next(at for at in judge_inter(sequences, _NINE, 0.0) if at.frames == USUAL_AGE)
    assert found.dead_zone > 0
    assert found.feature_bytes < plain.feature_bytes / 2
    assert all(at.fidelity >= 0.98 for at in judge_inter(sequences, found.quantizers, found.dead_zone))


def test_a_coding_over_the_limit_is_given_up():
    """Nothing is chosen that takes as many bytes as what there is already."""
    sequences = _still_camera()
    found = choose_inter(sequences, None, 0.02, [_NINE])
    assert choose_inter(sequences, None, 0.02, [_NINE], found.feature_bytes) is None
    assert choose_inter(sequences, None, 0.02, [_NINE], found.feature_bytes + 1) == found


def test_bytes_are_those_of_the_frames_behind_the_key():
    """As an edge would send them, one after the other."""
    sequences = _still_camera(8)
    (at, *_) = judge_inter(sequences, _NINE, 0.9)
    reference, sizes = None, []
    for features in sequences.examples.features:
        sent = encode_next(features, _NINE, reference, 0.9)
        sizes.append(len(sent.data))
        reference = sent.quantized
    assert (at.frames, at.feature_bytes) == (1, pytest.approx(np.mean(sizes[1:]), abs=0.05))


@given(st.integers(0, 50), st.integers(0, 600))
def test_chains_stay_in_their_part_of_the_clip(first, count):
    """Each has two frames at least, as far apart as its age says, of [first, first + count)."""
    for age, chains in spaced_chains(first, first + count).items():
        for numbers in chains:
            assert len(numbers) >= 2
            assert set(np.diff(numbers)) == {age}
            assert first <= min(numbers) <= max(numbers) < first + count


def test_halves_of_a_clip_have_no_frame_in_common(tmp_path):
    """What is judged was not seen when it was chosen."""
    moving = clip_halves(write_avi(tmp_path / "square.avi", 80, 10.0))
    names = [{picture.name for picture in half.pictures()} for half in (moving.chosen_on, moving.judged_on)]
    assert not names[0] & names[1]
    for half, found in zip((moving.chosen_on, moving.judged_on), names, strict=True):
        assert {n for chains in half.chains.values() for chain in chains for n in chain} == set(
            range(len(found))
        )
    assert set(moving.judged_on.chains) == {1, 3, 8, 30}


def test_a_clip_that_is_too_short_is_refused(tmp_path):
    """Half of three frames is no sequence."""
    with pytest.raises(SourceError, match="3 frames are too few"):
        clip_halves(write_avi(tmp_path / "short.avi", 3, 10.0))


def test_shifted_pictures_take_a_clips_place():
    """Other pictures to choose on than to judge on, each with itself moved, for every age."""
    moving = shifted_halves(coloured_pictures(12))
    first, second = (
        {picture.name.partition(" moved")[0] for picture in half.pictures()}
        for half in (moving.chosen_on, moving.judged_on)
    )
    assert not first & second
    assert [len(chains) for chains in moving.chosen_on.chains.values()] == [len(first)] * 4


def test_a_plan_for_a_clip_is_read_back_and_printed(tmp_path, capsys):
    """split.yaml has the figures of the half that was not chosen on; the report prints both."""
    folder = residual_classifier(tmp_path / "models")
    clip = write_avi(tmp_path / "square.avi", 80, 10.0)
    options = SplitOptions(max_loss=0.1, threads=1, rounds=1, cuts=("sum", "flat"), clip=clip)
    report = split_model(folder, coloured_pictures(), options, Silent())
    plan = open_split_plan(open_model_folder(folder))
    assert plan == report.plan
    cut = plan.cut("sum")
    assert cut.inter is not None
    assert cut.inter.clip == "square.avi"
    assert [at.frames for at in cut.inter.ages] == [1, 3, 8, 30]
    assert [at.frames for at in report.chosen["sum"]] == [1, 3, 8, 30]
    assert cut.usual_bytes == cut.inter.ages[2].feature_bytes < cut.inter.key_bytes
    print_table(report)
    printed = capsys.readouterr().out
    assert "square.avi" in printed
    for at in (*report.chosen["sum"], *cut.inter.ages):
        assert f"{at.feature_bytes:.0f}  {at.fidelity:.3f}" in printed


def test_without_a_clip_the_coding_alone_is_what_it_was(tmp_path):
    """Dead zones are chosen on shifted pictures, for the quantisers that are best alone."""
    folder = residual_classifier(tmp_path)
    options = SplitOptions(max_loss=0.1, threads=1, rounds=1, cuts=("sum",))
    cut = split_model(folder, coloured_pictures(), options, Silent()).plan.cut("sum")
    assert cut.inter is not None
    assert cut.inter.clip == ""
    assert len(cut.inter.ages) == 4


def test_a_clip_alone_is_enough_to_plan(tmp_path):
    """Without pictures the clip's first half is calibrated on; the command says what both halves gave."""
    folder = residual_classifier(tmp_path / "models")
    clip = write_avi(tmp_path / "square.avi", 60, 10.0)
    arguments = [str(folder), "--clip", str(clip), "--cut", "sum", "--max-loss", "0.1", "--threads", "1"]
    ran = CliRunner().invoke(split, [*arguments, "--count", "8"])
    assert ran.exit_code == 0, ran.output
    assert "against earlier frames, square.avi" in ran.output
    assert open_split_plan(open_model_folder(folder)).cut("sum").inter is not None
