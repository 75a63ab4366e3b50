"""The byte budget of a whole daemon: counted where bytes arrive, on the server's side of the wire."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import grpc
import msgspec
import numpy as np
import pytest

from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb.spillover_pb2_grpc import SpilloverStub
from spillover.edge.config import EdgeConfig, UplinkConfig
from spillover.edge.daemon import Daemon
from spillover.edge.link.byte_budget import CONNECTION_BYTES, SavedTokens, wire_bytes
from spillover.edge.policy.base import Reason
from spillover.edge.sinks.record import Record
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.channel import Connections, ConnectMeter
from spillover.lab.records import read_records
from tests.support.models import SIDE, colour_classifier
from tests.support.scripted_cloud import PATIENCE_S, ScriptedCloud, answers, refuses, scripted_cloud
from tests.support.wiretap import wiretap

LEFT_BYTES = 20_000.0
PER_DAY = {"bytes": 50_000, "per": "day", "bucket_bytes": 25_000}
"""So little that a test's seconds add next to nothing to what is left from before."""
SELDOM_S = 86_400
"""Keep-alive pings so rare that this budget can pay for them."""
A_MINUTE_S = 600.0
OVER_BUDGET = {str(Reason.OVER_BUDGET), CallStatus.OVER_BUDGET.value}
"""The policy's reason and the uplink's status: tokens can be spent between a decision and its call."""


class HangingUp(socketserver.ThreadingTCPServer):
    """A host that takes connections, counts them and ends them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count it; the server closes it."""
        self.connections += 1
        super().process_request(request, client_address)


@contextmanager
def hanging_up() -> Iterator[HangingUp]:
    """Serve while inside."""
    with HangingUp() as host:
        thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield host
        finally:
            host.shutdown()
            thread.join(PATIENCE_S)


class Site:
    """Grey pictures, which the classifier is unsure of, and daemons with one budget."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = colour_classifier(folder / "models")
        self.state = folder / "left.json"
        self.runs = 0
        (folder / "pictures").mkdir()
        random = np.random.default_rng(0)
        for number in range(40):
            noise = random.integers(80, 100, (2 * SIDE, 2 * SIDE, 3), np.uint8)
            cv2.imwrite(str(folder / "pictures" / f"{number:03}.png"), noise)
        SavedTokens(self.state).save(LEFT_BYTES)

    def run(self, address: str, **sections: Any) -> list[Record]:
        """One run over all pictures."""
        self.runs += 1
        output = self.folder / f"{self.runs}.jsonl"
        values: dict[str, Any] = {
            "camera": {"source": str(self.folder / "pictures"), "pace": "fast"},
            "model": {"folder": str(self.model), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(output), "decision": "full"}],
            "uplink": {"address": address, "keepalive_s": SELDOM_S},
            "mode": "cloud_only",
            "deadline_s": A_MINUTE_S,
            "stop_timeout_s": PATIENCE_S,
            "policy": {"budget": PER_DAY | {"state_file": str(self.state)}},
        }
        Daemon(msgspec.convert(values | sections, EdgeConfig)).run()
        return read_records(output)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in a folder of its own."""
    return Site(tmp_path)


def reason(record: Record) -> str:
    """Why the cloud did not answer, without details."""
    return record.error.partition(":")[0]


def arrived(cloud: ScriptedCloud, connections: int = 1) -> float:
    """Bytes that reached the server, with what framing of calls and making connections is reckoned at."""
    calls = sum(wire_bytes(request.ByteSize()) for request in cloud.requests)
    return calls + connections * CONNECTION_BYTES


def test_not_a_byte_over_budget_and_none_forfeited(site: Site) -> None:
    """What is left is used up to less than one frame; then the edge answers alone and says why."""
    with scripted_cloud() as cloud:
        records = site.run(cloud.address)
    assert LEFT_BYTES - 5_000 < arrived(cloud) <= LEFT_BYTES
    assert len(records) == 40
    assert sum(record.answered_by == "cloud" for record in records) == len(cloud.requests)
    kept = [record for record in records if record.answered_by == "edge_degraded"]
    assert kept
    assert {reason(record) for record in kept} <= OVER_BUDGET


