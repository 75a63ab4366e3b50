"""Gives the model's last answer again while nothing in the picture changes, so that the model may rest."""

from collections.abc import Callable
from dataclasses import dataclass

from spillover.common.model.pictures import StepTimings
from spillover.common.types import Frame, Image, Prediction
from spillover.edge.camera.change import Thumbnail, changed_share, thumbnail

WIDTH, HEIGHT = 160, 90
"""Of the small grey picture that is compared."""
STILL = 0.0005
"""Share of its pixels that may have changed since the model looked: seven."""
NOT_RUN = StepTimings(0.0, 0.0, 0.0)
"""What the model took where it did not look."""

Predict = Callable[[Image], tuple[Prediction, StepTimings]]


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """The newest frame that the model looked at, and its answer."""

    frame_id: str
    captured_s: float
    shape: tuple[int, ...]
    small: Thumbnail
    prediction: Prediction


class LastLook:
    """What the model said of one camera's newest frame that it looked at. For one thread."""

    def __init__(self) -> None:
        self._look: _Look | None = None

    def answer(self, frame: Frame, predict: Predict, refresh_s: float) -> tuple[Prediction, StepTimings, str]:
        """The model's answer to the frame, the time that it took, and the id of the frame that it is of.

        Compared is with the frame that the model looked at, and not with the one before: what moves slowly
        is seen. The id is empty where the model looked at this frame, as it always does with `refresh_s` 0.

        Raises:
            ModelError: the model fails; the next frame is looked at.
        """
        if refresh_s <= 0:
            self._look = None
            return (*predict(frame.image), "")
        look, small = self._look, thumbnail(frame.image, WIDTH, HEIGHT)
        if look is not None and _is_as(look, frame, small, refresh_s):
            return look.prediction, NOT_RUN, look.frame_id
        self._look = None
        prediction, steps = predict(frame.image)
        self._look = _Look(frame.frame_id, frame.captured_monotonic_s, frame.image.shape, small, prediction)
        return prediction, steps, ""

    def forget(self) -> None:
        """Look at the next frame: another model or other masks may say something else of it."""
        self._look = None


def _is_as(look: _Look, frame: Frame, small: Thumbnail, refresh_s: float) -> bool:
    passed_s = frame.captured_monotonic_s - look.captured_s
    is_recent = 0 <= passed_s < refresh_s and look.shape == frame.image.shape
    return is_recent and changed_share(look.small, small) <= STILL
