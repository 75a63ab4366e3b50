"""The project's errors. Each class says whose fault it is; none depends on gRPC.

`cloud.rpc.status` maps them to gRPC statuses, `common.cli` to exit codes.
"""


class SpilloverError(Exception):
    """Root of every error this project raises on purpose; its text is one sentence for a person."""


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


class UnsupportedError(InvalidInputError):
    """The sender's fault: it asks for an extension of the protocol that is not served here."""


class NotFoundError(SpilloverError):
    """The sender's fault: no model of that name and version is loaded here."""


class SplitMismatchError(SpilloverError):
    """The sender's fault: features of a head whose tail is not loaded here; the picture would be answered."""


class UnauthenticatedError(SpilloverError):
    """The sender's fault: it has not proven who it is, or its proof has expired or been revoked."""


class ForbiddenError(SpilloverError):
    """The sender's fault: it is known, and may not do this."""


class DeadlineExpiredError(SpilloverError):
    """Nobody's fault: the time for an answer passed, or will have passed before one can be computed."""


class OverloadedError(SpilloverError):
    """The server's fault, for now: its queue is full. `retry_after_s` is when to come back, in seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(SpilloverError):
    """The server's fault, for now: it is starting or stopping."""
