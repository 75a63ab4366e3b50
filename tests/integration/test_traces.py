"""Traces: one of a frame on both sides, in a real collector; one that is away costs nothing but traces."""

import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.traces import TRACE_KEY, part_of, read_trace
from spillover.common.types import AnsweredBy, Timings
from spillover.edge.config import EdgeConfig, OtelConfig, UplinkConfig
from spillover.edge.daemon import Daemon
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.queues import WhenFull
from spillover.edge.sinks.otel import OtelSink, spans_of, takes
from spillover.edge.sinks.outlet import Outlet
from spillover.lab.records import read_records
from tests.support.collector import span_collector
from tests.support.edge_values import frame, result
from tests.support.models import colour_classifier
from tests.support.reloaded_edge import Site
from tests.support.scripted_cloud import PATIENCE_S, answers, no_server_address, scripted_cloud
from tests.support.serving import cloud_config, eventually, jpeg_of, request_for, serving, stub_of
from tests.support.uplinks import build_uplink, send

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOBODY = "http://" + "127.0.0.1:1"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A tiny classifier, for both sides."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


def edge_config(folder: Path, repository: Path, address: str, endpoint: str, frames: int) -> EdgeConfig:
    """An edge that sends pictures, and traces each of them."""
    (folder / "pictures").mkdir()
    for index in range(frames):
        cv2.imwrite(str(folder / "pictures" / f"{index}.png"), np.full((48, 64, 3), 40 * index, np.uint8))
    keys = {
        "mode": "cloud_only",
        "camera": {"source": str(folder / "pictures")},
        "model": {"folder": str(repository / "colour" / "1"), "session": {"threads": 1}},
        "uplink": {"address": address},
        "sinks": [
            {"kind": "jsonl", "path": str(folder / "out.jsonl")},
            {"kind": "otel", "endpoint": endpoint, "share": 1.0, "queue_size": 1},
        ],
        "deadline_s": PATIENCE_S,
    }
    return msgspec.convert(keys, EdgeConfig)


def test_a_frame_is_one_trace_on_both_sides(tmp_path, repository, capfd):
    """The edge's spans and the server's have one trace id and hang together; the access log names it."""
    with span_collector() as collector:
        config = cloud_config(repository, traces={"endpoint": collector.endpoint}, log={"access": True})
        with serving(config) as server:
            Daemon(edge_config(tmp_path, repository, server.address, collector.endpoint, 1)).run()
        (record,) = read_records(tmp_path / "out.jsonl")
        edge = {span.name: span for span in collector.spans["spillover-edge"]}
        cloud = {span.name: span for span in collector.spans["spillover-cloud"]}
    assert record.answered_by == "cloud"
    trace_ids = {span.trace_id.hex() for span in (*edge.values(), *cloud.values())}
    assert trace_ids == {part_of(record.frame_id, "frame", 1.0).trace_hex}
    here = {"capture", "queue", "preprocess", "infer", "decode", "encode"}
    there = {"server decode", "server queue", "server infer"}
    assert set(edge) - {"server queue", "queue"} == (here | there | {"frame", "call"}) - {
        "server queue",
        "queue",
    }
    assert set(cloud) - {"queue"} == {"Infer", "decode", "infer"}
    assert not edge["frame"].parent_span_id
    for name, span in edge.items():
        if name != "frame":
            assert span.parent_span_id == edge["call" if name in there else "frame"].span_id
        assert edge["frame"].start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= edge["frame"].end_time_unix_nano + 1000  # rounding of floats
    assert cloud["Infer"].parent_span_id == edge["call"].span_id
    assert {cloud[name].parent_span_id for name in ("decode", "infer")} == {cloud["Infer"].span_id}
    infer = edge["infer"].end_time_unix_nano - edge["infer"].start_time_unix_nano
    assert infer == pytest.approx(1e9 * record.timings.infer_s, abs=2000)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"access"' in line]
    assert {line["trace_id"] for line in lines if line["method"] == "Infer"} == trace_ids


