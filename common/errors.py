"""The project's errors. Each class says whose fault it is; none depends on gRPC.

`cloud.rpc.status` maps them to gRPC statuses, `common.cli` to exit codes.
"""

import enum


class Cause(enum.StrEnum):
    """Why a server refuses a call: the label of its metrics and of its log, and all there are."""

    UNAUTHENTICATED = "unauthenticated"
    """No valid proof of identity."""
    FORBIDDEN = "forbidden"
    """A role that may not, or another's name."""
    RATE = "rate"
    """More often than `limits.device_rate_per_s` allows."""
    SHARE = "share"
    """The caller has its share of the places, among those who are there."""
    QUEUE_FULL = "queue_full"
    """All places are taken."""
    MEMORY = "memory"
    """Messages in flight take all the memory that they may."""
    DEADLINE = "deadline"
    """The time is over, or would be before an answer is there."""
    SLOW = "slow"
    """A message that did not come in time, or an answer that was not read in time."""
    TOO_LARGE = "too_large"
    """More bytes, pixels, elements or fields than a limit."""
    MALFORMED = "malformed"
    """Bytes that are no message."""
    INVALID = "invalid"
    """A message that asks for what cannot be, or a picture that cannot be decoded."""
    UNSUPPORTED = "unsupported"
    """An extension of the protocol that is not served."""
    NOT_FOUND = "not_found"
    """A model that is not loaded."""
    SPLIT_MISMATCH = "split_mismatch"
    """Features of a head whose tail is not loaded."""
    REFERENCE = "reference"
    """A payload that is coded against what is not held, or not held any more."""
    STREAM = "stream"
    """A stream that may not begin: there is no room for it, or no codec."""
    UNAVAILABLE = "unavailable"
    """The server, or the model, is starting or stopping."""


class SpilloverError(Exception):
    """Root of all errors that this project raises on purpose; the text is one sentence for a person."""

    cause: Cause | None = None
    """As what a server counts it; None: it has failed, and not refused."""


class ConfigError(SpilloverError):
    """The operator's fault: a configuration file, named with the key, or a library that is not installed."""


class InUseError(ConfigError):
    """The operator's fault: two processes are to use one file. The text names it and who holds it."""


class ModelError(SpilloverError):
    """The model folder's fault: a file is missing, damaged, or does not match its description."""


class InputRefusedError(ModelError):
    """The sender's fault: what this network cannot compute with, such as an index out of range."""

    cause = Cause.INVALID


class SourceError(SpilloverError):
    """The camera's, video's or folder's fault: it cannot be opened or read."""


class InvalidInputError(SpilloverError):
    """The sender's fault: a request or picture that can never be answered as it is."""

    cause = Cause.INVALID


class TooLargeError(InvalidInputError):
    """The sender's fault: more bytes, pixels or elements than the limit."""

    cause = Cause.TOO_LARGE


class MalformedError(InvalidInputError):
    """The sender's fault: its bytes are no message, or not the message of this method."""

    cause = Cause.MALFORMED


class UnsupportedError(InvalidInputError):
    """The sender's fault: it asks for an extension of the protocol that is not served here."""

    cause = Cause.UNSUPPORTED


class NotFoundError(SpilloverError):
    """The sender's fault: no model of that name and version is loaded here."""

    cause = Cause.NOT_FOUND


class SplitMismatchError(SpilloverError):
    """The sender's fault: features of a head whose tail is not loaded here; a picture would work."""

    cause = Cause.SPLIT_MISMATCH


class ReferenceLostError(SpilloverError):
    """Nobody's fault: what a payload is coded against is not held here any more; a key would work."""

    cause = Cause.REFERENCE


class StreamRefusedError(SpilloverError):
    """The server's fault, for a while: no stream may begin here now; a payload without one would work."""

    cause = Cause.STREAM


class UnauthenticatedError(SpilloverError):
    """The sender's fault: no valid proof of identity, or it has expired or been revoked."""

    cause = Cause.UNAUTHENTICATED


class ForbiddenError(SpilloverError):
    """The sender's fault: its identity is known, but its role does not allow this."""

    cause = Cause.FORBIDDEN


class DeadlineExpiredError(SpilloverError):
    """Neither side's fault: the time for an answer has passed, or will pass before one can be computed."""

    cause = Cause.DEADLINE


class SlowCallerError(DeadlineExpiredError):
    """The sender's fault, or its link's: its message did not come in time."""

    cause = Cause.SLOW


class OverloadedError(SpilloverError):
    """The server's fault, temporarily: there is no room for this. Retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float, cause: Cause) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.cause = cause


class MessageTooLongError(SpilloverError):
    """The sender's fault: its message is longer than this method takes; waiting does not help."""

    cause = Cause.TOO_LARGE


class UnavailableError(SpilloverError):
    """The server's fault, temporarily: it is starting or stopping."""

    cause = Cause.UNAVAILABLE
