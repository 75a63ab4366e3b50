"""Compares each answer to a payload of a stream with the answer to the picture that its sender meant.

It decodes every packet that it sees by itself, in order, whatever becomes of the calls.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Classification
from spillover.common.video.h264 import Decoder
from spillover.common.video.planes import digest_of_planes, picture_of
from spillover.common.wire.conversion import Video, reply_from_pb, request_from_pb
from spillover.common.wire.pb import spillover_pb2 as pb

_TOLERANCE = 1e-4
"""Between one row computed alone and in a batch."""


@dataclass(slots=True)
class _Seen:
    """One stream: how far it is decoded, and what the network says of each of its pictures."""

    decoder: Decoder | None = None
    newest: int = 0
    meant: dict[int, Classification] = field(default_factory=dict)


class AnswerCheck:
    """A `faulty_calls.Watch` over answers of the classifier in `folder`. Any thread may call it.

    `counts` has what was `right` and `wrong`, the `pictures` without a stream, and the `unchecked`: answers
    in a stream of which the beginning was not seen. `keys` and `servers` are of payloads answered.
    """

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.keys = 0
        self.servers: Counter[str] = Counter()
        self.streams_by_server: dict[str, set[bytes]] = {}
        self._model = Model.load(folder, SessionConfig(threads=1))
        self._seen: dict[bytes, _Seen] = {}
        self._by_frame: dict[str, list[Classification]] = {}
        self._lock = threading.Lock()

    def __call__(self, server: str, request: bytes, reply: bytes) -> None:
        """Judge one answer."""
        received = request_from_pb(pb.InferRequest.FromString(request))
        prediction, video = reply_from_pb(pb.InferReply.FromString(reply)).prediction, received.video
        assert isinstance(prediction, Classification)
        with self._lock:
            self.counts[self._judged(video, prediction) if video else "pictures"] += 1
            if video and (meant := self._seen[video.position.stream_id].meant.get(video.position.number)):
                self._by_frame.setdefault(received.frame_id, []).append(meant)
            else:
                self._by_frame.setdefault(received.frame_id, []).append(prediction)
            if video:
                self.keys += video.position.is_key
                self.servers[server] += 1
                self.streams_by_server.setdefault(server, set()).add(video.position.stream_id)

    def is_right(self, frame_id: str, prediction: Classification) -> bool:
        """Whether this is the answer to a picture that was sent for this frame."""
        with self._lock:
            return any(_are_near(meant, prediction) for meant in self._by_frame.get(frame_id, ()))

    def answered(self) -> int:
        """How many payloads of streams were answered rightly so far."""
        with self._lock:
            return self.counts["right"]

    def wrong(self) -> bool:
        """Whether any answer was not to the picture that it should be to."""
        with self._lock:
            return bool(self.counts["wrong"] or self.counts["wrong digest"])

    def _judged(self, video: Video, prediction: Classification) -> str:
        seen = self._seen.setdefault(video.position.stream_id, _Seen())
        for number, packet in enumerate(video.packets, video.first):
            if number in seen.meant:
                continue
            if seen.decoder is None or number != seen.newest + 1:
                if not video.position.is_key or number != video.first:
                    return "unchecked"
                seen.decoder = Decoder(video.width, video.height)
            planes = seen.decoder.decode(packet)
            seen.newest = number
            meant, _ = self._model.predict(picture_of(planes))
            assert isinstance(meant, Classification)
            seen.meant[number] = meant
            if number == video.position.number and digest_of_planes(planes) != video.position.digest:
                return "wrong digest"
        return "right" if _are_near(seen.meant[video.position.number], prediction) else "wrong"


def _are_near(one: Classification, other: Classification) -> bool:
    return np.allclose(_by_class(one), _by_class(other), atol=_TOLERANCE)


def _by_class(prediction: Classification) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return prediction.probability[np.argsort(prediction.class_id)]