def test_a_late_answer_is_a_span_that_links_to_the_frames():
    """It has the call, of which the server was told, and not what the first result has said already."""
    with span_collector() as collector:
        sink = OtelSink(OtelConfig(endpoint=collector.endpoint, share=1.0), "pole-7")
        timings = Timings(infer_s=0.01, encode_s=0.01, network_s=0.1, server_infer_s=0.1, total_s=9.0)
        late = replace(result(), revision=1, answered_by=AnsweredBy.CLOUD, timings=timings)
        sink.write(late)
        sink.flush()
        sink.close()
        spans = {span.name: span for span in collector.spans["spillover-edge"]}
    assert set(spans) == {"late answer", "encode", "call", "server infer"}
    assert spans["late answer"].links[0].span_id.hex() == f"{part_of('f', 'frame', 1.0).span_id:016x}"
    assert spans["call"].span_id.hex() == f"{part_of('f', 'call', 0.0).span_id:016x}"
    waited = {pair.key: pair.value for pair in spans["late answer"].attributes}["spillover.waited_s"]
    assert waited.double_value == pytest.approx(8.8)


def test_the_share_is_drawn_by_the_frames_id_and_some_results_are_always_traced():
    """The same frames wherever it is asked, about as many as the share says; events never."""
    config = OtelConfig(endpoint=NOBODY, share=0.1, always=("degraded", "revision"))
    names = [f"cam-5f0c2a9be1d4-{number}" for number in range(4000)]
    drawn = [name for name in names if takes(config, result(name))]
    assert len(drawn) == pytest.approx(400, abs=80)  # four standard deviations
    assert drawn == [name for name in names if part_of(name, "call", 0.1).is_sampled]
    none = OtelConfig(endpoint=NOBODY, share=0.0, always=("degraded", "revision"))
    assert not takes(none, result())
    assert takes(none, replace(result(), revision=1))
    assert takes(none, replace(result(), answered_by=AnsweredBy.EDGE_DEGRADED))
    assert not takes(OtelConfig(endpoint=NOBODY), Event(EventKind.STARTED, 1.7e9))
    assert [span.name for span in spans_of(result(), 0.1)] == ["frame", "infer"]


def test_a_collector_that_is_away_costs_traces_alone(tmp_path, repository):
    """No result is lost on either side; what is not sent is counted on both."""
    away = f"http://{no_server_address()}"
    with serving(cloud_config(repository, traces={"endpoint": away}, stop_timeout_s=4.0)) as server:
        daemon = Daemon(edge_config(tmp_path, repository, server.address, away, 6))
        with capture_logs() as logs:
            daemon.run()
        assert any("UNAVAILABLE" in str(entry.get("error")) for entry in logs)
        records = read_records(tmp_path / "out.jsonl")
        assert [record.answered_by for record in records] == ["cloud"] * 6
        registry = server.metrics.registry

        def lost() -> float:
            reasons = ("queue full", "not sent")
            name = "spillover_traces_dropped_total"
            return sum(registry.get_sample_value(name, {"reason": one}) or 0 for one in reasons)

        assert eventually(lambda: lost() > 0)
    dropped = daemon.metrics.summary()
    assert sum(n for key, n in dropped.items() if key.startswith("results_dropped") and "otel" in key) == 6


def test_what_waits_for_a_collector_is_bounded_and_stores_nothing():
    """The queue gives up its oldest, and nobody waits for it."""
    lost: list[str] = []
    config = OtelConfig(endpoint=f"http://{no_server_address()}", share=1.0)
    sink = OtelSink(config, "pole-7")
    outlet = Outlet("1:otel", sink, 2, lost.append, when_full=WhenFull.DROP_OLDEST, keeps=False)
    acks = [DeliveryAck(1) for _ in range(5)]
    for ack in acks:
        outlet.put(result(), ack)
    assert lost == ["queue full"] * 3
    assert [ack.wait(0) for ack in acks] == [False] * 5
    assert not outlet.lost_everything
    assert outlet.wait_for_room(0)
    outlet.close_sink()


