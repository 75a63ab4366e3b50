"""The values that travel: Frame -> Prediction -> Decision -> Result.

Every stage takes one of these and gives the next. They are frozen; nothing downstream can change what a
stage upstream has said. protobuf never appears here: only `common.wire.conversion` reads both.
"""

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""HxWx3 uint8, channels in BGR order (OpenCV's)."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


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
    """Where the picture came from when that has a name (the file of a folder camera), else empty."""
    read_s: float = 0.0
    """Seconds that reading and decoding this picture took."""


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """Classes by descending probability.

    `class_id` int32 (K,), `probability` float32 (K,); K is the number of classes of the model, or fewer when
    only the top of the list travelled.
    """

    class_id: IntArray
    probability: FloatArray

    @property
    def confidence(self) -> float:
        """The probability of the best class, 0 for an empty list."""
        return float(self.probability[0]) if self.probability.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes by descending confidence, in pixels of the frame.

    `xyxy` float32 (N, 4) left, top, right, bottom; `confidence` float32 (N,); `class_id` int32 (N,).
    """

    xyxy: FloatArray
    confidence: FloatArray
    class_id: IntArray

    def __len__(self) -> int:
        return len(self.confidence)


Prediction = Classification | Detections


class Action(enum.Enum):
    """What becomes of a frame."""

    KEEP = "keep"
    SEND_FRAME = "send_frame"
    SEND_CROPS = "send_crops"
    SEND_FEATURES = "send_features"
    SPOOL = "spool"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one frame, why, and from which figures.

    `inputs` holds every number the decision was computed from, so that a log of decisions can be replayed.
    """

    action: Action
    reason: str
    expected_gain: float = 0.0
    predicted_latency_s: float = 0.0
    inputs: dict[str, float] = field(default_factory=dict)
    payload: str = ""
    """In which form the frame is sent, where there was a choice: `picture`, or the name of a cut."""
    fallback: str = ""
    """Why another form left than had been chosen, which `action` and `payload` then name; else empty."""


class AnsweredBy(enum.Enum):
    """Whose prediction a result carries."""

    EDGE = "edge"
    CLOUD = "cloud"
    EDGE_DEGRADED = "edge_degraded"
    """The edge's, although the policy wanted the cloud's: none came in time."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent on one frame, stage by stage; a stage that did not happen is 0.

    `network_s` is what is left of the round trip when the server's own times are taken off.
    `total_s` is from capture to this result.
    """

    capture_s: float = 0.0
    """Reading the picture (file, stream or device) and decoding it into BGR pixels."""
    queue_s: float = 0.0
    """Waiting between camera and model."""
    preprocess_s: float = 0.0
    infer_s: float = 0.0
    decode_s: float = 0.0
    """Turning the model's output tensors into a prediction."""
    encode_s: float = 0.0
    network_s: float = 0.0
    server_queue_s: float = 0.0
    server_decode_s: float = 0.0
    server_infer_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model answered."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One answer for one frame.

    The first has `revision` 0 and comes by the frame's deadline, whatever the link does. A cloud answer that
    comes later has the same `frame_id` and `revision` 1.
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
