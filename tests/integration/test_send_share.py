"""What `hybrid` sends of a real video with a real detector, and nothing but the default policy."""

import random
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, Prediction
from spillover.edge.inference.scene import Scene, watch
from spillover.edge.link.state import LinkState
from spillover.edge.policy.base import Context
from spillover.lab.models.prepare.wrap import wrap_onnx
from tests.support.policies import REPORT_THRESHOLD, policy_of

pytestmark = pytest.mark.slow

EVERY = 3
"""One frame in three of the clip's 795: enough to tell, in a third of the time."""
Street = list[tuple[Prediction, cv2.typing.MatLike]]


@pytest.fixture(scope="module")
def street(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Street:
    """Pedestrians as FastestDet sees them, with their pictures."""
    folder = tmp_path_factory.mktemp("street") / "1"
    source = shared_dir / "models" / "fastestdet_352.onnx"
    wrap_onnx(source, folder, "fastestdet", name="fastestdet", version="1")
    model = Model(open_model_folder(folder), SessionConfig(threads=1))
    clip, seen = cv2.VideoCapture(str(shared_dir / "video" / "vtest.avi")), []
    while clip.grab():
        image = clip.retrieve()[1]
        seen.append((model.predict(image)[0], image))
        for _ in range(EVERY - 1):
            clip.grab()
    assert len(seen) == 795 // EVERY
    return seen


@pytest.mark.parametrize(
    ("keys", "share"),
    [({}, 0.1), ({"kind": "mean_score"}, 0.1), ({"send_share": 0.03}, 0.03), ({"send_share": 0.5}, 0.5)],
)
def test_about_the_share_is_sent(street: Street, keys: dict[str, object], share: float) -> None:
    """Whatever the score; with counts of 15 to 21 boxes in doubt a threshold of 0.5 sent all of them."""
    policy = policy_of(task=DETECTION, draw=random.Random(0).random, audit_share=0.0, **keys)  # type: ignore[arg-type]
    scene, sent, free = Scene(), 0, Context(0.4, LinkState(max_in_flight=4))
    for number, (prediction, image) in enumerate(street):
        scene, seen = watch(scene, image, prediction, REPORT_THRESHOLD, number * EVERY / 10)
        context = replace(free, score=policy.score(prediction), surroundings=seen)
        sent += policy.decide(context).action is Action.SEND_FRAME
    assert sent / len(street) == pytest.approx(share, abs=max(0.3 * share, 0.02))