def test_only_an_edge_that_traces_says_so():
    """Without a share no header; with one the frame's own, recorded or not as it is drawn."""
    seen = []

    def behave(request, context):
        seen.append([value for key, value in context.invocation_metadata() if key == TRACE_KEY])
        return answers(request, context)

    with scripted_cloud(behave) as cloud:
        uplink = build_uplink(UplinkConfig(address=cloud.address))
        for share in (None, 1.0, 0.0, None):
            uplink.trace(share)
            send(uplink, frame(0, time.monotonic(), (48, 64)), PATIENCE_S).outcome()
        uplink.stop(time.monotonic() + PATIENCE_S)
        (name,) = {request.frame_id for request in cloud.requests}
    of_frame = part_of(name, "call", 1.0)
    assert seen == [[], [of_frame.header()], [of_frame._replace(is_sampled=False).header()], []]


def test_a_reload_begins_to_tell_of_traces(tmp_path):
    """A sink that comes with a reload is all that it takes."""
    site, seen = Site(tmp_path), []

    def behave(request, context):
        seen.append(TRACE_KEY in dict(context.invocation_metadata()))
        return answers(request, context)

    with scripted_cloud(behave) as cloud:
        sections = {"mode": "cloud_only", "uplink": {"address": cloud.address}, "deadline_s": PATIENCE_S}
        with site.running(**sections):
            site.until(lambda: bool(seen))
            assert not any(seen)
            traces = {"kind": "otel", "endpoint": NOBODY, "share": 0.0, "always": []}
            site.write(**sections, sinks=[site.sink(site.lines), traces])
            site.hang_up()
            site.until(lambda: seen[-1])


def test_states_are_known_to_a_sink_that_does_not_take_them():
    """A sink that a reload adds learns them from the first one, whatever that is."""
    sink = OtelSink(OtelConfig(endpoint=NOBODY), "pole-7")
    outlet = Outlet("0:otel", sink, 2, [].append, takes=lambda _: False, keeps=False)
    state = Event(EventKind.CAMERA_STATE, 1.7e9, {"camera_id": "cam", "state": "ok"})
    outlet.put(state, DeliveryAck(1))
    assert outlet.camera_states == [state]
    outlet.close_sink()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        GOOD + "-more",
        GOOD.upper(),
        "ff" + GOOD[2:],
        GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        GOOD.replace("b7ad6b7169203331", "0" * 16),
        GOOD + "\n",
    ],
)
def test_a_header_that_is_none_is_no_trace(header):
    """W3C Trace Context, 3.2.2: what is malformed, all zero, or of version ff is ignored."""
    assert read_trace([(TRACE_KEY, header)]) is None


def test_a_good_header_is_read_and_two_are_none():
    """Later versions may say more behind; the flag of recording is the last bit."""
    read = read_trace([("other", "x"), (TRACE_KEY, GOOD)])
    assert read is not None
    assert (read.header(), read.is_sampled) == (GOOD, True)
    assert read_trace([(TRACE_KEY, "01" + GOOD[2:] + "-more")]) == read
    assert read_trace([(TRACE_KEY, GOOD[:-2] + "fe")]) == read._replace(is_sampled=False)
    assert read_trace([(TRACE_KEY, GOOD)] * 2) is None


def test_a_caller_with_a_bad_header_is_answered_and_leaves_no_span(repository):
    """Nothing of it reaches collector or log; a caller that does not record leaves none either."""
    with span_collector() as collector, capture_logs() as logs:
        with (
            serving(cloud_config(repository, traces={"endpoint": collector.endpoint})) as server,
            stub_of(server) as stub,
        ):
            for header in ("rubbish" * 100, GOOD[:-1] + "0", GOOD):
                stub.Infer(
                    request_for(jpeg_of((0, 0, 255))), timeout=PATIENCE_S, metadata=[(TRACE_KEY, header)]
                )
        spans = collector.spans["spillover-cloud"]
    assert [span.parent_span_id.hex() for span in spans if span.name == "Infer"] == ["b7ad6b7169203331"]
    assert not [entry for entry in logs if entry["log_level"] in {"warning", "error"}]
