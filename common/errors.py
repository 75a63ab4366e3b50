"""The project's errors. Each class says whose fault it is; none depends on gRPC.

`cloud.rpc.status` maps them to gRPC statuses, `common.cli` to exit codes.
"""


class SpilloverError(Exception):
    """Root of all errors that this project raises on purpose; the text is one sentence for a person."""


class ConfigError(SpilloverError):
    """The operator's fault: a configuration file. The text names the file and the key path."""


class ModelError(SpilloverError):
    """The model folder's fault: a file is missing, damaged, or does not match its description."""


class SourceError(SpilloverError):
    """The camera's, video's or folder's fault: it cannot be opened or read."""


class InvalidInputError(SpilloverError):
    """The sender's fault: a request or picture that can never be answered as it is."""


class TooLargeError(InvalidInputError):
    """The sender's fault: more bytes, pixels or elements than the limit."""


class MalformedError(InvalidInputError):
    """The sender's fault: its bytes are no message, or not the message of this method."""


class UnsupportedError(InvalidInputError):
    """The sender's fault: it asks for an extension of the protocol that is not served here."""


class NotFoundError(SpilloverError):
    """The sender's fault: no model of that name and version is loaded here."""


class SplitMismatchError(SpilloverError):
    """The sender's fault: features of a head whose tail is not loaded here; a picture would work."""


class UnauthenticatedError(SpilloverError):
    """The sender's fault: no valid proof of identity, or it has expired or been revoked."""


class ForbiddenError(SpilloverError):
    """The sender's fault: its identity is known, but its role does not allow this."""


class DeadlineExpiredError(SpilloverError):
    """Neither side's fault: the time for an answer has passed, or will pass before one can be computed."""


class OverloadedError(SpilloverError):
    """The server's fault, temporarily: its queue is full. Retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MessageTooLongError(SpilloverError):
    """The sender's fault: its message is longer than this method takes; waiting does not help."""


class UnavailableError(SpilloverError):
    """The server's fault, temporarily: it is starting or stopping."""
