"""Which rate factor gives the video of a camera the quality of JPEG, by what the device sees of both.

At one rate factor the pictures of a camera that moves are worse than those of one that stands still: x264
saves where much changes. So both are compared, now and then, as they come out of the decoder. Values in,
values out.
"""

import math
from dataclasses import dataclass, replace

AS_JPEG = 70
"""Quality of the JPEG, of the same size, from which video is to be no farther than that."""
START, LEAST, MOST = 20, 16, 32
"""Rate factors: of the first frames, where the answers of a camera that moves are kept; and the bounds."""
WINDOW = 8
"""Frames that are compared for one decision."""
REST_MOST = 256
"""Frames from one window to the next, at most; at first as many as a window has, each time twice as many."""
_A_STEP = math.log(1.165)
"""By how much the squared error grows from one rate factor to the next, whether a camera moves or not."""
_LOWER_BY, _HIGHER_BY = 2, 3
"""What is nearer to the rate factor in use is not worth a key."""
_NONE = 1.0
"""Squared grey levels: what rounding makes of a picture, whatever the codec."""


@dataclass(frozen=True, slots=True)
class RateFactor:
    """The rate factor of one camera, and what is known about it."""

    crf: int = START
    ratios: tuple[float, ...] = ()
    """Of each frame of this window: logarithm of the error of video over that of JPEG."""
    rest: int = 0
    """Frames that pass before the next window."""
    next_rest: int = WINDOW

    @property
    def is_watching(self) -> bool:
        """Whether the next frame is to be compared."""
        return self.rest == 0

    def passed(self) -> "RateFactor":
        """A frame was not compared."""
        return replace(self, rest=max(0, self.rest - 1))

    def compared(self, video_error: float, jpeg_error: float) -> "RateFactor":
        """Mean squared errors of a frame that is no key; the last one of a window decides."""
        ratio = math.log((video_error + _NONE) / (jpeg_error + _NONE))
        ratios = (*self.ratios, ratio)
        if len(ratios) < WINDOW:
            return replace(self, ratios=ratios)
        wanted = self.crf - round(math.fsum(ratios) / WINDOW / _A_STEP)
        wanted = min(MOST, max(LEAST, wanted))
        is_near = -_LOWER_BY < wanted - self.crf < _HIGHER_BY
        return RateFactor(
            self.crf if is_near else wanted,
            rest=self.next_rest,
            next_rest=min(REST_MOST, 2 * self.next_rest),
        )
