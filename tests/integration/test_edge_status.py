"""`spillover edge status` asks a running daemon over its socket; what it says adds up and hides no loss."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, Counter, make_wsgi_app
from structlog.testing import capture_logs

from spillover.common.cli import EXIT_LOST, spillover
from spillover.common.errors import UnavailableError
from spillover.common.home import status_socket
from spillover.common.net.http import HttpServer
from spillover.common.net.unix import is_served, short_name
from spillover.edge.daemon import Daemon
from spillover.edge.status.ask import ask, ask_device, show
from spillover.edge.status.verdict import Verdict, verdict
from tests.integration.test_edge_late import _config, _until, pictures  # noqa: F401 - a fixture
from tests.support.processes import free_port
from tests.support.scripted_cloud import PATIENCE_S, no_server_address
from tests.support.statuses import status_of


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A state folder whose path is longer than a socket's address may be."""
    folder = tmp_path / ("long-" * 20) / "home"
    monkeypatch.setenv("SPILLOVER_HOME", str(folder))
    return folder


@contextmanager
def runs(config, config_path=None) -> Iterator[Daemon]:
    """A daemon that runs until the block ends."""
    daemon = Daemon(config, config_path=config_path)

    def run() -> None:
        with suppress(Exception):  # a daemon whose sinks lose everything ends with an error
            daemon.run()

    runner = threading.Thread(target=run)
    runner.start()
    try:
        _until(lambda: status_socket(config.device_id).exists())
        yield daemon
    finally:
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)


@pytest.fixture
def endless(tmp_path, pictures):  # noqa: F811
    """A configuration of 50 frames a second without end and without a cloud; more keys by argument."""

    def build(**sections: object):
        camera = {"source": str(pictures), "fps": 50, "loop": True}
        named = {"device_id": "edge"} | sections
        return _config(tmp_path, pictures, no_server_address(), camera=camera, **named)

    return build


def test_a_running_daemon_tells_and_its_books_balance(endless):
    """Without `metrics_address`, asked many times while it works: the sums hold each time."""
    with runs(endless(device_id="pole-1")) as daemon:
        _until(lambda: ask_device("pole-1").spool.accepted >= 5)
        for _ in range(20):
            found = ask_device("pole-1")
            frames, spool = found.frames, found.spool
            assert verdict(found) is Verdict.BALANCED, found
            ended = frames.edge + frames.cloud + frames.edge_degraded + sum(frames.dropped.values())
            assert frames.captured == ended + frames.under_way
            assert spool.recovered + spool.accepted == sum(spool.fates.values()) + spool.pending
    (camera,) = found.cameras
    assert (camera.name, camera.state, camera.captured) == ("camera", "ok", frames.captured)
    assert camera.frames_per_s > 0
    assert frames.answered_per_s > 0
    assert (found.device_id, found.mode, found.model.name) == ("pole-1", "cloud_only", "colour")
    assert found.model.sha256 == daemon.status().model.sha256
    assert found.health.process_anon_bytes > 10e6
    assert found.health.disks


def test_an_open_breaker_has_an_age_and_a_reason(endless):
    """No server: the last failure is named, and probes do not make the outage younger."""
    with runs(endless()):
        _until(lambda: ask_device("edge").link.breaker != "closed")
        link = ask_device("edge").link
        assert "unavailable: failed to connect" in link.breaker_reason
        _until(lambda: ask_device("edge").link.breaker_age_s > link.breaker_age_s)
    assert (link.round_trip_s, link.sent) == (None, 0)


def test_the_command_prints_it_for_people_and_for_machines(endless, tmp_path):
    """By -c and by --device; the text says that the books balance; the JSON has every number."""
    path = tmp_path / "edge.yaml"
    path.write_text("camera: {source: x}\nmodel: {folder: y}\ndevice_id: pole-1\n")
    with runs(endless(device_id="pole-1"), path):
        text = invoke("-c", str(path))
        machine = invoke("--device", "pole-1", "--json")
    assert text.exit_code == machine.exit_code == 0
    # The daemon in this process may log at any time, to the same output.
    assert any(line.endswith("the books balance") for line in text.output.splitlines())
    answer = next(line for line in machine.output.splitlines() if line.startswith("{"))
    assert json.loads(answer)["config"] == str(path)


def test_the_socket_is_for_owner_and_group_and_goes_with_the_daemon(endless):
    """Mode 0660 while it runs; nothing is left of it afterwards."""
    path = status_socket("edge")
    with runs(endless()):
        assert path.stat().st_mode & 0o777 == 0o660
    assert list(path.parent.iterdir()) == []


def test_a_second_daemon_of_the_same_name_runs_without_a_socket(endless, tmp_path, pictures):  # noqa: F811
    """The first keeps its own, also when the second ends; the second says so in its log."""
    short = _config(
        tmp_path,
        pictures,
        no_server_address(),
        device_id="edge",
        spool={"path": str(tmp_path / "other.dat"), "max_mb": 2.0},
        sinks=[{"kind": "jsonl", "path": str(tmp_path / "other.jsonl")}],
    )
    with runs(endless()) as first:
        with capture_logs() as logs:
            Daemon(short).run()
        assert ask_device("edge").boot_id == first.status().boot_id
    (warning,) = [line for line in logs if line["event"] == "nobody can ask for the status"]
    assert "another server answers" in warning["error"]


