"""The top-level keys of `edge.yaml`."""

import enum
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from spillover.common.config import Mistake, Section
from spillover.common.net.addresses import address_fault, is_loopback
from spillover.common.security.config import ListenerSecurity
from spillover.edge.config.camera import CameraConfig
from spillover.edge.config.events import EventsConfig
from spillover.edge.config.evidence import EvidenceConfig
from spillover.edge.config.health import HealthConfig
from spillover.edge.config.keeping import RedactionConfig, SpoolConfig
from spillover.edge.config.kinds import NameOrEmpty, NotNegative, Positive
from spillover.edge.config.model import ModelConfig
from spillover.edge.config.policy import PolicyConfig, TemporalConfig, TrackingConfig
from spillover.edge.config.sinks import (
    JsonLinesConfig,
    MqttConfig,
    OtelConfig,
    SinkConfig,
    SqliteConfig,
    WebhookConfig,
)
from spillover.edge.config.uplink import UplinkConfig


class Mode(enum.Enum):
    """Who answers."""

    EDGE_ONLY = "edge_only"
    """This device alone; nothing leaves it."""
    CLOUD_ONLY = "cloud_only"
    """The cloud for every frame it can answer in time, this device for the rest."""
    HYBRID = "hybrid"
    """The policy decides for each frame."""


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious entries that are written."""
    json: bool = False
    """Write each entry as one JSON object, for machines."""


class EdgeConfig(Section, frozen=True):
    """The whole of `edge.yaml`."""

    reads_environment: ClassVar[bool] = True

    model: ModelConfig
    """The model that answers every frame first."""
    camera: CameraConfig | None = None
    """Where frames come from. Either this or `cameras`."""
    cameras: tuple[CameraConfig, ...] = ()
    """Several cameras in place of one, each like `camera`; they share model, uplink, spool and sinks."""
    device_id: NameOrEmpty = ""
    """Name of this device for the cloud, MQTT topics and certificates; empty: the host's name."""
    mode: Mode = Mode.HYBRID
    """Who answers."""
    deadline_s: Positive = 0.5
    """Seconds from capture to a frame's first result, whatever the link does."""
    deadline_margin_s: NotNegative = 0.02
    """The local answer is given this many seconds before the deadline, so that a busy device is in time."""
    policy: PolicyConfig = PolicyConfig()
    """Which frames are sent in mode `hybrid`."""
    temporal: TemporalConfig | None = None
    """Correct a classifier's answers by the cloud's last one; null: show the edge's own answers."""
    tracking: TrackingConfig | None = TrackingConfig()
    """Detectors: show the cloud's boxes on the frames that follow, moved with the picture, and number the
    objects; null: show the edge's own boxes. Classifiers do without."""
    uplink: UplinkConfig = UplinkConfig()
    """How frames reach the cloud."""
    redaction: RedactionConfig | None = None
    """What is hidden in every picture before it leaves or is stored; null: nothing."""
    events: EventsConfig | None = None
    """What tracked objects do in all cameras' pictures: zones, lines, events; null: nothing is told."""
    evidence: EvidenceConfig | None = None
    """Which pictures are kept on this device; null: none."""
    spool: SpoolConfig | None = None
    """Where frames wait while the link is down; null: such frames get the local answer alone."""
    sinks: tuple[SinkConfig, ...] = (JsonLinesConfig(),)
    """Where results go; any number of sinks."""
    metrics_address: str = ""
    """`host:port` of the Prometheus endpoint, such as 127.0.0.1:9464; empty: none."""
    live_view: bool = False
    """Serve the live view, a page with pictures and results, at `metrics_address`."""
    security: ListenerSecurity = ListenerSecurity()
    """Who may see the pages at `metrics_address`; on the network they want encryption and a token."""
    health: HealthConfig = HealthConfig()
    """How the device looks after itself: heat, memory, voltage."""
    stop_timeout_s: Annotated[float, msgspec.Meta(ge=1)] = 20.0
    """Seconds that the whole stop may take, from calls in flight to the last result; what hangs is left."""
    log: LogConfig = LogConfig()
    """The log, on standard error."""

    def __post_init__(self) -> None:
        """Name the device by its host unless it has a name, and refuse what `checks` finds."""
        if not self.device_id:
            msgspec.structs.force_setattr(self, "device_id", as_device_id(socket.gethostname()))
        super().__post_init__()

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse no camera, cameras that cannot share a device, and what other keys do not go together."""
        return (
            self._cameras(),
            self._shares(),
            self._deadline(),
            self._addresses(),
            self._view(),
            self._results(),
            self._paths(),
            self._brokers(),
            self._twins(),
            self._tracks(),
            self._clips(),
            self._pictures(),
        )

    def _cameras(self) -> Iterator[Mistake]:
        if self.camera is None and not self.cameras:
            yield "camera", "is missing; it, or `cameras` for several, says where frames come from"
        if self.camera and self.cameras:
            yield "cameras", "and camera are both given; exactly one of them is needed"
        names = [one.camera_id for one in self.cameras]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield f"cameras[{index}].camera_id", f"{name!r} is the name of another camera too"
            if self.cameras[index].pace is not self.cameras[0].pace:
                yield f"cameras[{index}].pace", "must be the same for all cameras"

    def _shares(self) -> Iterator[Mistake]:
        own = [camera.policy for camera in self.all_cameras if camera.policy]
        if self.policy.max_error is not None and any(policy.chooses for policy in own):
            yield "policy.max_error", "holds for all cameras: none has send_share or threshold beside it"

    def _deadline(self) -> Iterator[Mistake]:
        if self.deadline_margin_s >= self.deadline_s:
            yield "deadline_margin_s", f"must be less than deadline_s, which is {self.deadline_s:g}"

    def _addresses(self) -> Iterator[Mistake]:
        if self.metrics_address and (fault := address_fault(self.metrics_address)):
            yield "metrics_address", fault
        elif self.metrics_address:
            yield from (("metrics_address", text) for text in self.security.openness(self.metrics_address))

    def _view(self) -> Iterator[Mistake]:
        if not self.live_view:
            return
        if not self.metrics_address:
            yield "live_view", "needs metrics_address, where the page is served, as in 127.0.0.1:9464"
        elif not (is_loopback(self.metrics_address) or self.security.proves_callers):
            yield (
                "live_view",
                f"{self.metrics_address} can be reached from the network, and pictures are not for all "
                "callers: set security.tokens_file, or metrics_address to 127.0.0.1:9464 and look from "
                "elsewhere through ssh -L 9464:127.0.0.1:9464",
            )

    def _results(self) -> Iterator[Mistake]:
        if not self.sinks:
            yield "sinks", "results would go nowhere; if they are to, write - {kind: jsonl, path: /dev/null}"
        elif not any(
            sink.results if isinstance(sink, WebhookConfig) else not isinstance(sink, OtelConfig)
            for sink in self.sinks
        ):
            yield (
                "sinks",
                "none of these takes results: set results of the webhook, or add - {kind: jsonl, ...}",
            )

    def _paths(self) -> Iterator[Mistake]:
        written: dict[str, str] = {}
        files = [
            (f"sinks[{index}].path", sink.path)
            for index, sink in enumerate(self.sinks)
            if isinstance(sink, JsonLinesConfig | SqliteConfig)
        ]
        files += [("spool.path", self.spool.path)] if self.spool else []
        files += [("health.file", self.health.file)] if self.health.file else []
        for key, path in files:
            if (place := _resolved(path)) is None:
                yield key, f"{path}: there is no such home folder"
                continue
            other = written.setdefault(place, key)
            if other != key:
                yield key, f"{path} is the path of {other} too; two of them must not write to one path"

    def _twins(self) -> Iterator[Mistake]:
        for index, sink in enumerate(self.sinks):
            if isinstance(sink, WebhookConfig | OtelConfig) and sink in self.sinks[:index]:
                yield f"sinks[{index}]", f"is the same {sink.__struct_config__.tag} as one above"

    def _brokers(self) -> Iterator[Mistake]:
        first: dict[tuple[str, int, str], int] = {}
        for index, sink in enumerate(self.sinks):
            if isinstance(sink, MqttConfig):
                other = first.setdefault((sink.host, sink.port, sink.topic), index)
                if other != index:
                    yield (
                        f"sinks[{index}].topic",
                        f"is that of sinks[{other}] too, at the same broker, which would end one connection "
                        "for the other: name another topic",
                    )

    def _clips(self) -> Iterator[Mistake]:
        if self.evidence and self.evidence.clip and not self.has_events:
            yield "evidence.clip", "needs `events`, of which the clips are"

    @property
    def has_events(self) -> bool:
        """Whether any camera tells what tracked objects do."""
        return bool(self.events or any(one.events for one in self.all_cameras))

    def _pictures(self) -> Iterator[Mistake]:
        if not (self.evidence and self.evidence.snapshots):
            for index, sink in enumerate(self.sinks):
                if isinstance(sink, MqttConfig) and sink.snapshots:
                    yield (
                        f"sinks[{index}].snapshots",
                        "needs `evidence.snapshots`, whose pictures it publishes",
                    )

    def _tracks(self) -> Iterator[Mistake]:
        if self.tracking is None and self.has_events:
            yield "tracking", "null gives no tracks, and `events` tell what tracked objects do"

    @property
    def all_cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras, at least one."""
        return self.cameras or ((self.camera,) if self.camera else ())

    @property
    def trace_share(self) -> float | None:
        """The share of frames of which the server is told to record traces; None: no sink takes traces."""
        return max((sink.share for sink in self.sinks if isinstance(sink, OtelConfig)), default=None)

    def key_of(self, camera: CameraConfig) -> str:
        """The key that `camera` stands at: `camera`, or `cameras[1]`."""
        return f"cameras[{self.cameras.index(camera)}]" if self.cameras else "camera"


def as_device_id(host: str) -> str:
    """A host's name with what a device's name may not have replaced by `-`."""
    allowed = re.sub(r"[^A-Za-z0-9._-]", "-", host).lstrip("._-")[:64]
    return allowed or "edge"


def _resolved(path: str) -> str | None:
    """The whole of `path`; None where it begins with the home of nobody."""
    try:
        return path if path == "-" else str(Path(path).expanduser().absolute())
    except RuntimeError:
        return None
