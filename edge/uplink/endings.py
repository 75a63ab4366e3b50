"""What the end of a call means: for the link, for the frame, for the books."""

from edge.uplink.flight import Verdict
from edge.values import CloudAnswer, Outcome

NO_TAIL = "failed_precondition"
"""The server knows the model and not this head: features of another version."""

OVER_BUDGET = "over budget"
"""The byte budget does not cover it now."""
EXCEEDS_BUCKET = "exceeds bucket"
"""The byte budget will never cover it."""

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
    }
)
"""Ends of a call that say nothing of the link."""


def verdict(outcome: Outcome) -> Verdict:
    """What `outcome` says of the link."""
    if isinstance(outcome, CloudAnswer):
        return Verdict.GOOD
    return Verdict.NOTHING if outcome.status in _SAY_NOTHING else Verdict.BAD
