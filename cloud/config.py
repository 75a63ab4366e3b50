"""What `cloud.yaml` may say. Every key is explained in examples/cloud.yaml."""

import enum
from pathlib import Path
from typing import Annotated

import msgspec

from common.config import Section
from common.home import models_home
from common.model.session import SessionConfig

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Address = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$")]


class ModelsConfig(Section, frozen=True):
    """Which models are served, and from where."""

    repository: str = ""
    """The folder of `<name>/<version>/model.onnx`; empty is where `spillover lab prepare` puts models."""
    load: tuple[str, ...] = ()
    """`name` (its newest version) or `name@version`; empty loads the newest version of every model."""
    default: str = ""
    """Answers requests that name no model; empty: the first of `load`, or the only one there is."""

    @property
    def repository_path(self) -> Path:
        """The repository's folder, with `~` and the default resolved."""
        return Path(self.repository).expanduser() if self.repository else models_home()


class BatchingConfig(Section, frozen=True):
    """How requests of one model are brought together."""

    max_batch_size: PositiveInt = 8
    """Most rows in one run of the network; 1 runs every request by itself."""
    max_queue_delay_s: Seconds = 0.0
    """How long an idle instance waits for more rows before it runs what is there; 0 never waits."""
    preferred_sizes: tuple[PositiveInt, ...] = ()
    """Batch sizes at which an instance stops waiting early."""
    instances: PositiveInt = 1
    """Batches of one model that may run at the same time."""
    max_pending: PositiveInt = 64
    """Requests of one model admitted and not yet answered; one more is refused."""


class ExecutorConfig(Section, frozen=True):
    """The threads that decode pictures and predictions."""

    workers: NonNegativeInt = 0
    """Number of threads; 0 is one a core."""


class LimitsConfig(Section, frozen=True):
    """What one request, and one device, may cost."""

    max_message_bytes: PositiveInt = 16 * 1024 * 1024
    max_pixels: PositiveInt = 50_000_000
    device_rate_per_s: Seconds = 0.0
    """Requests a second that one device may send on average; 0 is no limit."""
    device_burst: PositiveInt = 32
    """Requests that a device may send at once after a pause."""


class LogLevel(enum.Enum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: LogLevel = LogLevel.INFO
    json: bool = False


class CloudConfig(Section, frozen=True):
    """The content of `cloud.yaml`."""

    listen: Address = "127.0.0.1:50051"
    models: ModelsConfig = ModelsConfig()
    session: SessionConfig = SessionConfig()
    batching: BatchingConfig = BatchingConfig()
    batching_of: dict[str, BatchingConfig] = msgspec.field(default_factory=dict)
    """Replaces `batching` for the models named."""
    executor: ExecutorConfig = ExecutorConfig()
    limits: LimitsConfig = LimitsConfig()
    metrics: Address | None = "127.0.0.1:9464"
    drain_timeout_s: PositiveSeconds = 10.0
    log: LogConfig = LogConfig()