def test_the_daemon_of_another_file_is_not_taken_for_this_one(endless, tmp_path):
    """Two files with one device_id: the answer names the file that runs."""
    mine, others = tmp_path / "mine.yaml", tmp_path / "others.yaml"
    for path in (mine, others):
        path.write_text("camera: {source: x}\nmodel: {folder: y}\ndevice_id: edge\n")
    with runs(endless(), others):
        found = invoke("-c", str(mine))
    assert found.exit_code == 1
    assert f"it runs {others}, not {mine}" in str(found.exception)


def test_a_daemon_of_a_service_is_found_in_its_folder(endless, home, monkeypatch):
    """Who asks has another SPILLOVER_HOME; instances of a template have folders of their own."""
    monkeypatch.setenv("SPILLOVER_HOME", str(home / "front"))
    with runs(endless(device_id="pole-1")):
        monkeypatch.setenv("SPILLOVER_HOME", "/nowhere")
        assert ask_device("pole-1", service_home=home).device_id == "pole-1"


def test_a_daemon_that_is_not_there_is_said_to_be_absent(home):
    """The error names device and folder; exit code 1."""
    found = invoke("--device", "pole-1")
    assert found.exit_code == 1
    assert "no daemon with device_id 'pole-1'" in str(found.exception)
    assert str(home) in str(found.exception)


def test_another_machine_is_asked_by_its_metrics_address(endless):
    """The same status beside the metrics."""
    address = f"127.0.0.1:{free_port()}"
    with runs(endless(metrics_address=address)) as daemon:
        assert ask(address).boot_id == daemon.status().boot_id


def test_a_page_of_metrics_is_refused():
    """Another program's endpoint, which has no status: exit code 1, and no word of books."""
    registry = CollectorRegistry()
    Counter("spillover_edge_frames_captured", "Looks like ours.", registry=registry)
    with serving({"/metrics": make_wsgi_app(registry)}) as address:
        found = invoke("--address", address)
    assert found.exit_code == 1
    assert f"{address} is no edge daemon: it answers /status with HTTP status 404" in str(found.exception)


@pytest.mark.parametrize("body", [b"# TYPE up gauge\nup 1\n", b'{"status": "ok"}', b"", b"[1]"])
def test_another_programs_page_is_refused(body):
    """Every path answered with 200: what is no status is not shown as one."""

    def page(environ, start_response):
        start_response("200 OK", [])
        return [body]

    with serving({"/status": page}) as address, pytest.raises(UnavailableError, match="is no edge daemon"):
        ask(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nothing", "127.0.0.1:70000", ":::", ""])
def test_an_address_where_nobody_answers_is_said_so(address):
    """Also one that cannot be an address."""
    with pytest.raises(UnavailableError):
        ask(address)


def test_sinks_that_fail_are_named_with_their_cause(endless, tmp_path):
    """A full disk: before a result is lost the items wait, and that is told with exit code 8 already."""
    sinks = [{"kind": "jsonl", "path": "/dev/full"}, {"kind": "jsonl", "path": str(tmp_path / "good.jsonl")}]
    with runs(endless(sinks=sinks)):
        _until(lambda: ask_device("edge").sinks[0].failing)
        found = ask_device("edge")
        shown = invoke("--device", "edge")
    bad, good = found.sinks
    assert "No space left" in bad.last_error
    assert (bad.stored, bad.failing, good.failing, good.last_error) == (0, True, False, "")
    assert bad.waiting > 0
    assert shown.exit_code == EXIT_LOST
    assert "sink 0:jsonl fails, and" in shown.output
    assert "books balance" not in shown.output


def test_watch_goes_on_while_the_daemon_is_away():
    """It shows what there is each time, an absent daemon too."""
    answers = iter([status_of(), UnavailableError("gone"), status_of()])
    shown: list[str] = []

    def question():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with pytest.raises(StopIteration):
        show(question, shown.append, watches=True, sleep=lambda _: None)
    assert [("pole-1" in text, "gone" in text) for text in shown] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_one_way_of_asking_is_wanted():
    """None, or two of them: wrong usage."""
    assert invoke().exit_code == 2
    assert invoke("--device", "edge", "--address", "127.0.0.1:1").exit_code == 2


def test_a_socket_that_a_killed_daemon_has_left_is_replaced(endless):
    """Nobody answers there, so it is taken over."""
    path = status_socket("edge")
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left, short_name(path) as name:
        left.bind(name)
    assert path.is_socket()
    assert not is_served(path)
    with runs(endless()):
        _until(lambda: is_served(path))
        assert ask_device("edge").device_id == "edge"


def invoke(*arguments: str):
    """`spillover edge status` with these."""
    return CliRunner().invoke(spillover, ["edge", "status", *arguments])


@contextmanager
def serving(pages) -> Iterator[str]:
    """The address of another program's pages."""
    server = HttpServer("127.0.0.1:0", pages, key="page")
    server.start()
    try:
        yield server.address
    finally:
        server.stop(time.monotonic() + PATIENCE_S)
