"""Predictions kept on the disk: used when they are what would be computed, and only then."""

from pathlib import Path

import numpy as np
import pytest

from spillover.common.types import Prediction
from spillover.lab.data.labelled import ClassLabels, LabelledSet
from spillover.lab.data.pictures import ArrayPicture
from spillover.lab.pairs.evaluate import predict
from tests.support.models import bright_detector, colour_classifier, fuse


@pytest.fixture
def data() -> LabelledSet:
    """Two pictures of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    return LabelledSet(
        "set",
        tuple(ArrayPicture(str(i), rgb) for i, rgb in enumerate(noise)),
        ClassLabels(np.zeros(2, np.int64)),
    )


class Counting:
    """Counts what it shows the progress of: pictures that the model is run on."""

    count = 0

    def track(self, items, label):
        """Count and hand on."""
        del label
        self.count += len(items)
        return items


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, and a cache folder of its own."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    return colour_classifier(tmp_path)


def asked(model: Path, data: LabelledSet) -> tuple[Counting, list[Prediction]]:
    """What counts the pictures that the model was run on, and its answers."""
    counting = Counting()
    return counting, predict.predict_all(model, data, counting, threads=1)


@pytest.mark.parametrize("keep", [0, 20, 300])
def test_a_damaged_file_is_computed_anew(tmp_path: Path, model: Path, data: LabelledSet, keep: int) -> None:
    """Cut off wherever it may be, it is no error: the model is asked again, and the file mended."""
    first, before = asked(model, data)
    again, _ = asked(model, data)
    assert (first.count, again.count) == (2, 0)
    (file,) = (tmp_path / "home" / "predictions").iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    mended, after = asked(model, data)
    assert mended.count == 2
    np.testing.assert_array_equal(before[1].probability, after[1].probability)
    assert asked(model, data)[0].count == 0


def test_what_another_version_of_the_code_kept_is_not_read(
    model: Path, data: LabelledSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other preparation or decoding would have given other answers."""
    asked(model, data)
    monkeypatch.setattr(predict, "CODE_VERSION", predict.CODE_VERSION + 1)
    assert asked(model, data)[0].count == 2


def test_a_fused_model_is_asked_anew_when_a_member_is_another(
    tmp_path: Path, data: LabelledSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lab evaluate` runs it without a server, down to its members' least boxes; the name holds each."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    parts = [bright_detector(tmp_path / "parts", name, gain=gain) for name, gain in (("a", 1.0), ("b", 0.06))]
    folder = fuse(tmp_path, *parts, iou_threshold=0.6)
    text = (folder / "b" / "model.yaml").read_text()
    (folder / "b" / "model.yaml").write_text(
        text.replace("confidence_threshold: 0.01", "confidence_threshold: 0.5")
    )
    first, before = asked(folder, data)
    again, _ = asked(folder, data)
    assert (first.count, again.count) == (2, 0)
    brightness = before[0].top_confidence
    assert brightness == pytest.approx(0.53 * data.pictures[0].image().mean() / 255, rel=0.05)
    (folder / "b" / "model.yaml").write_text(text.replace("iou_threshold: 0.45", "iou_threshold: 0.5"))
    changed, _ = asked(folder, data)
    assert changed.count == 2
