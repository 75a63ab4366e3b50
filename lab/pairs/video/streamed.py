"""Frames of a clip sent as video: really encoded in the order in which they are sent, decoded, and answered.

The daemon's own encoder makes the payloads. One carries every packet behind the newest that was answered, so
answers that come late cost bytes. Nothing is lost here.
"""

import importlib.metadata
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.common.model.ensemble.opening import open_model
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.pictures import VisionModel
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections, Image
from spillover.common.video.h264 import Decoder, load_codec
from spillover.common.video.planes import picture_of
from spillover.edge.config import PayloadKind, UplinkConfig, VideoConfig
from spillover.edge.payload.streams import KeyCause
from spillover.edge.payload.types import EncodedVideo
from spillover.edge.payload.video import VideoStreams
from spillover.lab.pairs.video.answers import Answers, Counts, cached, save, store_of
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.sending import FrameClock, Purse
from spillover.lab.terminal import Progress

_CODE_VERSION = 1
"""Raised when streams are made in another way, so that no old answers are read."""


@dataclass(frozen=True, slots=True)
class VideoForm:
    """H.264 by its constant rate factor, with so many pixels on the longest side.

    Without one the sender chooses it as the daemon does.
    """

    crf: int | None = None
    longest_side: int = 416

    @property
    def name(self) -> str:
        """As figures call it."""
        return f"video{f'-crf{self.crf}' if self.crf else ''}-{self.longest_side}"

    @property
    def config(self) -> UplinkConfig:
        """As in edge.yaml."""
        return UplinkConfig(
            payload=PayloadKind.VIDEO, video=VideoConfig(longest_side=self.longest_side, crf=self.crf)
        )


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
    stores = {plan: store_of(opened, clip, f"{plan.name}, {_made_by()}") for plan in dict.fromkeys(plans)}
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


def _made_by() -> str:
    return f"PyAV {importlib.metadata.version('av')}, code {_CODE_VERSION}"


class _Unobserved:
    """An observer of streams that keeps nothing."""

    def stream_key(self, kind: str, cause: KeyCause) -> None:
        """Nothing."""

    def stream_failed(self, kind: str) -> None:
        """Nothing."""


class BothEnds:
    """The daemon's sender of one stream, and a receiver that has had every packet. `clock` gives seconds."""

    def __init__(self, config: UplinkConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._streams = VideoStreams(config, 1, _Unobserved(), clock, lambda: 0.5)
        self._decoder: Decoder | None = None

    def send(self, image: Image) -> tuple[EncodedVideo, Image] | None:
        """The payload of the next frame, and the picture that comes of it; None where no stream can be coded.

        Images are BGR (H, W, 3) uint8.
        """
        if (video := self._streams.encode("clip", image)) is None:
            return None
        self._decoder = self._decoder or Decoder(video.width, video.height)
        return video, picture_of(self._decoder.decode(video.packets[-1]))

    def acknowledge(self, video: EncodedVideo) -> None:
        """The answer to this payload has come."""
        self._streams.acknowledged(video)


class _Sender:
    """One plan under way."""

    def __init__(self, plan: Plan, full_bytes: Counts) -> None:
        self._plan = plan
        self._clock = FrameClock(plan.share)
        self._purse = Purse(plan.share, full_bytes) if plan.of_bytes else None
        self._now_s = 0.0
        self._ends = BothEnds(plan.form.config, lambda: self._now_s)
        self._under_way: deque[tuple[float, EncodedVideo]] = deque()
        """Payloads, and when their answers come."""
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
        self._now_s = at_s
        while self._under_way and self._under_way[0][0] <= at_s:
            self._ends.acknowledge(self._under_way.popleft()[1])
        if (sent := self._ends.send(image)) is None:
            return
        video, picture = sent
        size = len(video.data)
        if self._purse and not self._purse.pays(size):
            return
        self._under_way.append((at_s + self._plan.late_s, video))
        key = self._plan.form, video.position.digest
        if key not in answered:
            answered[key] = DETECTION.own(model.predict(picture)[0].in_frame(video.transform))
        self._boxes[number], self._sizes[number] = answered[key], size

    def answers(self) -> Answers:
        """To all frames so far."""
        return Answers(tuple(self._boxes), self._sizes)
