"""The link in user space: what it says of itself, and that it delays and paces real connections."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from common.errors import ConfigError, SourceError
from lab.shaper.link import Link, Schedule, constant, read_schedule
from lab.shaper.proxy import ShapedProxy, shaped

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


def test_trace_file_is_read_with_its_units(tmp_path: Path) -> None:
    """Columns are found by name, an empty rate is no limit, the last row lasts as long as the one before."""
    path = tmp_path / "trace.csv"
    path.write_text("t_s,rtt_ms,up_mbit_per_s,down_mbit_per_s\n10,50,5,\n12,80,0,1\n", encoding="utf-8")
    schedule = read_schedule(path)
    assert schedule.starts_s == (0.0, 2.0)
    assert schedule.period_s == 4.0
    assert schedule.at(0).down_bytes_per_s == math.inf
    assert schedule.at(3) == Link(rtt_ms=80, up_mbit_per_s=0, down_mbit_per_s=1)


@pytest.mark.parametrize("text", ["", "t_s\n1\n", "t_s,rtt_ms,up_mbit_per_s,down_mbit_per_s\n1,-5,1,1\n"])
def test_a_damaged_trace_names_its_file(tmp_path: Path, text: str) -> None:
    """An empty file, a missing column and a negative delay are refused with the file's name."""
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"bad\.csv"):
        read_schedule(path)


def test_link_refuses_a_negative_rate() -> None:
    """A negative rate is an error of the configuration."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"up_mbit_per_s": -1}, Link)
