"""What the end of a call means: for the link, for the frame, for the books."""

import re

from spillover.edge.uplink.in_flight import LinkSignal
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer

NO_TAIL = "failed_precondition"
"""The server knows the model and not this head: features of another version."""

OVER_BUDGET = "over budget"
"""The byte budget does not cover it now."""
EXCEEDS_BUCKET = "exceeds bucket"
"""The byte budget will never cover it."""
TOO_LARGE = "too_large"
"""More than `uplink.max_message_bytes`: it can never leave."""

# Texts of gRPC core (client_channel and resolver) for a call that found no connection to leave by.
_NO_CONNECTION = re.compile("failed to connect to all addresses|[Nn]ame resolution|DNS resolution|DNS query")

_LINK_FAILURES = frozenset(
    {
        "unavailable",
        "deadline_exceeded",
        "resource_exhausted",
        "cancelled",
        "stopped",
        "unknown",
        # An identity that has expired is renewed some day; the frames of the meantime must not be lost by it.
        "unauthenticated",
        "permission_denied",
        # So is a model's name: it is the configuration's fault, here or there, and not the frame's.
        "not_found",
    }
)
"""Ends of a call after which the same frame may be answered another time."""
WORTH_ANOTHER_TRY = _LINK_FAILURES | {"bad reply", "internal", "no time left"}
"""Ends of a call after which the frame may wait on the disk; from there what never works is given up."""
_SAY_NOTHING = frozenset(
    {
        "resource_exhausted",
        "cancelled",
        "stopped",
        "no time left",
        "not sent",
        "unfit",
        NO_TAIL,
        OVER_BUDGET,
        EXCEEDS_BUCKET,
        TOO_LARGE,
    }
)
"""Ends of a call that say nothing of the link."""


def link_signal(outcome: CallOutcome) -> LinkSignal:
    """What `outcome` says of the link."""
    if isinstance(outcome, CloudAnswer):
        return LinkSignal.GOOD
    return LinkSignal.NOTHING if outcome.status in _SAY_NOTHING else LinkSignal.BAD


def never_left(outcome: CallOutcome) -> bool:
    """Whether not a byte of the frame was sent: there was no connection."""
    if not isinstance(outcome, CallFailure) or outcome.status != "unavailable":
        return False
    return _NO_CONNECTION.search(outcome.detail) is not None
