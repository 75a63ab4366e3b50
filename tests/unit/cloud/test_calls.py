"""What a finished call leaves behind: figures in a bounded number of series, and a line of the access log."""

import json
import threading
import time

import grpc
import pytest
from prometheus_client import CollectorRegistry

from spillover.cloud.security.audit import Refusals
from spillover.cloud.telemetry.access import AccessLog
from spillover.cloud.telemetry.busiest import SHOWN
from spillover.cloud.telemetry.calls import Calls, FinishedCall
from spillover.common.errors import Cause
from spillover.common.metrics import Registry
from spillover.common.security.tokens import Caller

LIMIT_S = 30.0
OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
NOBODY = Caller("", "anonymous")
HOSTILE = 'x"\n{"status": "OK"}\\\x1b[2J\u2028'


@pytest.fixture
def registry():
    """An empty registry as the server's."""
    return Registry()


@pytest.fixture
def calls(registry):
    """What counts calls, without an access log."""
    return Calls(registry, Refusals(lambda *_: None))


def call(method="Infer", status=OK, seconds=0.01, peer="ipv4:192.0.2.7:1234", caller=NOBODY, **fields):
    """One call that has ended."""
    return FinishedCall(method, status, seconds, peer, caller, **fields)


def value(registry, name, **labels):
    """One sample."""
    return registry.get_sample_value(name, labels)


def test_a_call_is_counted_by_method_and_status_with_its_bytes(registry, calls):
    """Seconds, bytes in both directions, and who it was."""
    calls.finished(call(seconds=0.2, caller=Caller("camera-1", "device"), received_bytes=70, sent_bytes=30))
    assert value(registry, "spillover_call_duration_seconds_sum", method="Infer", status="OK") == 0.2
    assert value(registry, "spillover_call_received_bytes_total", method="Infer") == 70
    assert value(registry, "spillover_call_sent_bytes_total", method="Infer") == 30
    assert value(registry, "spillover_busiest_calls", caller="camera-1") == 1
    assert value(registry, "spillover_busiest_bytes", caller="camera-1") == 100


def test_whoever_proves_nothing_is_known_by_address(registry, calls):
    """All connections of one address together."""
    for port in range(5):
        calls.finished(call(peer=f"ipv4:192.0.2.7:{port}"))
    assert value(registry, "spillover_busiest_calls", caller="ipv4:192.0.2.7") == 5


def test_every_cause_is_there_from_the_start(registry, calls):
    """So that the first refusal is an increase that Prometheus sees."""
    assert {value(registry, "spillover_refused_calls_total", cause=cause) for cause in Cause} == {0}
    calls.finished(call(cause=Cause.MEMORY))
    assert value(registry, "spillover_refused_calls_total", cause="memory") == 1


def test_strangers_cannot_make_the_page_grow(registry, calls):
    """300 devices and as many methods that do not exist: the page keeps its size, whatever their names."""

    def flood(first):
        for number in range(first, first + 300):
            calls.finished(call(f"Method{number}", caller=Caller(f"device-{number}", "device")))
            calls.finished(call(peer=f"ipv4:192.0.2.{number}:1"))
            refused = call(status=UNAUTHENTICATED, cause=Cause.UNAUTHENTICATED, because=HOSTILE)
            calls.finished(refused)
        return sum(len(family.samples) for family in registry.collect())

    once = flood(0)
    assert flood(300) == once
    callers = [family for family in registry.collect() if family.name == "spillover_busiest_calls"]
    assert len(callers[0].samples) == SHOWN + 1


def test_a_line_of_the_access_log_is_one_line(registry):
    """Who, from where, what, how it ended, how long, how much; nothing that a caller wrote breaks it."""
    lines = []
    access = AccessLog(CollectorRegistry(), lines.append)
    calls = Calls(registry, Refusals(lambda *_: None), access.add)
    calls.finished(call(caller=Caller(HOSTILE * 100, HOSTILE), received_bytes=70, sent_bytes=30))
    assert access.stop(time.monotonic() + LIMIT_S)
    (line,) = lines
    assert len(line) < 4096  # one write of it is never mixed with another's, pipe(7)
    assert line.endswith(b"\n")
    assert line.decode().rstrip("\n").isprintable()
    entry = json.loads(line)
    assert (entry["method"], entry["status"], entry["seconds"]) == ("Infer", "OK", 0.01)
    assert (entry["received_bytes"], entry["sent_bytes"], entry["peer"]) == (70, 30, "ipv4:192.0.2.7:1234")


def test_a_log_that_nobody_reads_holds_up_no_call():
    """What does not fit is dropped and counted; the stop gives up at its limit."""
    registry, reading = CollectorRegistry(), threading.Event()
    access = AccessLog(registry, lambda _: reading.wait())
    for _ in range(5000):
        access.add(call())
    dropped = registry.get_sample_value("spillover_access_lines_dropped_total")
    assert 5000 - 4096 - 1 <= dropped <= 5000 - 4096
    assert not access.stop(time.monotonic())
    reading.set()
    assert access.stop(time.monotonic() + LIMIT_S)
