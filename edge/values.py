"""The edge's own values: what its stages tell each other about the link, as none imports another."""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from spillover.common.images import EncodedImage
from spillover.common.model.preprocess import Geometry
from spillover.common.tensors import Tensor
from spillover.common.types import Action, Detections, ModelId, Prediction
from spillover.edge.crops import merged
from spillover.edge.link import PRIOR, LinkEstimate


class BreakerPhase(enum.Enum):
    """Whether calls may depart; see `edge.uplink.breaker`."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and is no result: sinks get it in line with the results.

    `kind` is one of `started`, `stopped`, `dropped`, `camera_state`, `breaker`, `spool`
    (docs/reliability.md).
    """

    kind: str
    at_unix_s: float
    fields: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncodedFeatures:
    """Features of one frame, and what leads boxes in the answer back to the frame; no pixels."""

    data: bytes
    head_sha256: str
    geometry: Geometry


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTensor:
    """One frame as a network's input (1, ...), and what leads boxes in its output back to the frame.

    `picture` makes a JPEG of what the tensor was made from: a tensor that has to wait waits as that.
    """

    tensor: Tensor
    geometry: Geometry
    picture: Callable[[], EncodedImage]

    @property
    def data(self) -> memoryview:
        """The tensor's bytes."""
        return self.tensor.data.cast("B")


Payload = EncodedImage | EncodedFeatures | EncodedTensor


@dataclass(frozen=True, slots=True)
class PayloadOption:
    """One form in which a frame may be sent now: a picture, or the features of one cut.

    `latency_s` is predicted from the decision to the answer; `kept` is the share of the cloud's answers that
    is left when it is given this form (1: all).
    """

    name: str
    action: Action
    payload_bytes: float
    latency_s: float
    kept: float
    measured: bool = True
    """False while no frame was ever made in this form: then `payload_bytes` is a guess."""
    due: bool = False
    """To be taken, if it is good enough, although another is predicted to be quicker: so that it is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """What leaves the device for one frame, now or later: the payload, and what a reply to it needs.

    `option` names the form of the payload, as `PayloadOption.name` does. `rest` is None but for a crop: the
    edge's boxes beside it, as `edge.crops.Crop` has them.
    """

    frame_id: str
    camera_id: str
    boot_id: str
    sequence: int
    captured_unix_s: float
    frame_width: int
    frame_height: int
    payload: Payload
    option: str = ""
    rest: Detections | None = None

    def in_frame_pixels(self, prediction: Prediction) -> Prediction:
        """Boxes arrive in pixels of what was sent; the frame may be larger, or begin elsewhere.

        Those of a crop are put together with the edge's beside it.
        """
        if not isinstance(prediction, Detections) or isinstance(self.payload, EncodedTensor):
            return prediction  # a tensor's output is decoded here, straight into pixels of the frame
        if isinstance(self.payload, EncodedFeatures):
            xyxy = self.payload.geometry.to_frame(prediction.xyxy)
        else:
            sent = self.payload
            scale = np.array([sent.scale_x, sent.scale_y] * 2, np.float32)
            offset = np.array([sent.offset_x, sent.offset_y] * 2, np.float32)
            limit = np.array([self.frame_width, self.frame_height] * 2, np.float32)
            xyxy = np.clip(prediction.xyxy / scale + offset, 0, limit)
        found = Detections(xyxy, prediction.confidence, prediction.class_id)
        return found if self.rest is None else merged(found, self.rest)


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
class Tokens:
    """A byte budget at one moment; the default is none. Counted as `edge.budget.wire_bytes` does."""

    left_bytes: float = math.inf
    bucket_bytes: float = math.inf
    refill_bytes_per_s: float = math.inf

    @property
    def level(self) -> float:
        """Share of the bucket that is full; 1 without a budget."""
        return self.left_bytes / self.bucket_bytes if math.isfinite(self.bucket_bytes) else 1.0


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
    server_load: float = 0.0
    """Share of the server's capacity in use, likewise."""
    breaker: BreakerPhase = BreakerPhase.CLOSED
    breaker_allows: bool = True
    """Whether a call may depart now: closed, or open and due for a probe."""
    view: LinkView = LinkView()
    tokens: Tokens = Tokens()


@dataclass(frozen=True, slots=True, eq=False)
class CloudAnswer:
    """The cloud's prediction for one frame, boxes already in pixels of the frame, and where the time went."""

    prediction: Prediction
    model: ModelId
    network_s: float
    server_queue_s: float
    server_decode_s: float
    server_infer_s: float
    sent_bytes: int = 0
    """Payload of the call that was answered."""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why there will be no answer: `status` is one of few (gRPC's in lower case), `detail` is free text."""

    status: str
    detail: str = ""
    unsent: Parcel | None = None
    """What was to be sent, where the link is to blame: another time it may get an answer."""
    pushed_back: bool = False
    """Whether the server named a time to come back: it is full, and has nothing against the frame."""

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}" if self.detail else self.status


Outcome = CloudAnswer | CallFailure


class Ticket(Protocol):
    """Held by the uplink for one frame; it must be settled exactly once, from any thread."""

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note what leaves the device for this frame, and the seconds that making it took."""
        ...

    def fall_back(self, option: str, reason: str) -> None:
        """Note that a picture of the form `option` leaves in place of what was chosen, and why."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """End the frame's call."""
        ...
