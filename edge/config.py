"""What `edge.yaml` may say. `examples/edge.yaml` shows every key; both are kept together by a test."""

import enum
from pathlib import Path
from typing import Annotated

import msgspec

from common.config import Section
from common.model.session_config import SessionConfig
from common.network import check_host_port, is_loopback

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Mode(enum.Enum):
    """Who answers: the edge alone, the cloud whenever it can be reached, or whom the policy names."""

    EDGE_ONLY = "edge_only"
    CLOUD_ONLY = "cloud_only"
    HYBRID = "hybrid"


class Pace(enum.Enum):
    """How frames are taken from a source.

    REALTIME: at the camera's rate; where the model is slower, the newest frame wins and drops are counted.
    FAST: as fast as they can be worked off, none dropped; a frame counts as captured when it is taken.
    """

    REALTIME = "realtime"
    FAST = "fast"


class CameraConfig(Section, frozen=True):
    """Where frames come from."""

    source: str
    """A video file, an image file, a folder of images, a URL, `/dev/video0` or a device number."""
    camera_id: Name = "camera"
    pace: Pace = Pace.REALTIME
    fps: Positive | None = None
    """Overrides the rate that the source states; a folder states none and is played at 10."""
    loop: bool = False
    queue_size: Count = 2
    frozen_after_s: NotNegative = 10.0
    """A live camera that gives the very same picture for so long is connected anew; 0 never looks."""
    max_frames: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop after so many frames; 0 is no limit."""


class SecondLookConfig(Section, frozen=True):
    """Look again, for better answers and judgement: classifiers once where in doubt, detectors twice."""

    below: Share = 0.95
    """Pictures whose best class has less probability are looked at again."""
    zoom: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """A classifier's second look sees the middle, this share of each side."""


class ModelConfig(Section, frozen=True):
    """The model that answers every frame first."""

    folder: str
    """A model folder, or the name of one below the cache folder of prepared models."""
    report_threshold: Share | None = None
    """Boxes below are not reported, though the policy sees them; null is the model's own threshold."""
    session: SessionConfig = SessionConfig()
    second_look: SecondLookConfig | None = None
    """Null looks once."""


class Period(enum.Enum):
    """What a byte budget is for; any stretch of time of that length, whenever it begins."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    @property
    def seconds(self) -> float:
        """A month is 30 days."""
        return {"minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 30 * 86_400.0}[self.value]


class BudgetConfig(Section, frozen=True):
    """What may leave the device, in bytes as the link counts them; see `edge.budget.wire_bytes`."""

    bytes: Annotated[int, msgspec.Meta(ge=1000)]
    per: Period = Period.DAY
    bucket_bytes: Count | None = None
    """How much may leave at once; null is a tenth of `bytes`. A frame that is larger is never sent."""
    state_file: str = ""
    """Keeps what is left over a restart, which otherwise begins with an empty bucket. Empty: for a day or a
    month a file in the cache folder, else none."""

    def __post_init__(self) -> None:
        """Refuse a bucket that a window could be overspent with."""
        if self.bucket_bytes is not None and self.bucket_bytes > self.bytes / 2:
            raise ValueError("bucket_bytes must not be more than half of bytes")


class PolicyConfig(Section, frozen=True):
    """Which frames are worth the cloud's answer, in mode `hybrid`."""

    kind: str = "auto"
    """`expected_gain`, or a scorer of `edge.policy.scores`; `auto` is max_softmax or near_threshold."""
    gain_file: str = ""
    """For `expected_gain`: what `spillover lab fit` wrote for this pair of models."""
    threshold: float = 0.5
    """Frames whose score reaches it are sent."""
    band: NotNegative = 0.15
    """near_threshold counts boxes whose confidence is within this distance of the report threshold."""
    empty_audit_share: Share = 0.02
    """Share of the frames without detections that is sent: no score can know of a missed object."""
    motion_gain: float = 0.5
    """Gain of a frame without reported boxes in which a twentieth of the picture moves; less for less."""
    lost_track_gain: float = 0.5
    """Gain of a frame without reported boxes within a second of one that had some."""
    audit_share: Share = 0.01
    """Share of all frames that is sent at random, to count what the edge gets wrong."""
    agree_from: Share = 0.5
    """Detection: F1 with the cloud's boxes from which the edge's answer counts as right."""
    max_error: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Moves the threshold so that at most this share of the frames is kept and wrong; null leaves it."""
    seed: int = 0
    budget: BudgetConfig | None = None
    """With one, frames are ranked by gain per byte, and `threshold` is the least gain that is sent at all."""


class TlsConfig(Section, frozen=True):
    """Encryption on the way to the cloud. The files are read again when they change."""

    ca: str
    """The CA, PEM, that has signed the server's certificate."""
    certificate: str = ""
    """This device's certificate, PEM, for a server that asks for one."""
    key: str = ""
    """The certificate's private key, PEM."""
    server_name: str = ""
    """The name in the server's certificate, where that is not the host of `address`."""

    def __post_init__(self) -> None:
        """Refuse half a pair."""
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")


