"""The values that pass through the stages: Frame -> Prediction -> Decision -> Result.

Every stage takes one of these and returns the next. They are frozen, so a later stage cannot change them.
protobuf never appears here: only `common.wire.conversion` reads both.
"""

import abc
import enum
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from spillover.common.geometry import FrameTransform

Image = npt.NDArray[np.uint8]
"""HxWx3 uint8, channels in BGR order (OpenCV's)."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Tensor = npt.NDArray[np.generic]
"""An input or output of a network, of any dtype; text is an array of `str` objects, as ONNX has it."""
Chosen = slice | npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from one camera.

    `captured_monotonic_s` is `time.monotonic()` at capture and is what deadlines are counted from;
    `captured_unix_s` is the wall clock, for people and for joining with other data, and may jump.
    """

    image: Image
    frame_id: str
    sequence: int
    camera_id: str
    captured_monotonic_s: float
    captured_unix_s: float
    source: str = ""
    """Where the picture came from when that has a name (the file of a folder camera), else empty; `#41` for
    the 42nd picture of a video, where some before it were passed over."""
    read_s: float = 0.0
    """Seconds that reading and decoding this picture took."""
    hidden: "Detections | None" = None
    """The edge's boxes of what was made unrecognisable in this picture; None: nothing was."""


class Prediction(abc.ABC):
    """What a model predicts for one picture; each task in `common.tasks` has a type of its own.

    The pipeline only uses these methods. Those that concern boxes, parts or classes do nothing here: types
    that have them override them.
    """

    __slots__ = ()

    @property
    @abc.abstractmethod
    def top_confidence(self) -> float:
        """The highest confidence of any part, 0..1; 0 without parts."""

    @property
    def top_class(self) -> int:
        """The class of the most confident part; -1 without parts."""
        return -1

    @property
    def boxes(self) -> "Detections | None":
        """The predicted boxes; None for a task without boxes."""
        return None

    def above(self, confidence: float) -> Self:
        """The parts of at least this confidence."""
        del confidence
        return self

    def best(self, count: int) -> Self:
        """At most this many classes, the best ones; 0 is all."""
        del count
        return self

    def in_frame(self, transform: FrameTransform) -> Self:
        """The same prediction in pixels of the frame instead of pixels of what was sent."""
        del transform
        return self

    def merged(self, rest: "Detections") -> Self:
        """The answer joined with boxes that it does not have; for tasks with boxes alone."""
        raise TypeError(f"a {type(self).__name__} cannot be merged with {len(rest)} boxes")


@dataclass(frozen=True, slots=True, eq=False)
class Classification(Prediction):
    """Classes by descending probability.

    `class_id` int32 (K,), `probability` float32 (K,); K is the number of the model's classes, or less if only
    the best were sent.
    """

    class_id: IntArray
    probability: FloatArray

    @property
    def top_confidence(self) -> float:
        """The probability of the best class, 0 for an empty list."""
        return float(self.probability[0]) if self.probability.size else 0.0

    @property
    def top_class(self) -> int:
        """The best class, -1 for an empty list."""
        return int(self.class_id[0]) if self.class_id.size else -1

    def best(self, count: int) -> "Classification":
        """The `count` best classes; 0 is all."""
        return Classification(self.class_id[: count or None], self.probability[: count or None])


@dataclass(frozen=True, slots=True, eq=False)
class Detections(Prediction):
    """Boxes by descending confidence, in pixels of the frame.

    `xyxy` float32 (N, 4) left, top, right, bottom; `confidence` float32 (N,); `class_id` int32 (N,).
    """

    xyxy: FloatArray
    confidence: FloatArray
    class_id: IntArray
    not_finite: int = 0
    """Boxes that the model saw here and that are left out, since a number of theirs is NaN or infinite."""

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths, which would assign classes to the wrong boxes."""
        count = len(self.confidence)
        if self.xyxy.shape != (count, 4) or len(self.class_id) != count:
            raise ValueError(
                f"{count} confidences, {len(self.class_id)} classes and boxes of shape {self.xyxy.shape}"
            )

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, chosen: Chosen) -> "Detections":
        """The boxes that a mask (N,), indices or a slice select, in that order."""
        return Detections(self.xyxy[chosen], self.confidence[chosen], self.class_id[chosen], self.not_finite)

    @property
    def top_confidence(self) -> float:
        """The confidence of the most confident box; 0 without boxes."""
        return float(self.confidence[0]) if len(self) else 0.0

    @property
    def top_class(self) -> int:
        """The class of the most confident box; -1 without boxes."""
        return int(self.class_id[0]) if len(self) else -1

    @property
    def boxes(self) -> "Detections":
        """These detections themselves."""
        return self

    def above(self, confidence: float) -> "Detections":
        """The boxes of at least this confidence."""
        chosen = self.confidence >= confidence
        return self if chosen.all() else self[chosen]

    def in_frame(self, transform: FrameTransform) -> "Detections":
        """The same boxes in pixels of the frame, clipped to it."""
        return replace(self, xyxy=transform.to_frame(self.xyxy))

    def merged(self, rest: "Detections") -> "Detections":
        """The boxes of both, by descending confidence; at equal confidence this answer's come first."""
        both = Detections(
            np.concatenate([self.xyxy, rest.xyxy]),
            np.concatenate([self.confidence, rest.confidence]),
            np.concatenate([self.class_id, rest.class_id]),
        )
        return both[np.argsort(-both.confidence, kind="stable")]


