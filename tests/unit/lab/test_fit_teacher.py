"""`lab fit --teacher`, a fit without labels, from pictures or a clip; what `--calibrate` changes."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from spillover.common.errors import ModelError, SourceError
from spillover.common.model.calibration import Calibration
from spillover.common.model.manifest import open_model_folder
from spillover.edge.policy.gain import GainModel
from spillover.lab.pairs.fit.calibrate import calibrate_anew
from spillover.lab.pairs.fit.cli import fit
from spillover.lab.pairs.fit.pictures import open_pictures
from spillover.lab.pairs.fit.ridge import folds
from tests.support.clips import picture, write_avi, write_pictures
from tests.support.models import centre_detector, colour_classifier


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))


def run_fit(tmp_path: Path, data: Path, *more: str) -> Path:
    """Fit a pair of classifiers to `data`; where the gain file is. Raises what the command raises."""
    models = tmp_path / "models"
    if not models.exists():
        colour_classifier(models, "edge", gain=2.0)
        colour_classifier(models, "cloud")
    out = tmp_path / "gain.json"
    words = ["--edge", models / "edge" / "1", "--cloud", models / "cloud" / "1", "--data", data, "--out", out]
    done = CliRunner().invoke(fit, [*map(str, words), *more], catch_exceptions=False)
    assert done.exit_code == 0
    return out


@pytest.mark.parametrize("write", [lambda at: write_pictures(at, 30), lambda at: write_avi(at, 30, fps=10)])
def test_a_fit_needs_no_labels(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    """Pictures of a camera, as files or as a clip, give a gain file that the edge can read."""
    data = write(tmp_path / "taken.avi")
    assert GainModel.load(run_fit(tmp_path, data, "--teacher")).file.pictures == 30


def test_pictures_without_labels_want_a_teacher(tmp_path: Path) -> None:
    """The error says which option learns without them."""
    with pytest.raises(SourceError, match=r"taken: has no labels\.csv .*--teacher"):
        run_fit(tmp_path, write_pictures(tmp_path / "taken", 12))


def test_two_models_of_different_tasks_are_no_pair(tmp_path: Path) -> None:
    """Without labels nothing else would notice."""
    centre_detector(tmp_path / "models", "cloud")
    colour_classifier(tmp_path / "models", "edge")
    with pytest.raises(ModelError, match=r"is for classification and .* for detection"):
        run_fit(tmp_path, write_pictures(tmp_path / "taken", 12), "--teacher")


def test_the_frames_of_a_clip_come_in_any_order(tmp_path: Path) -> None:
    """A frame is the same however often and whenever it is read, also after a later one."""
    pictures = open_pictures(write_avi(tmp_path / "c.avi", 12, fps=10)).pictures
    for number in (3, 3, 11, 0, 4):
        difference = pictures[number].image().astype(int) - picture(number)
        assert abs(difference).mean() < 5
    assert len({one.digest() for one in pictures}) == 12


def test_neighbours_are_never_divided_by_a_fold() -> None:
    """Pictures of one stretch are all fitted to, or all judged on; each is judged on once."""
    judged = []
    for train, test in folds(47, np.random.default_rng(0), stretch=4):
        assert not set(train // 4) & set(test // 4)
        assert sorted([*train, *test]) == list(range(47))
        judged += test.tolist()
    assert sorted(judged) == list(range(47))


def test_a_calibration_says_what_it_changes_and_keeps_the_file(tmp_path: Path) -> None:
    """model.yaml as it was stays beside it, also after a second calibration."""
    folder = centre_detector(tmp_path)
    was = (folder / "model.yaml").read_bytes()
    least = open_model_folder(folder).manifest.output.confidence_threshold
    said = "\n".join(calibrate_anew(folder, Calibration(offset=0.5, scale=2.0), 0.3))
    assert "calibration: none -> offset 0.500, scale 2.000" in said
    assert f"confidence_threshold: {least:g} -> 0.02" in said
    assert "report_threshold: none -> 0.3" in said
    calibrate_anew(folder, Calibration(offset=0.1, scale=1.0), 0.2)
    assert (folder / "model.yaml.before").read_bytes() == was
    assert open_model_folder(folder).manifest.output.report_threshold == pytest.approx(0.2)
