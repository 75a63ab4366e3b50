"""Caps for each source address, before a connection is ours to close: deploy/haproxy, deploy/nftables."""

import select
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from spillover.common.processes import bound
from tests.support.envoy import behind_haproxy, envoy_in_front, socket_folder
from tests.support.h2 import PREFACE, SETTINGS, call, frame
from tests.support.models import colour_classifier
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

DEPLOY = Path(__file__).parents[2] / "deploy"
ATTACKER = "127.0.0.2"

FLOOD = """
import socket
server = socket.create_server(("127.0.0.1", 50051), backlog=1024)
def connected(source):
    try:
        return socket.create_connection(("127.0.0.1", 50051), timeout=10, source_address=(source, 0))
    except OSError:
        return None
held = [connected("127.0.0.2") for _ in range(290)]
print(sum(one is not None for one in held), connected("127.0.0.1") is not None)
"""


@pytest.mark.needs("nftables")
def test_nftables_caps_an_address_and_lets_others_in():
    """Of 290 connections from one address 256 come through; the next one from another address does too."""
    rules = DEPLOY / "nftables" / "spillover.nft"
    command = f"ip link set lo up && nft -f '{rules}' && nft -f '{rules}'"
    if subprocess.run(["unshare", "-n", "sh", "-c", command], check=False, capture_output=True).returncode:
        pytest.skip("cannot load rules of nftables in a network namespace")
    script = f"{command} && exec '{sys.executable}' -c '{FLOOD}'"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], check=True, capture_output=True, text=True, timeout=CALL_S * 2
    )
    assert done.stdout.split() == ["256", "True"]


@contextmanager
def haproxy(folder: Path, upstream: str, most: int):
    """The port of HAProxy with the configuration of deploy/haproxy, but for `most` connections an address."""
    listening = socket.create_server(("127.0.0.1", 0))
    text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    for old, new in (
        ("bind :50051", f"bind fd@{listening.fileno()}"),
        ("127.0.0.1:50052", upstream),
        ("sc0_conn_cur gt 256", f"sc0_conn_cur gt {most}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "haproxy.cfg").write_text(text)
    command = bound(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], signal.SIGKILL)
    process = subprocess.Popen(command, text=True, pass_fds=[listening.fileno()])
    with listening:
        try:
            yield listening.getsockname()[1]
        finally:
            process.kill()
            process.wait()


def connection_of(source: str, port: int) -> socket.socket:
    """A connection that comes from this address."""
    return socket.create_connection(("127.0.0.1", port), timeout=CALL_S, source_address=(source, 0))


class At:
    """A server at a port of this machine."""

    def __init__(self, port: int):
        self.address = f"127.0.0.1:{port}"


@pytest.mark.needs("haproxy")
def test_haproxy_caps_an_address_and_tells_envoy_who_calls(tmp_path):
    """Of four connections of one address one is closed; another address is answered, and Envoy logs it."""
    if not shutil.which("haproxy"):
        pytest.skip("no haproxy here")
    colour_classifier(tmp_path)
    with (
        socket_folder() as folder,
        serving(cloud_config(tmp_path, listen=f"unix:{folder}/s")) as server,
        envoy_in_front(server.address, None, behind_haproxy) as envoy,
        haproxy(folder, envoy.address, most=3) as port,
        ExitStack() as stack,
    ):
        held = [stack.enter_context(connection_of(ATTACKER, port)) for _ in range(4)]
        [closed], _, _ = select.select(held, [], [], CALL_S)  # whichever of HAProxy's threads counts it last
        with suppress(ConnectionError):
            assert closed.recv(1) == b""
        held.remove(closed)
        with stub_of(At(port)) as stub:
            assert stub.Infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S).frame_id == "f1"
        held[0].sendall(PREFACE + frame(SETTINGS) + call("/grpc.health.v1.Health/Check", b""))
        envoy.wait_for(lambda: len(envoy.access_log()) == 2)
        peers = [entry["peer"].rpartition(":")[0] for entry in envoy.access_log()]
        assert sorted(peers) == ["127.0.0.1", ATTACKER]