NO_BOXES = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


class Action(enum.Enum):
    """What is done with a frame."""

    KEEP = "keep"
    """Answered here; nothing is sent."""
    SEND_FRAME = "send_frame"
    """Sent as a picture."""
    SEND_FEATURES = "send_features"
    """Sent as features."""
    SPOOL = "spool"
    """Answered here, and stored to be sent later."""


class Region(NamedTuple):
    """A part of a picture in whole pixels; `right` and `bottom` are just beyond it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class AuditMark:
    """A frame that was drawn at random, to compare the edge's answer with the cloud's."""

    would_keep: bool
    """Whether the frame would have stayed on the device without the draw."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy decided for one frame, why, and from which numbers."""

    action: Action
    """What is done with the frame."""
    reason: str
    """Why: one of a few fixed texts."""
    expected_gain: float = 0.0
    """How much the cloud's answer is expected to add, in the unit of the score."""
    predicted_latency_s: float = 0.0
    """Predicted seconds until the cloud's answer."""
    inputs: dict[str, float] = field(default_factory=dict)
    """Every number that a rule has read, so that a log can be replayed; no rule reads them from here."""
    payload: str = ""
    """The form in which the frame is sent, if there was a choice: `picture`, a variant, `video`, or a cut."""
    fallback: str = ""
    """Why another form was sent than was chosen (`action` and `payload` name the one sent); else empty."""
    score: float | None = None
    """What was compared with the threshold; null if the prediction gave nothing to compare."""
    needed_bytes: float = 0.0
    """What sending takes of the byte budget; 0 without a budget, or if the form was never made."""
    audit: AuditMark | None = None
    """The audit that the frame was drawn for; null if it was not."""
    degraded: bool = False
    """Whether the policy wanted the cloud's answer, and link, time or budget forbade the call."""
    is_probe: bool = False
    """Whether the frame is sent to find out if a dead link has come back."""
    serves_later: bool = False
    """Whether the answer is expected after the deadline, and is wanted for the frames that follow."""


class AnsweredBy(enum.Enum):
    """The origin of a result's prediction."""

    EDGE = "edge"
    CLOUD = "cloud"
    EDGE_DEGRADED = "edge_degraded"
    """The edge's prediction, because the cloud's answer was wanted and did not arrive in time."""


class SeenBy(enum.Enum):
    """Who has last seen a tracked object with a model of its own."""

    EDGE = "edge"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class TrackMark:
    """Which object of a camera a box shows, and how far the box can be trusted."""

    track_id: int
    """Number of the object, from 1; unique for a camera and a run of the daemon."""
    confirmed_by: SeenBy
    """The side whose model confirmed the object last; between its looks the box moves with the picture."""
    age_s: float
    """Seconds between the capture of the frame that confirmed it and of this one."""


class Step(Protocol):
    """What made the tracks of a frame."""

    def as_record(self) -> object:
        """It in a form for a log, from which the tracks can be made again."""
        ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent on one frame, stage by stage; a stage that did not happen is 0."""

    capture_s: float = 0.0
    """Reading the picture (file, stream or device) and decoding it into BGR pixels."""
    queue_s: float = 0.0
    """Waiting between camera and model."""
    preprocess_s: float = 0.0
    """Turning pixels into the model's input tensor."""
    infer_s: float = 0.0
    """Running the edge's model."""
    decode_s: float = 0.0
    """Turning the model's output tensors into a prediction."""
    encode_s: float = 0.0
    """Making the payload."""
    network_s: float = 0.0
    """The round trip without the server's own times."""
    server_queue_s: float = 0.0
    """Waiting in the server."""
    server_decode_s: float = 0.0
    """Turning the payload into a tensor in the server."""
    server_infer_s: float = 0.0
    """Running the cloud's model."""
    total_s: float = 0.0
    """From capture to this result."""

    @property
    def model_s(self) -> float:
        """The edge's model, with what is around it."""
        return self.preprocess_s + self.infer_s + self.decode_s


@dataclass(frozen=True, slots=True)
class ModelId:
    """Name and version of a model."""

    name: str
    """Name in model.yaml."""
    version: str
    """Version in model.yaml."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One answer for one frame.

    The first result has `revision` 0 and is emitted by the frame's deadline, in any state of the link. A
    later cloud answer has the same `frame_id` and `revision` 1.
    """

    frame_id: str
    camera_id: str
    sequence: int
    captured_unix_s: float
    source: str
    answered_by: AnsweredBy
    prediction: Prediction
    model: ModelId
    decision: Decision
    timings: Timings
    payload_bytes: int = 0
    revision: int = 0
    error: str = ""
    """Why the cloud's answer is missing, when it was wanted; empty otherwise."""
    carried_from: str = ""
    """The frame whose cloud answer corrected this local one; empty where none did."""
    reused_from: str = ""
    """The earlier frame of which the edge's model said this, since nothing has changed; empty where it looked
    at this one, and in the cloud's answers."""
    tracks: tuple[TrackMark, ...] | None = None
    """One a box of `prediction`, in its order; None where nothing is tracked."""
    step: Step | None = None
    """What the tracker made of the frame; None in a revision, and where nothing is tracked."""
    snapshot: str = ""
    """Name of the picture that is kept of the frame; empty where none is."""
