"""The webhook sink against a real web server: signed, repeated, refused, slow, away, and over TLS."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from spillover.common.errors import ConfigError
from spillover.edge.config import EdgeConfig, WebhookConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.webhook import check_webhook
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.queues import WhenFull
from spillover.edge.sinks.outlet import Outlet
from spillover.edge.sinks.record import record_encoder
from spillover.edge.sinks.webhook import LONGEST_PAUSE_S, WINDOW, WebhookSink, signature, takes
from tests.support.edge_values import result
from tests.support.pki import Pki
from tests.support.tracked import until
from tests.support.web_server import SILENT, WebServer, web_server

SECRET = "correct horse battery staple"
HIDDEN_PATH = "/services/T0/B0/very-secret?token=abc"


class Bench:
    """A sink on a clock of the test."""

    def __init__(
        self, folder: Path, address: str, scheme: str = "http", timeout_s: float = 30.0, **keys: Any
    ) -> None:
        self.secret = folder / "secret"
        self.secret.write_text(f"{SECRET}\n")
        self.secret.chmod(0o600)
        self.now_s = 0.0
        url = f"{scheme}://{address}{HIDDEN_PATH}"
        self.config = WebhookConfig(url=url, secret_file=str(self.secret), timeout_s=timeout_s, **keys)
        encode = record_encoder(("cat",))
        self.sink = WebhookSink(self.config, "pole-7", encode, lambda: self.now_s, lambda: 1.7e9)


def happened(phase: str = "provisional") -> Event:
    """An event of an object."""
    fields = {
        "camera_id": "cam",
        "event_id": "cam-b-1:enter:7:door",
        "phase": phase,
        "snapshot": "cam-b-1.jpg",
    }
    return Event(EventKind.ENTER, 1.7e9, fields)


def bodies(server: WebServer) -> list[Any]:
    """What was posted."""
    return [json.loads(one.body) for one in server.posts]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that its libraries are tested with."""
    signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(ConfigError, match="base64"):
        signature("whsec_%%%", "a", 1, b"")


def test_two_phases_and_two_revisions_are_about_one_id(tmp_path: Path) -> None:
    """So a receiver updates what it has shown; each post has an id of its own, and a signature that holds."""
    with web_server() as server:
        bench = Bench(tmp_path, server.address, results=True)
        for event in (happened(), happened("confirmed")):
            bench.sink.tell(event)
        for revision in (0, 1):
            bench.sink.write(replace(result("cam-b-2"), revision=revision))
        bench.sink.tell(Event(EventKind.EVIDENCE, 1.7e9, {"frame_id": "cam-b-1", "name": "cam-b-1.jpg"}))
        bench.sink.tell(Event(EventKind.BREAKER, 1.7e9, {"phase": "open"}))
        bench.sink.flush()
        assert [(body["type"], body["id"]) for body in bodies(server)] == [
            *[("enter", "cam-b-1:enter:7:door")] * 2,
            *[("result", "cam-b-2")] * 2,
            ("evidence", "cam-b-1.jpg"),
            ("breaker", "breaker:1700000000.000000"),
        ]
        assert bodies(server)[0]["data"]["snapshot"] == "cam-b-1.jpg"
        assert {body["device_id"] for body in bodies(server)} == {"pole-7"}
        ids = [one.headers["webhook-id"] for one in server.posts]
        assert len(set(ids)) == 6
        for one in server.posts:
            assert one.path == HIDDEN_PATH
            signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
            mac = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
            assert one.headers["webhook-signature"] == f"v1,{mac}"
            assert one.headers["webhook-timestamp"] == "1700000000"


def test_a_server_in_trouble_is_tried_again_later_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    """In order and with the same id, after pauses that grow and end; what is refused is counted alone."""
    with web_server() as server:
        bench = Bench(tmp_path, server.address)
        server.answers = [500, 429, 400, 302]
        events = [happened(phase) for phase in ("provisional", "confirmed", "withdrawn")]
        for event in events:
            bench.sink.tell(event)
        for tries in (1, 2):
            with pytest.raises(OSError, match="answers"):
                bench.sink.flush()
            with pytest.raises(OSError, match="answers"):
                bench.sink.flush()
            assert not bench.sink.refused
            assert len(server.posts) == tries
            bench.now_s += 2.0 ** (tries - 1)
        bench.sink.flush()
        assert bench.sink.refused == events[:2]  # 400, and a redirect, which is not followed
        ids = [one.headers["webhook-id"].rpartition(":")[2] for one in server.posts]
        assert ids == [*["provisional"] * 3, "confirmed", "withdrawn"]
        server.answers, server.retry_after = [503], "86400"
        bench.sink.tell(happened())
        with pytest.raises(OSError, match="503"):
            bench.sink.flush()
        bench.now_s += LONGEST_PAUSE_S
        bench.sink.flush()
        assert not bench.sink.refused


def test_a_slow_server_and_one_that_is_away_cost_their_limit_and_tell_no_secret(tmp_path: Path) -> None:
    """A server that answers a byte at a time, or not at all; errors and log have its host alone."""
    with web_server() as server, capture_logs() as log:
        bench = Bench(tmp_path, server.address, timeout_s=0.5)
        server.answers = [SILENT]
        bench.sink.tell(happened())
        with pytest.raises(OSError, match="localhost does not answer") as slow:
            bench.sink.flush()
        server.answers = [400]
        bench.now_s += 1.0
        bench.sink.flush()
    bench.sink.tell(happened())
    with pytest.raises(OSError, match="localhost does not answer") as away:
        bench.sink.flush()
    bench.secret.unlink()  # as while it is replaced
    bench.now_s += 100.0
    with pytest.raises(OSError, match="secret_file"):
        bench.sink.flush()
    told = f"{slow.value} {away.value} {log}"
    assert "refused" in told
    assert "very-secret" not in told
    assert "abc" not in told
    assert SECRET not in told