def test_the_policy_ranks_frames_by_gain_per_byte(site: Site) -> None:
    """In mode `hybrid` a small budget goes to the few best; the others are kept, and rank and tokens told."""
    with scripted_cloud() as cloud:
        records = site.run(cloud.address, mode="hybrid")
    assert 0 < len(cloud.requests) < 20
    assert arrived(cloud) <= LEFT_BYTES
    outranked = [record.decision for record in records if record.decision.reason == "outranked"]
    assert outranked
    assert all(decision.inputs["rank"] < decision.inputs["needed_rank"] for decision in outranked)


def test_what_is_charged_covers_what_the_wire_carries(site: Site) -> None:
    """Bytes on the TCP connection, of its making and of headers as well, are no more than was paid for."""
    with scripted_cloud() as cloud, wiretap(cloud.address) as tap:
        site.run(tap.address)
        assert arrived(cloud) >= len(tap.sent)
        assert SavedTokens(site.state).left_bytes <= LEFT_BYTES - len(tap.sent) + 1_000


def test_a_second_run_has_what_the_first_has_left(site: Site) -> None:
    """Together they stay within the budget."""
    with scripted_cloud() as cloud:
        camera = {"source": str(site.folder / "pictures"), "pace": "fast", "max_frames": 4}
        site.run(cloud.address, camera=camera)
        first = len(cloud.requests)
        site.run(cloud.address)
        assert first == 4
        assert first < len(cloud.requests)
        assert LEFT_BYTES - 5_000 < arrived(cloud, connections=2) <= LEFT_BYTES


def test_attempts_that_reach_nobody_are_paid_for(site: Site) -> None:
    """A host that ends every connection at once: no attempt is made that was not charged as a connection."""
    camera = {"source": str(site.folder / "pictures"), "pace": "fast", "max_frames": 20}
    with hanging_up() as host:
        uplink = {"address": host.address, "breaker_failures": 1000, "keepalive_s": SELDOM_S}
        records = site.run(host.address, uplink=uplink, camera=camera)
    called = [record for record in records if reason(record) not in OVER_BUDGET]
    calls = sum(wire_bytes(record.payload_bytes) for record in called)
    assert host.connections > 0
    assert LEFT_BYTES - SavedTokens(site.state).left_bytes >= calls + host.connections * CONNECTION_BYTES


def test_a_channel_that_found_nobody_is_not_kept() -> None:
    """It would try again by itself, unpaid: the next call gets another one, and it is closed."""
    failed, landed = threading.Event(), threading.Event()
    with hanging_up() as host:
        config = UplinkConfig(address=host.address)
        connections = Connections(
            config,
            lambda channel: SpilloverStub(channel).Infer,
            lambda: ConnectMeter(lambda: None, failed.set),
        )
        first = connections.current()
        call = first.method.future(pb.InferRequest(), timeout=PATIENCE_S)
        first.track(call)
        call.add_done_callback(lambda _: landed.set())
        assert failed.wait(PATIENCE_S)
        assert landed.wait(PATIENCE_S)
        assert connections.current() is not first
        with pytest.raises(ValueError, match="closed"):
            first.method.future(pb.InferRequest())
        connections.close()


def test_retries_and_the_spool_are_paid_for_too(site: Site) -> None:
    """A cloud that fails, then answers: live frames, second tries and late ones come out of one bucket."""
    spool = {"path": str(site.folder / "spool.dat"), "max_mb": 2.0}
    with scripted_cloud(refuses(grpc.StatusCode.UNAVAILABLE)) as cloud:
        uplink = {"address": cloud.address, "breaker_failures": 1000, "keepalive_s": SELDOM_S}
        site.run(cloud.address, spool=spool, uplink=uplink)
        refused = len(cloud.requests)
        cloud.behaviour = answers
        site.run(cloud.address, spool=spool)
        assert refused > 0
        assert arrived(cloud) <= LEFT_BYTES
