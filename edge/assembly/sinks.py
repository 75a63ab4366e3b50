"""Builds the sinks from the configuration, anew after a reload. It imports only libraries that are needed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.extras import missing_extra
from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.config import (
    DecisionDetail,
    EdgeConfig,
    JsonLinesConfig,
    MqttConfig,
    OtelConfig,
    SinkConfig,
    SqliteConfig,
    WebhookConfig,
)
from spillover.edge.results.delivery import Event
from spillover.edge.runtime.queues import WhenFull
from spillover.edge.sinks import otel, webhook
from spillover.edge.sinks.discovery import AnnouncedCamera, announced
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.outlet import Outlet
from spillover.edge.sinks.outlets import Outlets
from spillover.edge.sinks.record import record_encoder
from spillover.edge.sinks.sink import Sink

_log = get_logger("sink")

OnDropAt = Callable[[str, str], None]
"""Gets a sink's name (`0:jsonl`) and a reason."""


class SinkBuilder:
    """Builds sinks, for records with these labels; `on_drop` and `on_event_drop` hear what one has lost."""

    def __init__(self, labels: Sequence[str], on_drop: OnDropAt, on_event_drop: OnDropAt) -> None:
        self._labels = labels
        self._on_drop = on_drop
        self._on_event_drop = on_event_drop

    def build(self, config: EdgeConfig) -> list[Outlet]:
        """An outlet for each sink of `config`.

        Raises:
            ConfigError: a file cannot be opened, or a sink's library is not installed.
        """
        with ExitStack() as opened:
            built = self._outlets(config, {}, opened)
            opened.pop_all()
        return built

    def prepare(
        self, outlets: Outlets, before: EdgeConfig, wanted: EdgeConfig, opened: ExitStack
    ) -> Callable[[], bool]:
        """Get ready to go on with other sinks; what is new is opened, and on `opened`.

        A sink whose file or broker stays keeps its outlet, and with it all that waits there: it opens its
        file anew, or takes its new settings over.

        Returns:
            What does it; false when it is too late, because the stop has begun.

        Raises:
            ConfigError: as at the start; nothing has changed.
        """
        settings = dict(zip(outlets.current, before.sinks, strict=True))
        running = {_home(sink): outlet for outlet, sink in settings.items()}
        next_ones = self._outlets(wanted, running, opened)
        changed = [
            (outlet, settings[outlet], sink)
            for outlet, sink in zip(next_ones, wanted.sinks, strict=True)
            if outlet in settings
        ]
        for index, (outlet, sink) in enumerate(zip(next_ones, wanted.sinks, strict=True)):
            if isinstance(sink, MqttConfig) and sink != settings.get(outlet, sink):
                with _numbered(index):
                    self._make(sink, wanted).close()  # does it find its files?

        def go_on() -> bool:
            if not outlets.change(next_ones):
                return False
            for outlet, old, sink in changed:
                self._settle(outlet, (before, old), (wanted, sink))
            return True

        return go_on

    def _outlets(
        self, config: EdgeConfig, running: Mapping[tuple[object, ...], Outlet], opened: ExitStack
    ) -> list[Outlet]:
        """An outlet for each sink of `config`; those that run already are among them."""
        taken = {outlet.name.partition(":")[0] for outlet in running.values()}
        numbers = (str(number) for number in count() if str(number) not in taken)
        return [
            running.get(_home(sink)) or self._outlet(index, next(numbers), config, opened)
            for index, sink in enumerate(config.sinks)
        ]

    def _outlet(self, index: int, number: str, config: EdgeConfig, opened: ExitStack) -> Outlet:
        sink = config.sinks[index]
        name = f"{number}:{sink.__struct_config__.tag}"
        with _numbered(index):
            built = self._make(sink, config)
        opened.callback(built.close)
        is_remote = isinstance(sink, MqttConfig | WebhookConfig | OtelConfig)
        return Outlet(
            name,
            built,
            sink.queue_size,
            partial(self._on_drop, name),
            partial(self._on_event_drop, name),
            WhenFull.DROP_OLDEST if is_remote else WhenFull.DROP_NEWEST,
            partial(_takes, sink),
            keeps=not isinstance(sink, OtelConfig),
        )

    def _settle(
        self, outlet: Outlet, running: tuple[EdgeConfig, SinkConfig], wanted: tuple[EdgeConfig, SinkConfig]
    ) -> None:
        (before, old), (config, sink) = running, wanted
        announces = isinstance(sink, MqttConfig) and self._cameras(before) != self._cameras(config)
        if old == sink and not announces:
            outlet.reopen()
            return

        def make() -> Sink:
            try:
                return self._make(sink, config)
            except ConfigError as error:
                _log.error("sink keeps its settings", sink=outlet.name, error=str(error))
                return self._make(old, config)

        outlet.replace(make, sink.queue_size, carry=isinstance(sink, MqttConfig))

    def _make(self, sink: SinkConfig, config: EdgeConfig) -> Sink:
        if isinstance(sink, OtelConfig):
            return otel.OtelSink(sink, config.device_id)
        encode = record_encoder(self._labels, inputs=sink.decision is DecisionDetail.FULL)
        match sink:
            case JsonLinesConfig():
                return JsonLinesSink(
                    sink.path,
                    encode,
                    events=sink.events,
                    rotate_bytes=int(sink.rotate_mb * 1e6),
                    rotate_keep=sink.rotate_keep,
                )
            case SqliteConfig():
                from spillover.edge.sinks.sqlite import SqliteSink

                return SqliteSink(sink.path, encode, sink.keep_days, int(sink.max_mb * 1e6))
            case MqttConfig():
                pictures = Path(config.evidence.folder).expanduser() if config.evidence else None
                try:
                    from spillover.edge.sinks.mqtt import MqttSink
                except ModuleNotFoundError as error:
                    raise missing_extra(error, "mqtt", "sinks: kind mqtt") from error

                return MqttSink(sink, config.device_id, self._cameras(config), encode, pictures=pictures)
            case WebhookConfig():
                return webhook.WebhookSink(sink, config.device_id, encode)

    def _cameras(self, config: EdgeConfig) -> list[AnnouncedCamera]:
        """What MQTT sinks announce."""
        return [
            announced(camera.camera_id, camera.events or config.events, self._labels)
            for camera in config.all_cameras
        ]


@contextmanager
def _numbered(index: int) -> Iterator[None]:
    """Say in errors which of the sinks it is."""
    try:
        yield
    except ConfigError as error:
        text = f"sinks[{index}]: {str(error).removeprefix('sinks: ')}"
        raise type(error)(text) from error


def _takes(sink: SinkConfig, item: Result | Event) -> bool:
    if isinstance(sink, WebhookConfig):
        return webhook.takes(sink, item)
    return not isinstance(sink, OtelConfig) or otel.takes(sink, item)


def _home(sink: SinkConfig) -> tuple[object, ...]:
    """Where results go. Two sinks of one home would be in each other's way."""
    if isinstance(sink, MqttConfig):
        return "mqtt", sink.host, sink.port, sink.topic
    if isinstance(sink, WebhookConfig):  # whose queue is for what it takes: with other keys it is another one
        return "webhook", sink
    if isinstance(sink, OtelConfig):
        return "otel", sink
    return sink.__struct_config__.tag, sink.path
