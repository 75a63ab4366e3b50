"""`spillover edge status` asks a running daemon, and what it says adds up."""

import json
import threading

import pytest
from click.testing import CliRunner

from spillover.common.errors import UnavailableError
from spillover.edge.cli import edge
from spillover.edge.daemon import Daemon
from spillover.edge.telemetry.status import read_status, to_status, to_text
from tests.integration.test_edge_late import _config, _until, pictures  # noqa: F401 - a fixture
from tests.support.processes import free_port
from tests.support.scripted_cloud import PATIENCE_S, no_server_address


@pytest.fixture
def running(tmp_path, pictures, unused_port):  # noqa: F811
    """A daemon without a cloud that has spooled something, and its endpoint."""
    address = f"127.0.0.1:{unused_port}"
    camera = {"source": str(pictures), "fps": 50, "loop": True}
    config = _config(tmp_path, pictures, no_server_address(), camera=camera, metrics_address=address)
    daemon = Daemon(config)
    runner = threading.Thread(target=daemon.run)
    runner.start()
    _until(lambda: daemon.metrics.summary().get("spool_frames[accepted]", 0) >= 5)
    yield address
    daemon.stop("seen enough")
    runner.join(PATIENCE_S)


@pytest.fixture
def unused_port():
    """A port that nobody listens on now."""
    return free_port()


def test_a_running_daemon_tells_and_its_books_balance(running):
    """Asked many times while it works: the sums hold each time."""
    for _ in range(20):
        found = read_status(running)
        assert found.balances, found
        assert found.captured == found.degraded + found.under_way + sum(found.dropped.values())
        assert found.spooled + found.recovered == sum(found.spool_fates.values()) + found.pending
    assert found.breaker in {"open", "half_open", "closed"}
    assert found.attempted >= 5


def test_the_command_prints_it_for_people_and_for_machines(running):
    """The text says that the books balance; the JSON has every number."""
    text = CliRunner().invoke(edge, ["status", "--address", running])
    assert "the books balance" in text.output
    machine = CliRunner().invoke(edge, ["status", "--address", running, "--json"])
    assert json.loads(machine.output)["spooled"] >= 5


def test_a_daemon_that_is_not_there_is_said_to_be_absent(unused_port):
    """The error names the address."""
    with pytest.raises(UnavailableError, match=str(unused_port)):
        read_status(f"127.0.0.1:{unused_port}")


def test_books_that_do_not_balance_are_not_said_to():
    """More endings than frames: the text says so."""
    page = '# TYPE spillover_edge_frames counter\nspillover_edge_frames_total{ending="edge"} 3\n'
    found = to_status(page)
    assert not found.balances
    assert "DO NOT BALANCE" in to_text(found)
