"""Why a payload of a stream cannot be decoded here, though a key could."""

import enum

from spillover.common.errors import ReferenceLostError


class Loss(enum.StrEnum):
    """The label of the metric, and all there are."""

    UNKNOWN = "unknown"
    """No such stream is held: it was never here, or had to make room."""
    GAP = "gap"
    """Its reference was not decoded here."""
    PASSED = "passed"
    """What it stands for is not kept any more."""
    SIDES = "sides"
    """It is of other sides than its key."""
    LONG = "long"
    """It has too much to decode at once."""
    DIGEST = "digest"
    """What was decoded is not what the sender has. Nothing of the stream is kept."""
    CODEC = "codec"
    """The codec refuses it. Nothing of the stream is kept."""

    @property
    def is_final(self) -> bool:
        """Whether nothing of the stream is kept after it."""
        return self in {Loss.DIGEST, Loss.CODEC}


class LostError(ReferenceLostError):
    """`loss` says why."""

    def __init__(self, loss: Loss, text: str) -> None:
        super().__init__(f"{text}; send a key")
        self.loss = loss