class PayloadKind(enum.Enum):
    """What is sent of a frame: pictures, features of a split network, or whichever is quicker now.

    FEATURES falls back to a picture when the server has no tail for the head. FEATURES_ONLY never does: no
    pixel leaves the device.
    """

    PICTURE = "picture"
    FEATURES = "features"
    FEATURES_ONLY = "features_only"
    AUTO = "auto"


class SplitConfig(Section, frozen=True):
    """The heads that this device can run, of a model that was split with `spillover lab split`."""

    folder: str
    """The split model's folder, as the cloud has it."""
    cuts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of cuts in its split.yaml; each head takes memory. The first is the usual one."""
    session: SessionConfig = SessionConfig()


class UplinkProtocol(enum.Enum):
    """What the server speaks: our own protocol, or the Open Inference Protocol v2 of Triton and others."""

    SPILLOVER = "spillover"
    OIP = "oip"


class TensorType(enum.Enum):
    """Datatype in which a network takes pictures, by the Open Inference Protocol's names."""

    FP32 = "FP32"
    FP16 = "FP16"
    UINT8 = "UINT8"


class OipConfig(Section, frozen=True):
    """The cloud's network: how its input is made here, and what its outputs mean."""

    manifest: str
    """The network's model.yaml, a folder that holds it, or the name of a prepared model."""
    input: str
    """Name of the input that takes the picture."""
    outputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of the outputs, in the order in which the manifest's decoder takes them."""
    datatype: TensorType = TensorType.FP32


class Rung(Section, frozen=True):
    """A way to encode pictures; `kept` is the share of the cloud's gain that is then left."""

    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)]
    longest_side: Count | None = None
    kept: Share = 1.0

    @property
    def name(self) -> str:
        """As decisions and records call it."""
        side = f"-{self.longest_side}" if self.longest_side else ""
        return f"picture-q{self.jpeg_quality}{side}"


class UplinkConfig(Section, frozen=True):
    """The way to the cloud."""

    address: str = "127.0.0.1:50051"
    protocol: UplinkProtocol = UplinkProtocol.SPILLOVER
    oip: OipConfig | None = None
    """Belongs to protocol `oip`; `model_name` is then the manifest's where it is empty."""
    tls: TlsConfig | None = None
    """Null is in the clear, which needs a loopback address or `allow_plaintext_network`."""
    token_file: str = ""
    """A file with this device's token; it is read again when it changes."""
    allow_plaintext_network: bool = False
    model_name: str = ""
    """Empty is the server's default model."""
    model_version: str = ""
    """Empty is the newest version that the server has loaded."""
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 85
    longest_side: Count | None = None
    """Shrink frames to this many pixels before they are sent; null never shrinks."""
    ladder: tuple[Rung, ...] = ()
    """Smaller pictures to choose from where the usual one would be late or is not paid for."""
    payload: PayloadKind = PayloadKind.PICTURE
    """Needs `split` unless it is `picture`."""
    split: SplitConfig | None = None
    max_in_flight: Count = 4
    late_answer_window_s: NotNegative = 2.0
    """How long after the deadline an answer is still wanted, as a revision."""
    keepalive_s: Annotated[float, msgspec.Meta(ge=10)] = 30.0
    reconnect_backoff_max_s: Annotated[float, msgspec.Meta(ge=0.1, le=10)] = 10.0
    breaker_failures: Count = 5
    """After so many calls in a row that failed or missed their deadline, calls pause."""
    breaker_pause_max_s: Annotated[float, msgspec.Meta(ge=0.5, le=60)] = 4.0
    """The longest pause between probes while the link is down."""
    max_message_bytes: Count = 4 * 1024 * 1024
    max_classes: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Ask for at most this many classes of a classification; 0 is all."""

    def __post_init__(self) -> None:
        """Refuse pictures in the clear by mistake, features without a head, tensors without a model."""
        check_host_port("address", self.address)
        if (self.protocol is UplinkProtocol.OIP) != (self.oip is not None):
            raise ValueError("protocol: oip and uplink.oip belong together")
        if self.oip and self.payload is not PayloadKind.PICTURE:
            raise ValueError(f"payload: {self.payload.value} needs uplink.protocol: spillover")
        if self.oip and self.ladder:
            raise ValueError("ladder: tensors have no smaller form; it needs uplink.protocol: spillover")
        if self.payload is not PayloadKind.PICTURE and self.split is None:
            raise ValueError(f"payload: {self.payload.value} needs uplink.split")
        if not (self.tls or self.allow_plaintext_network or is_loopback(self.address)):
            raise ValueError(
                f"address: {self.address} is beyond this machine: set uplink.tls, "
                "or uplink.allow_plaintext_network: true to send pictures in the clear"
            )


class RedactionStyle(enum.Enum):
    """How a box is hidden: a few blurred patches, or black."""

    BLUR = "blur"
    FILL = "fill"


class RedactionConfig(Section, frozen=True):
    """What must not be recognisable in any picture that leaves the device or waits on its disk."""

    classes: Annotated[tuple[str | int, ...], msgspec.Meta(min_length=1)]
    """Labels or class numbers of the edge's detector."""
    style: RedactionStyle = RedactionStyle.BLUR
    margin: NotNegative = 0.1
    """Boxes are widened by this share of their size on every side."""


