"""The state of the link at one moment, which the uplink and its estimator give to the policy."""

import enum
from dataclasses import dataclass

from spillover.common.types import Action
from spillover.edge.link.byte_budget import UNLIMITED, Tokens
from spillover.edge.link.estimator import PRIOR, LinkEstimate


class BreakerPhase(enum.Enum):
    """Whether calls may start; see `edge.uplink.limits.Breaker`."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class PayloadOption:
    """One form in which a frame can be sent now: a picture variant, or the features of one cut.

    `latency_s` is the predicted time from the decision to the answer. `fidelity` is the share of the cloud's
    answers that this form preserves (1: all).
    """

    name: str
    action: Action
    payload_bytes: float
    latency_s: float
    fidelity: float
    encode_s: float = 0.0
    """Part of `latency_s`: encoding on the device."""
    server_s: float = 0.0
    """Part of `latency_s`: processing on the server."""
    measured: bool = True
    """False until a frame was encoded in this form; `payload_bytes` is then a guess."""
    extra_bytes: float = 0.0
    """Part of `payload_bytes` that the frames after this one gain by: what a key has more than others, and
    what is sent again.
    """
    due: bool = False
    """Prefer this option over quicker ones if its fidelity suffices, so that its cost is measured again."""


@dataclass(frozen=True, slots=True)
class LinkView:
    """The link estimate, and the forms in which a frame can be sent now."""

    estimate: LinkEstimate = PRIOR
    options: tuple[PayloadOption, ...] = ()
    """The usual form first; empty when no form is known."""
    may_probe: bool = True
    """Whether to send a frame although its answer looks too late: only calls update the estimate."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """The state of the uplink and of the server at one moment."""

    in_flight: int = 0
    """Frames handed to the uplink whose call has not ended."""
    max_in_flight: int = 0
    pushback_left_s: float = 0.0
    """Seconds left of the pause that the server asked for; 0 without one."""
    server_queue_wait_s: float = 0.0
    """The server's own estimate in seconds, from the trailing metadata of its latest answer."""
    breaker: BreakerPhase = BreakerPhase.CLOSED
    breaker_allows: bool = True
    """Whether a call may start now: the breaker is closed, or open and due for a probe."""
    view: LinkView = LinkView()
    tokens: Tokens = UNLIMITED
