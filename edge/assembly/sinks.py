"""Builds the sinks from the configuration. It imports a sink's library only if that sink is configured."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from spillover.common.errors import ConfigError
from spillover.edge.config import (
    DecisionDetail,
    EdgeConfig,
    JsonLinesConfig,
    MqttConfig,
    SinkConfig,
    SqliteConfig,
)
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.outlets import Outlet, Sink
from spillover.edge.sinks.record import record_encoder

OnDropAt = Callable[[str, str], None]
"""Gets a sink's name (`0:jsonl`) and a reason."""


def build_outlets(
    config: EdgeConfig, labels: Sequence[str], on_drop: OnDropAt, on_event_drop: OnDropAt
) -> list[Outlet]:
    """An outlet for each configured sink; it tells `on_drop` and `on_event_drop` what it has lost.

    Raises:
        ConfigError: a file cannot be opened, or a sink's library is not installed.
    """
    outlets = []
    with ExitStack() as opened:
        for name, sink in _named(config.sinks):
            with _numbered(name):
                built = _build(sink, config, labels)
            opened.callback(built.close)
            outlets.append(
                Outlet(name, built, sink.queue_size, partial(on_drop, name), partial(on_event_drop, name))
            )
        opened.pop_all()
    return outlets


def _named(sinks: Sequence[SinkConfig]) -> list[tuple[str, SinkConfig]]:
    return [(f"{index}:{sink.__struct_config__.tag}", sink) for index, sink in enumerate(sinks)]


@contextmanager
def _numbered(name: str) -> Iterator[None]:
    """Say in errors which of the sinks it is."""
    try:
        yield
    except ConfigError as error:
        number = name.partition(":")[0]
        raise ConfigError(f"sinks[{number}]: {str(error).removeprefix('sinks: ')}") from error


def _build(sink: SinkConfig, config: EdgeConfig, labels: Sequence[str]) -> Sink:
    encode = record_encoder(labels, inputs=sink.decision is DecisionDetail.FULL)
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
            try:
                from spillover.edge.sinks.mqtt import MqttSink
            except ModuleNotFoundError as error:
                raise ConfigError(
                    f"sinks: kind mqtt needs `{error.name}`; `pip install 'spillover[mqtt]'` brings it"
                ) from error

            cameras = [camera.camera_id for camera in config.all_cameras]
            return MqttSink(sink, config.device_id, cameras, encode)
