"""Frames of a clip sent as video: really encoded in the order in which they are sent, decoded, and answered.

A payload carries every packet since the newest one of whose answer the edge knows, so answers that come late
cost bytes. Nothing is lost here.
"""

import importlib.metadata
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from spillover.common.geometry import FrameTransform
from spillover.common.model.ensemble.opening import open_model
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.pictures import VisionModel
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections, Image
from spillover.common.video.h264 import Decoder, Encoder, load_codec
from spillover.common.video.planes import digest_of_planes, picture_of
from spillover.lab.pairs.video.answers import Answers, Counts, cached, save, store_of
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.sending import FrameClock, Purse
from spillover.lab.terminal import Progress


@dataclass(frozen=True, slots=True)
class VideoForm:
    """H.264 by its constant rate factor, with so many pixels on the longest side."""

    crf: int = 28
    longest_side: int = 416

    @property
    def name(self) -> str:
        """As figures call it."""
        return f"video-crf{self.crf}-{self.longest_side}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which frames are sent in a form: a share of the frames, or as often as a share of the bytes pays for.

    Answers are known `late_s` seconds after a frame's capture.
    """

    form: VideoForm
    share: float = 1.0
    late_s: float = 0.0
    of_bytes: bool = False

    @property
    def name(self) -> str:
        """Unlike that of any other plan."""
        what = "bytes" if self.of_bytes else "frames"
        return f"{self.form.name}, {self.share!r} of {what}, {self.late_s!r} s late"


def answers_to_video(
    folder: Path,
    clip: Clip,
    plans: Sequence[Plan],
    full_bytes: Counts,
    progress: Progress,
    threads: int = 0,
) -> Mapping[Plan, Answers]:
    """What the model in `folder` says of each frame that a plan sends; other frames have no boxes, 0 bytes.

    `full_bytes` (N,) are those of each frame as cloud_only sends it, which plans by bytes go by.

    Raises:
        ConfigError: PyAV is not installed.
        ModelError: the model cannot be loaded or run.
        SourceError: the clip cannot be read.
        InvalidInputError: H.264 does not take the pictures.
    """
    load_codec()
    opened = open_model_folder(folder)
    codec = f"PyAV {importlib.metadata.version('av')}"
    stores = {plan: store_of(opened, clip, f"{plan.name}, {codec}") for plan in dict.fromkeys(plans)}
    known = {plan: answers for plan in stores if (answers := cached(stores[plan], len(clip))) is not None}
    senders = {plan: _Sender(plan, full_bytes) for plan in stores if plan not in known}
    if not senders:
        return known
    model = open_model(opened, SessionConfig(threads=threads))
    label = f"{model.model_id}, video in {len(senders)} ways"
    for number, (image, _) in enumerate(
        zip(clip.frames(), progress.track(range(len(clip)), label), strict=True)
    ):
        answered: dict[tuple[VideoForm, int], Detections] = {}
        for sender in senders.values():
            sender.see(number, float(clip.times_s[number]), image, model, answered)
    for plan, sender in senders.items():
        known[plan] = sender.answers()
        save(stores[plan], known[plan])
    return known


class VideoStream:
    """The encoder of one stream and the decoder of its server, for frames of one size."""

    def __init__(self, form: VideoForm, width: int, height: int) -> None:
        scale = min(1.0, form.longest_side / max(width, height))
        # H.264 with 4:2:0 needs even sides.
        self.size = (_even(width * scale), _even(height * scale))
        self.transform = FrameTransform.resize((width, height), self.size)
        self._encoder = Encoder(*self.size, form.crf)
        self._decoder = Decoder(*self.size)

    def shrink(self, image: Image) -> Image:
        """The frame in the size that is sent."""
        if image.shape[1::-1] == self.size:
            return image
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)

    def send(self, image: Image) -> tuple[bytes, Image, int]:
        """A frame's packet, the picture that the server has of it, and the digest of that."""
        packet = self._encoder.encode(self.shrink(image), key=False)
        planes = self._decoder.decode(packet)
        return packet, picture_of(planes), digest_of_planes(planes)


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))


class _Sender:
    """One plan under way."""

    def __init__(self, plan: Plan, full_bytes: Counts) -> None:
        self._plan = plan
        self._clock = FrameClock(plan.share)
        self._purse = Purse(plan.share, full_bytes) if plan.of_bytes else None
        self._stream: VideoStream | None = None
        self._unknown: deque[tuple[float, int]] = deque()
        """Packets of whose frames no answer is known: when that will come, and their bytes."""
        self._boxes: list[Detections] = [NO_BOXES] * len(full_bytes)
        self._sizes = np.zeros(len(full_bytes), np.int64)

    def see(
        self,
        number: int,
        at_s: float,
        image: Image,
        model: VisionModel,
        answered: dict[tuple[VideoForm, int], Detections],
    ) -> None:
        """Take the next frame; `answered` holds the answers to this frame's pictures by form and digest."""
        due = self._purse.is_due(number) if self._purse else self._clock.is_due(number)
        if not due:
            return
        stream = self._stream = self._stream or VideoStream(self._plan.form, *image.shape[1::-1])
        packet, picture, digest = stream.send(image)
        while self._unknown and self._unknown[0][0] <= at_s:
            self._unknown.popleft()
        self._unknown.append((at_s + self._plan.late_s, len(packet)))
        size = sum(one for _, one in self._unknown)
        if self._purse and not self._purse.pays(size):
            return
        key = self._plan.form, digest
        if key not in answered:
            answered[key] = DETECTION.own(model.predict(picture)[0].in_frame(stream.transform))
        self._boxes[number], self._sizes[number] = answered[key], size

    def answers(self) -> Answers:
        """To all frames so far."""
        return Answers(tuple(self._boxes), self._sizes)
