"""Answers that were given already: an edge that repeats a request is answered from memory.

An edge delivers at least once. What it sent and got no answer to (the link broke, the device lost power) it
sends again, perhaps hours later; the work may long be done.
"""

import zlib
from collections import OrderedDict

from spillover.common.types import ModelId
from spillover.common.wire.conversion import InferenceReply, InferenceRequest

Key = tuple[str, str, str, int, str, int]


def key_of(request: InferenceRequest, device: str, model: ModelId) -> Key | None:
    """What tells a repeated request from a new one; None when the sender does not say who it is.

    Device, boot and number name the frame; the payload's checksum tells its crop or features from the frame
    itself, and a device that lies from one that repeats; `model` is the one that would answer now.
    """
    if not (device and request.boot_id):
        return None
    payload = request.features.data if request.features else request.jpeg
    return (device, request.boot_id, request.camera_id, request.sequence, str(model), zlib.crc32(payload))


class ReplyCache:
    """The newest `capacity` replies. Used from one event loop."""

    def __init__(self, capacity: int = 2048) -> None:
        self._capacity = capacity
        self._replies: OrderedDict[Key, InferenceReply] = OrderedDict()

    def get(self, key: Key | None) -> InferenceReply | None:
        """The reply to this very request, if it was given not long ago."""
        if key is None or (reply := self._replies.get(key)) is None:
            return None
        self._replies.move_to_end(key)
        return reply

    def remember(self, key: Key | None, reply: InferenceReply) -> None:
        """Keep a reply; the one longest unused goes."""
        if key is not None:
            self._replies[key] = reply
            if len(self._replies) > self._capacity:
                self._replies.popitem(last=False)
