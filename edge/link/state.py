"""The link at one moment: what the uplink and its estimator say of it to the policy."""

import enum
from dataclasses import dataclass

from spillover.common.types import Action
from spillover.edge.link.byte_budget import UNLIMITED, Tokens
from spillover.edge.link.estimator import PRIOR, LinkEstimate


class BreakerPhase(enum.Enum):
    """Whether calls may depart; see `edge.uplink.limits.Breaker`."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class PayloadOption:
    """One form in which a frame may be sent now: a picture, or the features of one cut.

    `latency_s` is predicted from the decision to the answer; `fidelity` is the share of the cloud's answers
    that this form keeps (1: all).
    """

    name: str
    action: Action
    payload_bytes: float
    latency_s: float
    fidelity: float
    encode_s: float = 0.0
    """The part of `latency_s` that making this form takes on the device."""
    server_s: float = 0.0
    """The part of `latency_s` that the server takes to answer it."""
    measured: bool = True
    """False while no frame was ever made in this form: then `payload_bytes` is a guess."""
    due: bool = False
    """To be taken, if it is good enough, although another is predicted to be quicker: so that it is known."""


@dataclass(frozen=True, slots=True)
class LinkView:
    """The link as it seems, and the forms that a frame may be sent in now."""

    estimate: LinkEstimate = PRIOR
    options: tuple[PayloadOption, ...] = ()
    """The usual form first; empty where nothing is known of any."""
    bytes_in_flight: float = 0.0
    may_probe: bool = True
    """Whether to send a frame although it looks too late: without calls nothing is learnt."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the uplink knows of itself and of the server at one moment."""

    in_flight: int = 0
    """Frames handed over whose call has not ended."""
    max_in_flight: int = 0
    pushback_left_s: float = 0.0
    """Seconds for which the server has asked not to be called; 0 when it has not."""
    server_queue_wait_s: float = 0.0
    """The server's own estimate, from the trailing metadata of its latest answer."""
    breaker: BreakerPhase = BreakerPhase.CLOSED
    breaker_allows: bool = True
    """Whether a call may depart now: closed, or open and due for a probe."""
    view: LinkView = LinkView()
    tokens: Tokens = UNLIMITED
