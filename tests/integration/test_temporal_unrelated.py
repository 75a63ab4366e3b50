"""Temporal correction on pictures that have nothing to do with each other: it must do no harm."""

from pathlib import Path

import numpy as np

from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Classification, ModelId
from spillover.edge.config import TemporalConfig
from spillover.edge.inference.temporal import LastAnswerCorrector
from spillover.edge.uplink.outcome import CloudAnswer
from spillover.lab.models.prepare.wrap import wrap_onnx

PICTURES = 2000
SENT_EVERY = 10


def model_of(shared_dir: Path, folder: Path, name: str) -> Model:
    """A network for CIFAR-10 as a model folder."""
    source = shared_dir / "models" / f"{name.replace('-', '_')}.onnx"
    labels = [str(number) for number in range(10)]
    wrap_onnx(source, folder / name, name, name=name, version="1", labels=labels)
    return Model.load(folder / name, SessionConfig(threads=1))


def test_unrelated_pictures_stay_as_they_are(shared_dir: Path, tmp_path: Path) -> None:
    """Ten classes, so that two pictures are often taken for the same: accuracy stays within half a point."""
    edge = model_of(shared_dir, tmp_path, "cifar-resnet8")
    cloud = model_of(shared_dir, tmp_path, "cifar-resnet56")
    with np.load(shared_dir / "data" / "cifar10-dev.npz") as data:
        pictures, truth = data["x"], data["y"]
    order = np.random.default_rng(0).permutation(len(pictures))[:PICTURES]
    temporal = LastAnswerCorrector(TemporalConfig())
    right = {"own": 0, "shown": 0}
    for number, index in enumerate(order):
        picture = np.ascontiguousarray(pictures[index][..., ::-1])
        own, _ = edge.predict(picture)
        assert isinstance(own, Classification)
        shown = temporal.correct(own, picture, number / 10).prediction
        assert isinstance(shown, Classification)
        right["own"] += int(own.class_id[0] == truth[index])
        right["shown"] += int(shown.class_id[0] == truth[index])
        if number % SENT_EVERY == 0:
            answer = CloudAnswer(cloud.predict(picture)[0], ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0)
            temporal.sent(str(number), number / 10, own)(answer)
    assert right["own"] > 0.7 * PICTURES
    assert right["shown"] >= right["own"] - 0.005 * PICTURES
