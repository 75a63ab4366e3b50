"""What is told of each call that has ended, to whoever counts or logs."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from spillover.cloud.security.roles import Caller


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How one call ended, or one message of a stream.

    `holder` is who was charged: the proven name, else the connection; empty for one who was refused before
    that was known. `refusal` is the class of the error that ended it, empty without one.
    """

    method: str
    caller: Caller
    holder: str
    status: grpc.StatusCode
    seconds: float
    received_bytes: int
    sent_bytes: int
    refusal: str


OnEnd = Callable[[CallEnd], None]
