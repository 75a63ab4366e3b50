"""In which form a frame is sent: the quickest, by predicted latency, of those that are good enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.types import Action
from edge.link import LinkEstimate


@dataclass(frozen=True, slots=True)
class PayloadOption:
    """One form: a picture, or the features of one cut.

    `make_s` is the edge's time to make it, `server_s` the server's to answer it, `kept` the share of the
    whole network's answers that is left when it was given this form (1: all).
    """

    name: str
    action: Action
    payload_bytes: float
    make_s: float
    server_s: float
    kept: float


@dataclass(frozen=True, slots=True)
class PayloadChoice:
    """The option taken, what it will take, and what is left of the gain that a perfect answer would bring."""

    option: PayloadOption
    latency_s: float
    expected_gain: float
    in_time: bool


KEPT_TOLERANCE = 0.02
"""Options that keep this much less than the best are as good; the quickest of them is taken."""


def predicted_latency_s(option: PayloadOption, link: LinkEstimate, server_wait_s: float) -> float:
    """From the decision to the answer."""
    return option.make_s + link.seconds(option.payload_bytes) + server_wait_s + option.server_s


def choose_payload(
    options: Sequence[PayloadOption],
    link: LinkEstimate,
    server_wait_s: float,
    time_left_s: float,
    expected_gain: float = 1.0,
) -> PayloadChoice:
    """The quickest option among those that keep nearly as much as the best which is in time.

    When none is in time the quickest of all is taken: its answer may still come as a revision.
    """
    timed = [(option, predicted_latency_s(option, link, server_wait_s)) for option in options]
    in_time = [pair for pair in timed if pair[1] <= time_left_s]
    candidates = in_time or timed
    most = max(option.kept for option, _ in candidates)
    good = [pair for pair in candidates if pair[0].kept >= most - KEPT_TOLERANCE] if in_time else timed
    option, latency_s = min(good, key=lambda pair: pair[1])
    return PayloadChoice(option, latency_s, expected_gain * option.kept, bool(in_time))