class SpoolConfig(Section, frozen=True):
    """Frames worth a late answer wait on the disk while the link is down."""

    path: str
    """A file, best on the disk that wears least; it takes `max_mb` at once and never more."""
    max_mb: Annotated[float, msgspec.Meta(gt=0)] = 256.0
    max_age_s: Positive = 24 * 3600.0
    """Counted in seconds that the daemon runs."""
    min_gain: float = 0.0
    """Frames whose expected gain is below are not kept."""
    commit_interval_s: Annotated[float, msgspec.Meta(ge=0, le=0.05)] = 0.05
    """Frames that come within this time share one write to the disk."""
    answer_timeout_s: Positive = 10.0
    """How long one of them may take to be answered."""
    drain_bytes_per_s: NotNegative = 0.0
    """Bounds what the spool sends while live frames have the way; 0 is no bound but the in-flight cap."""


class JsonLinesConfig(Section, frozen=True, tag_field="kind", tag="jsonl"):
    """A sink that appends one JSON object a line."""

    path: str = "-"
    """A file, or `-` for standard output."""
    events: bool = True
    """Also what happens besides results: dropped frames, camera, breaker, spool. `lab check` needs them."""
    rotate_mb: NotNegative = 0.0
    """Begin a new file when this size is reached; 0 is never."""
    rotate_keep: Annotated[int, msgspec.Meta(ge=1)] = 5
    """How many old files stay, as `path.1` (the newest) and on."""
    queue_size: Count = 1024


class SqliteConfig(Section, frozen=True, tag_field="kind", tag="sqlite"):
    """A sink that keeps the last days in an SQLite file, to be queried while the daemon runs."""

    path: str
    keep_days: Annotated[float, msgspec.Meta(gt=0)] = 7.0
    queue_size: Count = 1024


class MqttConfig(Section, frozen=True, tag_field="kind", tag="mqtt"):
    """A sink that publishes to an MQTT broker; docs/mqtt.md names the topics."""

    host: str
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)] = 1883
    username: str = ""
    password_file: str = ""
    ca: str = ""
    """PEM of the CA that signed the broker's certificate; empty is in the clear."""
    topic: Annotated[str, msgspec.Meta(pattern="^[^+#]+$")] = "spillover"
    """What every topic begins with."""
    discovery_prefix: str = "homeassistant"
    """Where Home Assistant looks for devices; empty announces nothing."""
    queue_size: Count = 256
    """Also how many messages wait for a broker that is away."""


SinkConfig = JsonLinesConfig | SqliteConfig | MqttConfig


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"
    json: bool = False


class EdgeConfig(Section, frozen=True):
    """The whole of `edge.yaml`."""

    camera: CameraConfig
    model: ModelConfig
    device_id: Name = "edge"
    mode: Mode = Mode.HYBRID
    deadline_s: Positive = 0.5
    """From capture to the frame's first result, whatever the link does."""
    deadline_margin_s: NotNegative = 0.02
    """The local answer is given this much before the deadline, so that it is out by then."""
    policy: PolicyConfig = PolicyConfig()
    uplink: UplinkConfig = UplinkConfig()
    redaction: RedactionConfig | None = None
    spool: SpoolConfig | None = None
    sinks: tuple[SinkConfig, ...] = (JsonLinesConfig(),)
    metrics_address: str = ""
    """`host:port` of the Prometheus endpoint; empty is none."""
    drain_timeout_s: NotNegative = 5.0
    """On stop, how long answers that are under way are waited for."""
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        """Refuse a deadline without time, and two writers of one file."""
        if self.deadline_margin_s >= self.deadline_s:
            raise ValueError("deadline_margin_s must be less than deadline_s")
        if self.metrics_address:
            check_host_port("metrics_address", self.metrics_address)
        paths = [sink.path for sink in self.sinks if not isinstance(sink, MqttConfig)]
        paths += [self.spool.path] if self.spool else []
        if len({_resolved(path) for path in paths}) < len(paths):
            raise ValueError(f"sinks and spool must not write to one path: {', '.join(paths)}")


def _resolved(path: str) -> str:
    return path if path == "-" else str(Path(path).expanduser().absolute())
