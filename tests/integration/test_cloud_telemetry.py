"""What a server says of its calls: the page against what its clients saw, the audit trail, the access log."""

import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from spillover.cloud.telemetry.busiest import SHOWN
from spillover.common.security.tokens import add_token
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier
from tests.support.pki import Pki, bearer, secure_channel
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

PICTURE = jpeg_of((0, 0, 255))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A tiny classifier."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA and a server."""
    return Pki(tmp_path_factory.mktemp("pki") / "ca")


class Server:
    """A server that asks for tokens, a connection to it, and its metrics page."""

    def __init__(self, running, pki, channel, tokens_file):
        self.channel = channel
        self._context = ssl.create_default_context(cafile=pki.ca)
        self._address = running.metrics_address
        self._tokens_file = tokens_file
        self.operator = self.token("alice", "operator")

    def token(self, name, role="device"):
        """The metadata of a new token."""
        return bearer(add_token(self._tokens_file, name, role, None))

    def page(self):
        """Every sample of the page, by name and labels."""
        request = urllib.request.Request(f"https://{self._address}/metrics", headers=dict(self.operator))
        with urllib.request.urlopen(request, timeout=CALL_S, context=self._context) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in families
                for sample in family.samples
            }


@pytest.fixture
def server(repository, pki, tmp_path):
    """A fresh one, so that its page counts this test alone."""
    tokens = tmp_path / "tokens.yaml"
    add_token(tokens, "somebody", "device", None)
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    with (
        serving(cloud_config(repository, metrics="127.0.0.1:0", security=security)) as running,
        secure_channel(running, pki.credentials()) as channel,
    ):
        yield Server(running, pki, channel, tokens)


def becomes(get, expected):
    """Wait within a limit until `get()` is `expected`: a call is counted when its client has its status."""
    end_s = time.monotonic() + CALL_S
    while (value := get()) != expected and time.monotonic() < end_s:
        time.sleep(0.01)
    assert value == expected


def trail_of(log):
    """The lines of the audit trail."""
    return [line for line in log if line.get("component") == "audit"]


def status_of(method, request, metadata=()):
    """How one call ends."""
    try:
        method(request, timeout=CALL_S, metadata=metadata)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def calls_on(page):
    """How many calls the page has, by method and status."""
    return {
        (dict(labels)["method"], dict(labels)["status"]): value
        for (name, labels), value in page.items()
        if name == "spillover_call_duration_seconds_count"
    }


def test_the_page_says_what_the_clients_saw(server):
    """Calls by method and status, refusals by cause, callers by name: as many as were made."""
    own, oip = pb_grpc.SpilloverStub(server.channel), oip_grpc.GRPCInferenceServiceStub(server.channel)
    camera = server.token("camera-1")
    unload = oip_pb.RepositoryModelUnloadRequest(model_name="colour")
    seen = Counter()
    for number in range(12):
        seen["Infer", status_of(own.Infer, request_for(PICTURE, sequence=number), camera)] += 1
    for metadata in ((), bearer("nobody~x"), camera):
        seen["RepositoryModelUnload", status_of(oip.RepositoryModelUnload, unload, metadata)] += 1
    seen["Infer", status_of(own.Infer, request_for(b"no picture"), camera)] += 1
    seen["Infer", status_of(own.Infer, request_for(PICTURE, "no-such-model"), camera)] += 1
    seen["ListModels", status_of(own.ListModels, pb.ListModelsRequest(), camera)] += 1
    becomes(lambda: calls_on(server.page()), seen)
    page = server.page()
    refused = {
        labels[0][1]: value
        for (name, labels), value in page.items()
        if name == "spillover_refused_calls_total" and value
    }
    assert refused == {"unauthenticated": 2, "forbidden": 1, "invalid": 1, "not_found": 1}
    assert page["spillover_busiest_calls", (("caller", "camera-1"),)] >= 15
    assert page["spillover_loaded_models", ()] == 1


def test_bytes_are_those_of_the_messages(server):
    """In both directions, by method, whole calls and messages of streams alike."""
    own, oip = pb_grpc.SpilloverStub(server.channel), oip_grpc.GRPCInferenceServiceStub(server.channel)
    camera = server.token("camera-1")
    requests = [request_for(PICTURE, sequence=number) for number in range(3)]
    replies = [own.Infer(request, timeout=CALL_S, metadata=camera) for request in requests]
    asked = [oip_pb.ModelInferRequest(model_name="no-such-model", id=str(number)) for number in range(4)]
    told = list(oip.ModelStreamInfer(iter(asked), timeout=CALL_S, metadata=camera))
    assert len(told) == 4
    stream = (("method", "ModelStreamInfer"),)
    becomes(lambda: calls_on(server.page()), {("Infer", "OK"): 3, ("ModelStreamInfer", "NOT_FOUND"): 4})
    page = server.page()
    for name, messages in (("received", requests), ("sent", replies)):
        labels = (("method", "Infer"),)
        assert page[f"spillover_call_{name}_bytes_total", labels] == sum(m.ByteSize() for m in messages)
    assert page["spillover_call_received_bytes_total", stream] == sum(m.ByteSize() for m in asked)


