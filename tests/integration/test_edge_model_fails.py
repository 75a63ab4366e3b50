"""A model that fails on some frames, truly: those frames are dropped and counted, the daemon goes on."""

import cv2
import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.errors import ModelError
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.status.text import to_text
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.models import SIDE, centre_detector, fragile_classifier

RED, GREEN = (0, 0, 255), (0, 255, 0)


def _run(tmp_path, failing, colours):
    """Run a daemon whose model fails on pictures of these colours; its counters."""
    return _run_model(tmp_path, fragile_classifier(tmp_path / "models", failing), colours).metrics.summary()


def _run_model(tmp_path, model, colours):
    """A daemon after its run; what it wrote adds up."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, colour in enumerate(colours):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((SIDE, SIDE, 3), colour, np.uint8))
    config = {
        "mode": "edge_only",
        "camera": {"source": str(folder), "pace": "fast"},
        "model": {"folder": str(model), "session": {"threads": 1}},
        "sinks": [{"kind": "jsonl", "path": str(tmp_path / "out.jsonl")}],
    }
    daemon = Daemon(msgspec.convert(config, EdgeConfig))
    try:
        daemon.run()
    finally:
        frames = FrameAccounting()
        frames.add((tmp_path / "out.jsonl").read_bytes().splitlines())
        assert frames.report().violations == ()
    return daemon


@pytest.mark.parametrize("failing", ["index", "memory"])
def test_frames_that_the_model_fails_on_are_dropped_and_the_others_answered(tmp_path, failing):
    """An index out of range or too little memory costs the frame it happened on."""
    counted = _run(tmp_path, failing, [GREEN, RED, RED, GREEN, RED])
    assert (counted["frames[edge]"], counted["frames_dropped[model failed]"]) == (2, 3)


@pytest.mark.parametrize("failing", ["index", "memory"])
def test_a_model_that_never_answers_is_an_error_at_the_end(tmp_path, failing):
    """Every frame is accounted for, and the exit says that the model is at fault."""
    with pytest.raises(ModelError, match="every frame"):
        _run(tmp_path, failing, [RED, RED])


def test_boxes_that_are_not_finite_are_counted_and_the_others_reported(tmp_path):
    """One of two boxes has no place: metric, status and one line of the log say so."""
    model = centre_detector(tmp_path / "models", beside=(np.nan, 0.5, 0.1, 0.1, 0.9))
    with capture_logs() as log:
        daemon = _run_model(tmp_path, model, [(255, 255, 255)] * 3)
    assert daemon.metrics.summary()["boxes_dropped[not_finite]"] == 3
    lines = [msgspec.json.decode(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [len(line["boxes"]) for line in lines if "boxes" in line] == [1, 1, 1]
    assert len([entry for entry in log if "not finite" in entry["event"]]) == 1
    assert "BOXES DROPPED: not_finite 3" in to_text(daemon.status())