def test_a_certificate_is_checked(tmp_path: Path) -> None:
    """Of our own CA with `ca`; without it the post fails and says why. Doctor sees the same."""
    pki = Pki(tmp_path / "pki")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.certificate("cloud"), pki.key("cloud"))
    with web_server(tls) as server:
        trusting = Bench(tmp_path, server.address, "https", ca=str(pki.ca))
        trusting.sink.tell(happened())
        trusting.sink.flush()
        assert len(server.posts) == 1
        other = Bench(tmp_path, server.address, "https")
        other.sink.tell(happened())
        with pytest.raises(OSError, match="not trusted"):
            other.sink.flush()
        case: Any = Case(None, tmp_path)  # type: ignore[arg-type] - which this check does not read
        states = [
            one.state.value
            for config in (trusting.config, other.config)
            for one in check_webhook("k", config, case)
        ]
        assert states == ["ok", "failed"]
        assert len(server.posts) == 1
    with pytest.raises(ConfigError, match="sinks: ca"):
        Bench(tmp_path, "localhost:1", "https", ca=str(tmp_path / "none"))


def test_a_server_that_is_away_holds_up_nobody_and_the_newest_are_kept(tmp_path: Path) -> None:
    """Behind its outlet: put never waits, the oldest are dropped and counted, results are nobody's of it."""
    with web_server() as server:
        port = int(server.address.rpartition(":")[2])
    bench, lost = Bench(tmp_path, f"localhost:{port}"), list[str]()
    sink = WebhookSink(bench.config, "pole-7", record_encoder(()), count(0, 100).__next__)
    outlet = Outlet(
        "0:webhook",
        sink,
        8,
        lost.append,
        lost.append,
        WhenFull.DROP_OLDEST,
        lambda one: takes(bench.config, one),
    )
    ack = DeliveryAck(1)
    outlet.put(result(), ack)
    assert ack.wait(0.0) is False
    assert not outlet.lost_everything
    thread = threading.Thread(target=outlet.run, daemon=True)
    thread.start()
    for number in range(WINDOW + 12):
        outlet.put(
            Event(EventKind.ENTER, number, {"event_id": str(number), "phase": "provisional"}), DeliveryAck(1)
        )
        until(lambda number=number: len(outlet._queue) < 8 or number >= WINDOW + 7)  # type: ignore[misc]
    assert lost == ["queue full"] * 4
    with web_server(port=port) as server:
        until(lambda: not outlet.state().waiting)
        outlet.close()
        thread.join(60)
    got = [int(body["id"]) for body in bodies(server)]
    assert got == [*range(WINDOW), *range(WINDOW + 4, WINDOW + 12)]


def test_what_a_server_refuses_is_stored_by_nobody(tmp_path: Path) -> None:
    """It is lost once, at once and by its kind, though the post behind it waits for a server in trouble."""
    with web_server() as server:
        bench = Bench(tmp_path, server.address, results=True)
        server.answers = [404, 400, 503]
        lost, events_lost = list[str](), list[str]()
        outlet = Outlet("0:webhook", bench.sink, 8, lost.append, events_lost.append)
        acks = [DeliveryAck(1) for _ in range(3)]
        for item, ack in zip((result("wrong"), happened(), result("waits")), acks, strict=True):
            outlet.put(item, ack)
        thread = threading.Thread(target=outlet.run, daemon=True)
        thread.start()
        assert acks[0].wait(30) is True  # done with: it would be refused again
        assert acks[1].wait(30) is True
        state = outlet.state()
        assert (state.stored, state.waiting, state.failing) == (0, 1, True)
        assert outlet.lost_everything
        bench.now_s += LONGEST_PAUSE_S
        assert acks[2].wait(30) is True
        outlet.close()
        thread.join(60)
    assert (lost, events_lost) == (["refused"], ["refused"])
    assert (outlet.state().stored, outlet.lost_everything) == (1, False)


@pytest.mark.parametrize(
    ("sinks", "key"),
    [
        ([{"kind": "webhook", "url": "ftp://x/y", "secret_file": "s", "results": True}], "url: must"),
        (
            [{"kind": "webhook", "url": "https://u:p@x/y", "secret_file": "s", "results": True}],
            "url: must",
        ),
        ([{"kind": "webhook", "url": "https://x/y", "secret_file": "s"}], "sinks"),
        ([{"kind": "webhook", "url": "https://x", "secret_file": "s", "results": True}] * 2, "sinks[1]"),
        ([{"kind": "mqtt", "host": "x", "snapshots": True}], "sinks[0].snapshots"),
    ],
)
def test_what_cannot_work_is_named(sinks: list[dict[str, Any]], key: str) -> None:
    """The key, and never the URL, which may be a secret."""
    base = {"camera": {"source": "x"}, "model": {"folder": "m"}}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(base | {"sinks": sinks}, EdgeConfig)
    assert key in str(caught.value)
    assert "//x" not in str(caught.value)
