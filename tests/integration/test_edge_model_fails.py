"""A model that fails on some frames, truly: those frames are dropped and counted, the daemon goes on."""

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.errors import ModelError
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.models import SIDE, fragile_classifier

RED, GREEN = (0, 0, 255), (0, 255, 0)


def _run(tmp_path, failing, colours):
    """Run a daemon on pictures of these colours; its counters and the verdict of the books."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, colour in enumerate(colours):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((SIDE, SIDE, 3), colour, np.uint8))
    config = {
        "mode": "edge_only",
        "camera": {"source": str(folder), "pace": "fast"},
        "model": {"folder": str(fragile_classifier(tmp_path / "models", failing)), "session": {"threads": 1}},
        "sinks": [{"kind": "jsonl", "path": str(tmp_path / "out.jsonl")}],
    }
    daemon = Daemon(msgspec.convert(config, EdgeConfig))
    try:
        daemon.run()
    finally:
        frames = FrameAccounting()
        frames.add((tmp_path / "out.jsonl").read_bytes().splitlines())
        assert frames.report().violations == ()
    return daemon.metrics.summary()


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
