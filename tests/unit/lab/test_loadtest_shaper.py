"""The link in user space: what it says of itself, and that it delays and paces real connections."""

import itertools
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from spillover.common.errors import ConfigError
from spillover.lab.loadtest.config import LinkConfig
from spillover.lab.loadtest.links import routes_to, schedule_of, schedule_of_trace
from spillover.lab.pairs.replay.trace import model_trace
from spillover.lab.shaper.link import Link, Schedule, constant
from spillover.lab.shaper.proxy import ShapedProxy, shaped

LIMIT_S = 30


@contextmanager
def echo_server() -> Iterator[str]:
    """A server that sends back what it gets, one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(LIMIT_S)


def round_trip_s(schedule: Schedule, size: int) -> float:
    """Seconds until all of `size` bytes are back."""
    with echo_server() as target, shaped(target, schedule) as proxy:
        host, _, port = proxy.address.rpartition(":")
        with socket.create_connection((host, int(port)), LIMIT_S) as client:
            client.settimeout(LIMIT_S)
            start = time.monotonic()
            client.sendall(b"x" * size)
            left = size
            while left:
                left -= len(client.recv(65536))
            took_s = time.monotonic() - start
        assert proxy.traffic.up_bytes == proxy.traffic.down_bytes == size
    return took_s


def test_delay_is_never_less_than_the_round_trip() -> None:
    """A byte is back no sooner than the round trip that was asked for."""
    assert round_trip_s(constant(Link(rtt_ms=80)), 1) >= 0.08


def test_rate_is_never_exceeded() -> None:
    """100 kB at 8 Mbit/s each way take at least the time they need in one direction."""
    link = Link(up_mbit_per_s=8, down_mbit_per_s=8)
    assert round_trip_s(constant(link), 100_000) >= 0.1


def test_connections_through_one_link_share_its_rate() -> None:
    """Two at once take as long as their bytes do in a row; edges behind one modem are routed to one link."""
    link = Link(up_mbit_per_s=8)
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"127.0.0.1:{server.getsockname()[1]}"
        with routes_to(target, constant(link), 3, share=2, kernel=False) as routes:
            first, second, third = (route.address for route in routes.by_edge)
            assert first == second != third
            host, _, port = first.rpartition(":")
            clients = [socket.create_connection((host, int(port)), LIMIT_S) for _ in range(2)]
            ends = [server.accept()[0] for _ in clients]
            start = time.monotonic()
            for client in clients:
                client.sendall(b"x" * 100_000)
                client.shutdown(socket.SHUT_WR)
            for end in ends:
                end.settimeout(LIMIT_S)
                assert sum(iter(lambda end=end: len(end.recv(65536)), 0)) == 100_000  # type: ignore[misc]
            assert time.monotonic() - start >= 0.2
            for one in (*clients, *ends):
                one.close()


def test_an_outage_holds_bytes_until_it_ends() -> None:
    """Bytes sent while the rate is 0 are delivered after it, none lost."""
    outage = Link(up_mbit_per_s=0, down_mbit_per_s=0)
    schedule = Schedule((0.0, 0.5), (outage, Link()))
    assert round_trip_s(schedule, 1000) < LIMIT_S


def test_an_absent_server_closes_the_connection() -> None:
    """A client learns at once that there is no server behind the link."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        free = placeholder.getsockname()[1]
    with shaped(f"127.0.0.1:{free}", constant(Link())) as proxy:
        host, _, port = proxy.address.rpartition(":")
        with socket.create_connection((host, int(port)), LIMIT_S) as client:
            client.settimeout(LIMIT_S)
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""


def test_target_must_be_host_and_port() -> None:
    """An address without a port is refused by name."""
    with pytest.raises(ConfigError, match="host:port"):
        ShapedProxy("nowhere", constant(Link()))


def test_schedule_repeats_after_its_period() -> None:
    """A trace begins again, and says when it changes next."""
    slow, fast = Link(up_mbit_per_s=1), Link(up_mbit_per_s=10)
    schedule = Schedule((0.0, 2.0), (slow, fast), period_s=5.0)
    assert [schedule.at(t) for t in (0, 1.9, 2, 4.9, 5, 7)] == [slow, slow, fast, fast, slow, fast]
    assert schedule.next_change_s(6.5) == pytest.approx(0.5)
    assert math.isinf(constant(slow).next_change_s(3))


def test_trace_of_the_replay_becomes_a_link(tmp_path: Path) -> None:
    """Bytes a second become Mbit/s both ways, seconds become milliseconds, the last line ends the period."""
    path = tmp_path / "trace.csv"
    path.write_text("at_s,rate_bytes_per_s,rtt_s\n0,625000,0.05\n2,0,0.08\n3,0,0.08\n", encoding="utf-8")
    schedule = schedule_of(LinkConfig(trace=str(path)))
    good = Link(rtt_ms=50, up_mbit_per_s=5, down_mbit_per_s=5)
    outage = Link(rtt_ms=80, up_mbit_per_s=0, down_mbit_per_s=0)
    assert [schedule.at(t) for t in (0, 1.9, 2, 3.1)] == [good, good, outage, good]


def test_each_repeat_begins_at_another_place_of_a_modelled_trace(tmp_path: Path) -> None:
    """Nor at the trace's own beginning; the places are the same in every test. A CSV begins where it does."""
    places = [schedule_of(LinkConfig(trace="lte"), repeat).begin_s for repeat in range(5)]
    assert places == [schedule_of(LinkConfig(trace="lte"), repeat).begin_s for repeat in range(5)]
    assert all(abs(a - b) > 30 for a, b in itertools.combinations([0.0, *places], 2))
    whole = schedule_of_trace(model_trace("lte"))
    assert schedule_of(LinkConfig(trace="lte"), 1).at(3) == whole.at(places[1] + 3)
    path = tmp_path / "trace.csv"
    path.write_text("at_s,rate_bytes_per_s,rtt_s\n0,1,0\n2,1,0\n", encoding="utf-8")
    assert schedule_of(LinkConfig(trace=str(path)), 1).begin_s == 0


def test_modelled_links_have_names() -> None:
    """The links that the replay models can be shaped too: an outage lets nothing pass after 80 s."""
    schedule = replace(schedule_of(LinkConfig(trace="outage")), begin_s=0.0)
    assert schedule.at(1).up_bytes_per_s == 1.5e6
    assert schedule.at(85).up_bytes_per_s == 0


def test_link_refuses_a_negative_rate() -> None:
    """A negative rate is an error of the configuration."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"up_mbit_per_s": -1}, Link)
