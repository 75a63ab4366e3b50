"""The one table from the project's errors to gRPC statuses, and the trailing metadata that goes with them."""

from collections.abc import Mapping
from types import MappingProxyType

import grpc

from spillover.common.errors import (
    DeadlineExpiredError,
    ForbiddenError,
    InputRefusedError,
    InvalidInputError,
    MessageTooLongError,
    ModelError,
    NotFoundError,
    OverloadedError,
    ReferenceLostError,
    SpilloverError,
    SplitMismatchError,
    StreamRefusedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Milliseconds until a retry is welcome (gRPC proposal A6); a negative number would forbid retries."""

_MAX_DETAILS = 400

STATUS: Mapping[type[SpilloverError], grpc.StatusCode] = MappingProxyType(
    {
        # A subclass of InvalidInputError, such as TooLargeError, has its parent's status: it will never fit.
        InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
        UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
        UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
        ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
        NotFoundError: grpc.StatusCode.NOT_FOUND,
        SplitMismatchError: grpc.StatusCode.FAILED_PRECONDITION,
        ReferenceLostError: grpc.StatusCode.FAILED_PRECONDITION,
        StreamRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
        DeadlineExpiredError: grpc.StatusCode.DEADLINE_EXCEEDED,
        OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        MessageTooLongError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        UnavailableError: grpc.StatusCode.UNAVAILABLE,
        InputRefusedError: grpc.StatusCode.INVALID_ARGUMENT,
        ModelError: grpc.StatusCode.INTERNAL,
    }
)


def status_of(error: SpilloverError) -> grpc.StatusCode:
    """The status for `error`, by its class or the nearest parent in the table, else INTERNAL."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return grpc.StatusCode.INTERNAL


def details_of(error: SpilloverError) -> str:
    """The error's text for the caller, cut to what fits into a header: it may quote what was sent.

    gRPC allows 8 KiB of headers and writes a character outside ASCII as up to 12 bytes. What is wrong with a
    stream is told by the first word.
    """
    is_of_stream = isinstance(error, ReferenceLostError | StreamRefusedError)
    text = f"{error.cause}: {error}" if is_of_stream else str(error)
    return text if len(text) <= _MAX_DETAILS else f"{text[: _MAX_DETAILS - 3]}..."


def trailing_metadata(error: Exception) -> tuple[tuple[str, str], ...]:
    """What the sender should know beside the status: when to come back."""
    if isinstance(error, OverloadedError):
        return ((PUSHBACK_KEY, str(max(1, round(error.retry_after_s * 1000)))),)
    return ()
