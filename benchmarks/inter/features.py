"""Features of a detector's cut as a form beside JPEG and video: alone, and against what the cloud has."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spillover.common.home import cache_home
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.split import SPLIT_FILE, open_split_plan
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES
from spillover.lab.pairs.video.answers import Answers
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.split.moving import clip_pictures
from spillover.lab.split.plan import SplitOptions, split_model
from spillover.lab.split.sent_clip import SentFrame, send_clip
from spillover.lab.terminal import Progress

CUT = "725"
"""Of YOLOX-nano: 32 channels at stride 8 (86,528 elements), 14 of 45 ms behind the picture."""
CALIBRATED_ON = 64
"""Frames of the clip's first half."""


def feature_answers(
    cloud: Path, clip: Clip, every: Sequence[int], progress: Progress, threads: int, cut: str = CUT
) -> Iterator[tuple[str, int, Answers]]:
    """Each form, the frames from one that is sent to the next, and the answers; those with bytes were sent.

    How features are coded is chosen on the clip's first half; the figure to state is that of the second.
    """
    folder = _planned(cloud, clip, cut, progress, threads)
    images = (
        image for image, _ in zip(clip.frames(), progress.track(range(len(clip)), "features"), strict=True)
    )
    sent = send_clip(folder, cut, images, every, threads)
    for age in every:
        yield f"features of {cut}, alone", age, _answers(sent.alone[::age], len(clip))
        yield f"features of {cut}", age, _answers(sent.against[age], len(clip))


def _planned(cloud: Path, clip: Clip, cut: str, progress: Progress, threads: int) -> Path:
    """A copy of the model that is split at this cut for this clip; made once."""
    digest = open_model_folder(cloud).manifest.sha256
    folder = cache_home() / "bench" / "inter" / f"{digest[:12]}-{cut}-{clip.digest[:12]}"
    if not (folder / SPLIT_FILE).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(cloud, folder, ignore=shutil.ignore_patterns("split*"))
        options = SplitOptions(threads=threads, rounds=3, cuts=(cut,), clip=clip.path)
        split_model(folder, clip_pictures(clip.path, CALIBRATED_ON), options, progress)
    open_split_plan(open_model_folder(folder)).cut(cut)
    return folder


def _answers(sent: Sequence[SentFrame], frames: int) -> Answers:
    """Of all frames of the clip; those that were not sent have no boxes and no bytes."""
    boxes = [NO_BOXES] * frames
    sizes = np.zeros(frames, np.int64)
    for one in sent:
        boxes[one.number] = DETECTION.own(one.answer)
        sizes[one.number] = one.payload_bytes
    return Answers(tuple(boxes), sizes)
