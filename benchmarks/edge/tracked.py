"""What tracking costs on a drawn street of 768x576 with a cloud that answers late. A process; prints JSON.

Every tenth frame is sent and answered two frames later, and the edge sees seven of ten objects. Timed is the
processor time of the thread, which other processes on the machine change little.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from spillover.common.types import Detections, FloatArray, Image, ModelId
from spillover.edge.tracking.stage import OnReply
from spillover.edge.tracking.tracker import Tracker, TrackerSettings
from spillover.edge.uplink.outcome import CloudAnswer

WIDTH, HEIGHT = 768, 576
SENT_EVERY = 10
LATE_FRAMES = 2
SKIP = 20
"""Frames at the beginning that are not timed."""
_FRAME_S = 0.1


class Scene:
    """Textured boxes that walk to and fro before a textured background."""

    def __init__(self, objects: int) -> None:
        rng = np.random.default_rng(1)
        self._background = _texture(rng, HEIGHT, WIDTH)
        self._size = np.stack([rng.integers(24, 60, objects), rng.integers(50, 130, objects)], axis=1)
        self._start = rng.random((objects, 2)) * ([WIDTH, HEIGHT] - self._size)
        self._pace = rng.uniform(-4.0, 4.0, (objects, 2))
        self._looks = [_texture(rng, int(height), int(width)) for width, height in self._size]

    def boxes(self, frame: int) -> FloatArray:
        """Where they are (N, 4)."""
        room = [WIDTH, HEIGHT] - self._size
        corner = room - np.abs((self._start + self._pace * frame) % (2 * room) - room)  # turns at the border
        return np.concatenate([corner, corner + self._size], axis=1).astype(np.float32)

    def picture(self, frame: int) -> Image:
        """It (576, 768, 3)."""
        image = self._background.copy()
        for (left, top), look in zip(self.boxes(frame)[:, :2].round().astype(int), self._looks, strict=True):
            image[top : top + look.shape[0], left : left + look.shape[1]] = look
        return image


def main(objects: int, frames: int) -> None:
    """Time the tracker on so many frames."""
    cv2.setNumThreads(1)
    scene, rng = Scene(objects), np.random.default_rng(2)
    tracker = Tracker(TrackerSettings(), report_threshold=0.3)
    flying: deque[tuple[int, OnReply]] = deque()
    taken_s = []
    for frame in range(frames + SKIP):
        picture, truth = scene.picture(frame), scene.boxes(frame)
        seen = truth[rng.random(objects) < 0.7]
        own = _detections(seen + rng.normal(0, 2, seen.shape).astype(np.float32), 0.5)
        while flying and frame - flying[0][0] >= LATE_FRAMES:
            sent, on_reply = flying.popleft()
            on_reply(CloudAnswer(_detections(scene.boxes(sent), 0.9), ModelId("cloud", "1"), 0, 0, 0, 0))
        began_s = time.thread_time()
        tracker.correct(own, picture, frame * _FRAME_S)
        taken_s.append(time.thread_time() - began_s)
        if frame % SENT_EVERY == 0:
            flying.append((frame, tracker.sent(str(frame), frame * _FRAME_S, own)))
    print(json.dumps(_figures(taken_s[SKIP:])))  # noqa: T201 - its answer


def _figures(taken_s: Sequence[float]) -> dict[str, float]:
    ms = np.array(taken_s) * 1e3
    return {
        "mean_ms": float(ms.mean()),
        "p50_ms": float(np.percentile(ms, 50)),
        "p99_ms": float(np.percentile(ms, 99)),
    }


def _detections(xyxy: FloatArray, confidence: float) -> Detections:
    count = len(xyxy)
    return Detections(xyxy, np.full(count, confidence, np.float32), np.zeros(count, np.int32))


def _texture(rng: np.random.Generator, height: int, width: int) -> Image:
    """Soft noise that flow can hold on to."""
    noise = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 2.0).astype(float)
    spread = (noise - noise.min()) / (noise.max() - noise.min()) * 255
    image: Image = spread.astype(np.uint8)
    return image


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
