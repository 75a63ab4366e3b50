"""Answers that were given already: an edge that repeats a request is answered from memory.

An edge delivers at least once. What it sent and got no answer to (the link broke, the device lost power) it
sends again, perhaps hours later, when the work has long been done.
"""

from collections import OrderedDict

from spillover.common.types import ModelId
from spillover.common.wire.conversion import InferenceReply, InferenceRequest

Key = tuple[str, str, str, int, str]
_MAX_PAYLOADS = 4


def key_of(request: InferenceRequest, device: str, model: ModelId) -> Key | None:
    """Names a frame by device, boot and number; None when the sender does not say who it is.

    `model` is the one that would answer now.
    """
    if not (device and request.boot_id):
        return None
    return (device, request.boot_id, request.camera_id, request.sequence, str(model))


class ReplyCache:
    """The replies to the newest `capacity` frames. Used from one event loop.

    A payload's checksum tells a frame's crop or features from the frame itself, and a device that uses a
    number twice from one that repeats. It is needed only for frames that `knows` names.
    """

    def __init__(self, capacity: int = 2048) -> None:
        self._capacity = capacity
        self._replies: OrderedDict[Key, OrderedDict[int, InferenceReply]] = OrderedDict()

    def knows(self, key: Key | None) -> bool:
        """Whether a request with this frame was answered not long ago."""
        return key in self._replies

    def get(self, key: Key | None, checksum: int) -> InferenceReply | None:
        """The reply to this very request, if it was given not long ago."""
        if key is None or (replies := self._replies.get(key)) is None:
            return None
        self._replies.move_to_end(key)
        return replies.get(checksum)

    def remember(self, key: Key | None, checksum: int, reply: InferenceReply) -> None:
        """Keep a reply; the frame longest unused goes, and of a frame's replies the oldest."""
        if key is None:
            return
        replies = self._replies.setdefault(key, OrderedDict())
        replies[checksum] = reply
        if len(replies) > _MAX_PAYLOADS:
            replies.popitem(last=False)
        self._replies.move_to_end(key)
        if len(self._replies) > self._capacity:
            self._replies.popitem(last=False)
