"""A fused model on the edge: loaded, looked at by the doctor, and refused where one network is needed."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.common.tasks.detection import DETECTION
from spillover.edge.assembly.daemon import open_model
from spillover.edge.config import EdgeConfig, ModelConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.files import load_model
from spillover.edge.payload.tensors import read_manifest
from tests.support.models import bright_detector, fuse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two detectors as one model."""
    one = bright_detector(tmp_path / "parts", "one", labels=["thing"])
    return fuse(tmp_path, one, bright_detector(tmp_path / "parts", "two", side=32), iou_threshold=0.6)


def test_the_daemon_loads_it_as_any_model(folder: Path) -> None:
    """`model.folder` may name it; the answer is the fused one."""
    model = open_model(ModelConfig(folder=str(folder)))
    prediction, _ = model.predict(np.full((48, 64, 3), 255, np.uint8))
    assert prediction.top_confidence == pytest.approx(1, abs=0.01)


def test_the_doctor_names_the_inputs_of_its_members(folder: Path) -> None:
    """The finding has the sizes that a frame is brought to."""
    config = msgspec.convert({"camera": {"source": "nowhere"}, "model": {"folder": str(folder)}}, EdgeConfig)
    (finding,) = load_model(Case(config, folder / "edge.yaml"))
    assert finding.figure == "fused@1, detection, 16x16 and 32x32"


def test_tensors_cannot_be_sent_for_it(folder: Path) -> None:
    """`uplink.protocol: oip` sends one tensor, and this model takes two: the error names the key."""
    with pytest.raises(ConfigError, match=r"uplink\.oip\.manifest: .*is fused from one and two"):
        read_manifest(str(folder), DETECTION)