def test_a_stream_is_open_until_it_ends(server):
    """A watcher of the health is seen while it watches."""
    labels = (("method", "Watch"),)
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    next(watch)
    assert server.page()["spillover_open_streams", labels] == 1
    watch.cancel()
    becomes(lambda: server.page()["spillover_open_streams", labels], 0)


def test_what_is_in_flight_has_a_bound_on_the_page(server):
    """Nothing is in flight on an idle server, and the page says how much may be."""
    page = server.page()
    kinds = {labels: value for (name, labels), value in page.items() if name.endswith("in_flight_bytes")}
    assert set(kinds.values()) == {0}
    assert page["spillover_memory_limit_bytes", ()] > 0


def test_strangers_cannot_make_the_page_grow(repository):
    """300 device ids and as many methods that do not exist: as many series as after a few of them."""
    with serving(cloud_config(repository)) as running, stub_of(running) as stub:

        def flood(numbers):
            with grpc.insecure_channel(running.address) as channel:
                for number in numbers:
                    stub.Infer(request_for(PICTURE, device_id=f"device-{number}"), timeout=CALL_S)
                    invented = channel.unary_unary(f"/invented.Service{number}/Method{number}")
                    assert status_of(invented, b"") == "UNIMPLEMENTED"
            unknown = {"method": "unknown", "status": "UNIMPLEMENTED"}
            count = partial(
                running.metrics.registry.get_sample_value, "spillover_call_duration_seconds_count", unknown
            )
            becomes(count, numbers.stop)
            return sum(len(family.samples) for family in running.metrics.registry.collect())

        few = flood(range(2))
        assert flood(range(2, 300)) <= few + SHOWN


def test_who_loads_and_unloads_is_in_the_audit_trail(server):
    """Name, role and address of the operator; the server itself at its start."""
    oip = oip_grpc.GRPCInferenceServiceStub(server.channel)
    with capture_logs() as log:
        load = oip_pb.RepositoryModelLoadRequest(model_name="colour")
        oip.RepositoryModelLoad(load, timeout=CALL_S, metadata=server.operator)
        unload = oip_pb.RepositoryModelUnloadRequest(model_name="colour")
        oip.RepositoryModelUnload(unload, timeout=CALL_S, metadata=server.operator)
    [loaded] = [line for line in log if line["event"] == "loaded"]
    assert re.fullmatch(
        "[0-9a-f]{12}", loaded["sha256"]
    )  # devices' logs have it too, so that one can compare
    trail = trail_of(log)
    assert [(line["event"], line["by"], line["role"], line["model"]) for line in trail] == [
        ("load", "alice", "operator", "colour@1"),
        ("unload", "alice", "operator", "colour@1"),
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in trail)


def test_who_is_refused_by_identity_is_in_the_audit_trail(server):
    """Without a token and without the permission; a refusal of another kind is not."""
    own, oip = pb_grpc.SpilloverStub(server.channel), oip_grpc.GRPCInferenceServiceStub(server.channel)
    camera = server.token("camera-1")
    with capture_logs() as log:
        status_of(own.Infer, request_for(PICTURE))
        status_of(oip.RepositoryIndex, oip_pb.RepositoryIndexRequest(), camera)
        status_of(own.Infer, request_for(b"no picture"), camera)
        becomes(
            lambda: [(line["event"], line["cause"], line["method"], line["by"]) for line in trail_of(log)],
            [
                ("refused", "unauthenticated", "Infer", ""),
                ("refused", "forbidden", "RepositoryIndex", "camera-1"),
            ],
        )


def test_who_is_refused_the_metrics_page_is_in_the_audit_trail(server):
    """The page is guarded like the calls, and its refusals are told like theirs."""
    with capture_logs() as log:
        server.operator = server.token("camera-1")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            server.page()
        becomes(
            lambda: [(line["cause"], line["method"]) for line in trail_of(log)], [("forbidden", "/metrics")]
        )
    assert "camera-1" in trail_of(log)[0]["because"]


def test_the_access_log_has_a_line_for_each_call(repository, capfd):
    """Asked for, it says of every call what the client saw."""
    config = cloud_config(repository, log={"access": True})
    with serving(config) as running, stub_of(running) as stub:
        for picture in (PICTURE, b"no picture"):
            status_of(stub.Infer, request_for(picture))
    lines = [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if '"component":"access"' in line
    ]
    assert [(line["method"], line["payload"], line["status"], line["cause"]) for line in lines] == [
        ("Infer", "image", "OK", ""),
        ("Infer", "image", "INVALID_ARGUMENT", "invalid"),
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)
