"""From bytes to messages: costly ones off the event loop, and what is no message is the sender's fault."""

from typing import Any

from google.protobuf.message import DecodeError, Message

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.wire_cost import check_cost
from spillover.cloud.serving.workers import LOOP_BYTES, Workers
from spillover.common.errors import MalformedError, TooLargeError

_OTHER_FIELDS = 1 << 17
"""Fields that a message may have beside the elements of its tensors; a submessage counts as several."""

_SMALL_BYTES = 64 * 1024
"""So long a message takes the event loop at most 5 ms, whatever is in it."""
_CHEAP = 1024
"""The plain fields that a longer message may cost there: it is a picture, or raw tensors."""


class Parser:
    """Parses requests so that the event loop is never held up for long."""

    def __init__(self, limits: LimitsConfig, workers: Workers) -> None:
        self._limit = limits.max_unpacked_elements + _OTHER_FIELDS
        self._workers = workers

    async def parse(self, data: bytes, message: type[Message], method: str) -> Any:  # noqa: ANN401 - a message
        """The request of `method` in `data`.

        Raises:
            MalformedError: it is none.
            TooLargeError: so many fields or elements would take too long to read.
        """
        if len(data) <= _SMALL_BYTES or (len(data) <= LOOP_BYTES and _is_cheap(data, message)):
            return _parsed(data, message, method)
        return await self._workers.run(f"parsing of {method}", self._parse_large, data, message, method)

    def _parse_large(self, data: bytes, message: type[Message], method: str) -> Message:
        try:
            _check_cost(data, message, self._limit)
        except TooLargeError as error:
            raise TooLargeError(f"not a request of {method}: {error}") from error
        return _parsed(data, message, method)


def _check_cost(data: bytes, message: type[Message], limit: int) -> None:
    check_cost(data, message.DESCRIPTOR, limit)  # type: ignore[arg-type]  # one of two that behave the same


def _is_cheap(data: bytes, message: type[Message]) -> bool:
    try:
        _check_cost(data, message, _CHEAP)
    except TooLargeError:
        return False
    return True


def _parsed(data: bytes, message: type[Message], method: str) -> Message:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise MalformedError(f"not a request of {method}: {error}") from error
