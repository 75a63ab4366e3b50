"""The pages: what is generated, and the few sentences around it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from spillover.cloud.config import CloudConfig
from spillover.common.errors import Cause
from spillover.common.model.exit import ExitInfo
from spillover.common.model.manifest import Manifest
from spillover.common.model.split import SplitPlan
from spillover.common.tasks import TASKS
from spillover.edge.config import (
    EdgeConfig,
    JsonLinesConfig,
    MqttConfig,
    OtelConfig,
    SqliteConfig,
    WebhookConfig,
)
from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.models.prepare.presets import PRESETS
from spillover.lab.pairs.replay.trace import MODELS, model_trace
from tests.support.reference import records
from tests.support.reference.commands import all_commands, exit_codes
from tests.support.reference.docstrings import first_paragraph, member_docs
from tests.support.reference.markdown import page, table
from tests.support.reference.metrics import cloud_metrics, edge_metrics, process_metrics
from tests.support.reference.structs import sections

_SINKS: Mapping[type[Any], str] = {
    JsonLinesConfig: "sinks.md#jsonl",
    SqliteConfig: "sinks.md#sqlite",
    MqttConfig: "sinks.md#mqtt",
    WebhookConfig: "sinks.md#webhook",
    OtelConfig: "sinks.md#otel",
}
STRUCTURES: tuple[type[Any], ...] = (
    EdgeConfig,
    CloudConfig,
    LoadConfig,
    Manifest,
    SplitPlan,
    ExitInfo,
    Record,
    *_SINKS,
)
"""What must have a docstring for each field."""

_NAME = "A name has letters, digits, `.`, `_` and `-`, and begins with a letter or a digit."

_EDGE = f"""
The configuration of `spillover edge -c edge.yaml`. `model.folder` is required, and a camera's `source`;
[examples/edge.min.yaml](../../examples/edge.min.yaml) has those two and nothing else,
[examples/edge.yaml](../../examples/edge.yaml) has every key. A key that does not exist is an error.
[Operations](../operations.md#reload-an-edge) says which keys a running edge follows.
{_NAME}"""

_CLOUD = """
The configuration of `spillover cloud -c cloud.yaml`. Nothing is required: without a file the defaults hold.
[examples/cloud.yaml](../../examples/cloud.yaml) has every key.
[Operations](../operations.md#reload-a-server) says which keys a running server follows."""

_LOAD = f"""
The configuration of `spillover lab loadtest -c load.yaml`; see [the guide](../guides/loadtest.md).
[examples/load.yaml](../../examples/load.yaml) has every key. {_NAME}"""

_MODEL = f"""
A model is a folder with `model.onnx` and `model.yaml`. `spillover lab import` writes both from a preset
(below); [the guide](../guides/models.md#a-classifier) has one to write by hand. `split.yaml` and `exit.yaml`
are written by the workbench and read by edge and cloud. {_NAME}"""

_METRICS = """
Both sides serve Prometheus metrics over HTTP at `/metrics`: the edge at `metrics_address`, the server at
`metrics`. Counters count from the start of the process. On the edge every captured frame ends once:
`spillover_edge_frames_captured_total` is the sum of `spillover_edge_frames_total` over `ending` and of
`spillover_edge_frames_dropped_total` over `reason`, plus the few frames in work.

On the server, callers cannot make the page grow: a method that does not exist is `unknown`, causes are those
below. A request inside of ModelStreamInfer counts as a call of it. There are no series `_created`."""

_RESULT = """
Every sink writes results in this format: one JSON object for each frame, and a second one, with the same
`frame_id` and `revision` 1, if the cloud's answer comes after the deadline. Times are in seconds, boxes in
pixels of the frame. [The policy's reference](policy.md#reasons) explains `decision.reason`."""

_EVENTS = """
Events stand between the results, one JSON object each: `event` (the kind, always the first key),
`at_unix_s`, and the fields below."""

_SQLITE = """
What a sink of kind [`sqlite`](sinks.md#sqlite) writes. `latest` has one row for each frame, its last
revision; `last_day` has those captured within 24 hours; `object_events` has each event of a tracked object
once, in its last phase. The database is in WAL mode, so it can be read while
the daemon runs:"""

_QUERY = 'sqlite3 results.db "select answered_by, count(*) from last_day group by 1"'

_SINK = """
Where results go; `sinks` in [edge.yaml](edge.yaml.md) is a list of these. Each sink has a queue and a thread,
so a slow one delays nothing else. All of them write [results and events](result.md) as JSON."""

_WEBHOOK = """
Each post is a JSON object, `{"type": "enter", "id": ..., "device_id": ..., "data": ...}`: the kind of the
event, or `result`; what it is about; and the [event or result](result.md) itself. `id` is the `event_id` of
an object's event in each of its phases, and the `frame_id` of a result in each revision: a receiver that
has shown it updates it. The evidence of a frame has the name of its file.

The headers are those of [Standard Webhooks](https://www.standardwebhooks.com), for which there are
libraries: `webhook-id` is the same when a post is repeated, and no other's; `webhook-timestamp` the Unix
time of sending; `webhook-signature` `v1,` and the base64 of the HMAC-SHA256 of
`webhook-id.webhook-timestamp.body`. Check it over the bytes as they came, and refuse timestamps of more
than a few minutes ago:

    mac = hmac.digest(secret, f"{id}.{timestamp}.".encode() + body, "sha256")
    good = hmac.compare_digest("v1," + base64.b64encode(mac).decode(), signature)

An answer of 2xx takes a post. After 5xx, 408, 425 or 429, or none within `timeout_s`, it is posted again in
1 s, later each time up to 30 s, or when `Retry-After` says; 20 posts wait in the sink and `queue_size`
behind it, then the oldest are dropped (`queue full`). What the server answers otherwise, redirects too, it
would answer again: that post is lost (`refused`). `spillover_edge_events_dropped_total` and
`spillover_edge_results_dropped_total` count both. Log and status have the host of the URL alone."""

_MQTT = """
Everything is published with QoS 1 below `topic`/`device_id`; TOPIC, DEVICE and CAMERA stand for `mqtt.topic`,
`device_id` and `camera_id`. `pip install '.[edge,mqtt]'` in a checkout brings the client.

The edge connects again within 5 s of the broker's return (8 s, if the network swallows what is sent). What is
retained is then sent first, as it is at that moment, and again whenever Home Assistant says `online` on
`homeassistant/status`. Meanwhile `queue_size` results and events wait in memory. Beyond that the oldest are
dropped, and counted in `spillover_edge_results_dropped_total` and `spillover_edge_events_dropped_total` with
the reason `queue full`. The log says why the broker cannot be used, and when it works again. A packet of more
than 4096 bytes from the broker ends the connection unread; birth messages are not heard from then on."""

_HOME_ASSISTANT = """
Home Assistant finds each camera by these retained messages, which announce three sensors and a problem
indicator; with `snapshots` a camera that shows the newest picture; for each zone whether somebody is
inside, how many, and how many of each class where `classes` are named; for each line how often it was
crossed. Characters other than letters, digits, `_` and `-` become `_` in their topics. A zone that is taken
out of edge.yaml stays in Home Assistant until its messages are deleted, as with `mosquitto_pub -r -n -t
TOPIC`:"""


def _load() -> str:
    rows = (
        (f"`{name}`", f"{m.title}: {m.meaning}" if m.meaning else m.title, m.unit, m.better.value)
        for name, m in MEASURES.items()
    )
    measures = table(("measure", "meaning", "unit", "better"), rows)
    return page(
        "load.yaml",
        _LOAD,
        sections(LoadConfig, "Top level"),
        "## Measures",
        "What a goal's `measure` may name.",
        measures,
        "## Modelled traces",
        "Mean and percentiles of the rate, the same in both directions, over the ten minutes after which a "
        "trace begins again.",
        table(("trace", "what", "mean Mbit/s", "p5", "p50", "p95", "mean round trip, ms"), _traces()),
    )


def _traces() -> Iterator[tuple[str, ...]]:
    for name, model in MODELS.items():
        steps = model_trace(name).steps[:-1]  # the last one marks the end; all others are equally long
        mbit_per_s = np.array([step.rate_bytes_per_s for step in steps]) * 8e-6
        rates = (mbit_per_s.mean(), *np.percentile(mbit_per_s, (5, 50, 95)))
        rtt_ms = np.mean([step.rtt_s for step in steps]) * 1e3
        yield f"`{name}`", first_paragraph(model), *(f"{rate:.1f}" for rate in rates), f"{rtt_ms:.0f}"


def _causes() -> str:
    docs = member_docs(Cause)
    return table(("cause", "a call is refused because of"), ((f"`{c}`", docs[c.name]) for c in Cause))


def _decoders() -> str:
    rows = (
        (f"`{name}`", task.name, first_paragraph(head.decode))
        for task in TASKS.values()
        for name, head in task.heads.items()
    )
    return table(("decoder", "task", "the output"), rows)


def _model() -> str:
    rows = ((f"`{name}`", p.task, f"`{p.decoder}`", p.description) for name, p in PRESETS.items())
    return page(
        "model.yaml",
        _MODEL,
        sections(Manifest, "Manifest"),
        "## Decoders",
        "What `output.decoder` may say, and what it takes the first output for (without its batch axis).",
        _decoders(),
        "## Presets",
        "For `spillover lab import --preset`; without it the one that fits what the network gives is taken.",
        table(("preset", "task", "decoder", "for"), rows),
        sections(SplitPlan, "split.yaml"),
        sections(ExitInfo, "exit.yaml"),
    )


def _sinks() -> str:
    return page(
        "Sinks",
        _SINK,
        *(sections(kind, link.rpartition("#")[2]) for kind, link in _SINKS.items()),
        "## Posts of a webhook",
        _WEBHOOK,
        "## MQTT topics",
        _MQTT,
        records.topics(),
        _HOME_ASSISTANT,
        records.home_assistant_topics(),
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "edge.yaml.md": lambda: page("edge.yaml", _EDGE, sections(EdgeConfig, "Top level", _SINKS)),
    "cloud.yaml.md": lambda: page("cloud.yaml", _CLOUD, sections(CloudConfig, "Top level")),
    "load.yaml.md": _load,
    "model.yaml.md": _model,
    "metrics.md": lambda: page(
        "Metrics",
        _METRICS,
        "## Edge",
        edge_metrics(),
        "## Cloud",
        cloud_metrics(),
        "### Causes",
        _causes(),
        "## Both",
        process_metrics(),
    ),
    "result.md": lambda: page(
        "Results and events", _RESULT, sections(Record, "Result"), "## Events", _EVENTS, records.events()
    ),
    "sqlite.md": lambda: page("SQLite tables", _SQLITE, f"    {_QUERY}", records.sqlite_tables()),
    "sinks.md": _sinks,
    "cli.md": lambda: page("Commands", "## Exit codes", exit_codes(), all_commands()),
}
"""Name of each page in docs/reference, and what makes it."""
