"""From configuration to sinks. A sink's library is imported only where that sink is configured."""

from collections.abc import Callable, Sequence
from functools import partial

from common.errors import ConfigError
from edge.config import EdgeConfig, JsonLinesConfig, MqttConfig, SinkConfig, SqliteConfig
from edge.sinks.base import Sink
from edge.sinks.jsonl import JsonLinesSink
from edge.sinks.outlet import Outlet
from edge.sinks.record import record_encoder


def build_outlets(
    config: EdgeConfig, labels: Sequence[str], on_drop: Callable[[str, str], None]
) -> list[Outlet]:
    """An outlet for each configured sink; `on_drop` gets its name (`0:jsonl`) and a reason.

    Raises:
        ConfigError: a file cannot be opened, or a sink's library is not installed.
    """
    return [
        Outlet(
            _build(sink, config, labels),
            sink.queue_size,
            partial(on_drop, f"{index}:{sink.__struct_config__.tag}"),
        )
        for index, sink in enumerate(config.sinks)
    ]


def _build(sink: SinkConfig, config: EdgeConfig, labels: Sequence[str]) -> Sink:
    encode = record_encoder(labels)
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
            from edge.sinks.sqlite import SqliteSink

            return SqliteSink(sink.path, encode, sink.keep_days)
        case MqttConfig():
            try:
                from edge.sinks.mqtt import MqttSink
            except ModuleNotFoundError as error:
                raise ConfigError(
                    f"sinks: kind mqtt needs `{error.name}`; `pip install 'spillover[mqtt]'` brings it"
                ) from error

            return MqttSink(sink, config.device_id, config.camera.camera_id, encode)
