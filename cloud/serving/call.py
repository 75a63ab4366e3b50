"""What a transport tells of one call, without being the transport."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls and until when they listen.

    `device` is the caller's proven identity, else what it says of itself, else its address. `expires_s` is
    the end of the call in `time.monotonic()` seconds, infinite without a deadline.
    """

    device: str = ""
    expires_s: float = math.inf
    arrived_s: float = 0.0
