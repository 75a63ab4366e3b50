"""The keeper of connections: what it knows of each, and the process's sockets that it looks at."""

import socket
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.connections.descriptors import Places, places
from spillover.cloud.rpc.connections.keeper import CONNECTION_BYTES, Activity, Connections
from spillover.cloud.rpc.connections.rules import VAIN_BURST
from spillover.cloud.rpc.connections.sockets import Sockets, parse_peer
from spillover.cloud.telemetry.metrics import Metrics

A, B = ("192.0.2.1", 1), ("192.0.2.2", 2)


class Network:
    """Connections that a test opens; what is shut is gone."""

    def __init__(self):
        self.open = {}

    def scan(self):
        """All that are open."""
        return dict(self.open)

    def shut(self, peer):
        """End one."""
        return self.open.pop(peer, None) is not None


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self):
        """As it was set."""
        return self.now_s


@pytest.fixture
def network():
    """Nobody is connected yet."""
    return Network()


@pytest.fixture
def clock():
    """It stands still unless it is set."""
    return Clock()


def connections_of(clock, *, anybody=False, **limits):
    """A keeper that remembers, as if it watched a port."""
    connections = Connections(LimitsConfig(**limits), Metrics(), anybody=anybody, clock=clock)
    connections._remembers = True
    return connections


def call(connections, peer, *, name="", answered=True):
    """A call from its beginning to its end."""
    activity = connections.began(peer)
    if name:
        activity.prove(name)
    if answered:
        connections.answered(activity)
    connections.ended(activity)


def test_a_stranger_without_a_call_is_closed_and_others_are_not(network, clock):
    """After the idle limit; a call that is open, or an identity, keeps a connection."""
    connections = connections_of(clock, idle_timeout_s=30)
    network.open = {A: 1, B: 2, ("192.0.2.3", 3): 3}
    connections.began("ipv4:192.0.2.1:1")
    call(connections, "ipv4:192.0.2.2:2", name="camera-1")
    connections.tick(network)
    clock.now_s = 31
    connections.tick(network)
    assert set(network.open) == {A, B}
    assert connections.by_standing() == {"stranger": 2, "known": 0, "proven": 1}  # as it was found


def test_an_answered_call_counts_where_nobody_can_prove_more(network, clock):
    """It does not where identities are asked for, nor if it failed."""
    for anybody, answered, stays in ((True, True, True), (True, False, False), (False, True, False)):
        network.open = {A: 1}
        clock.now_s = 0
        connections = connections_of(clock, anybody=anybody, idle_timeout_s=30)
        connections.tick(network)
        call(connections, "ipv4:192.0.2.1:1", answered=answered)
        clock.now_s = 31
        connections.tick(network)
        assert (A in network.open) is stays


def test_a_stranger_whose_calls_come_to_nothing_is_closed(network, clock):
    """The same calls on a connection that proves an identity by then leave it open."""
    connections = connections_of(clock)
    network.open = {A: 1, B: 2}
    stranger, device = connections.began("ipv4:192.0.2.1:1"), connections.began("ipv4:192.0.2.2:2")
    for _ in range(VAIN_BURST + 1):
        connections.came_to_nothing(stranger)
        connections.came_to_nothing(device)
    device.prove("camera-1")
    connections.tick(network)
    assert set(network.open) == {B}


def test_a_port_that_is_used_again_inherits_nothing(network, clock):
    """Another socket from the same address and port is another connection, and a stranger."""
    connections = connections_of(clock)
    network.open = {A: 1}
    connections.tick(network)
    call(connections, "ipv4:192.0.2.1:1", name="camera-1")
    connections.tick(network)
    assert connections.by_standing()["proven"] == 1
    network.open = {A: 9}
    connections.tick(network)
    assert connections.by_standing() == {"stranger": 1, "known": 0, "proven": 0}


def test_what_is_gone_is_forgotten(network, clock):
    """Nothing is kept of connections that have ended, however many there were."""
    connections = connections_of(clock)
    for port in range(1, 1000):
        call(connections, f"ipv4:192.0.2.1:{port}", name="camera-1")
    clock.now_s = 10
    connections.tick(network)
    assert not connections._activities


def test_the_memory_of_connections_that_are_gone_is_told_of(network, clock):
    """Once for each, so that it is given back after a flood."""
    freed = []
    connections = Connections(LimitsConfig(), Metrics(), anybody=False, freed=freed.append, clock=clock)
    network.open = {A: 1, B: 2}
    connections.tick(network)
    assert freed == []
    network.open = {}
    connections.tick(network)
    connections.tick(network)
    assert freed == [2 * CONNECTION_BYTES]


def test_a_connection_that_is_newer_than_the_scan_is_remembered(network, clock):
    """Its call may come between two looks; what it has proven holds at the next one."""
    connections = connections_of(clock)
    call(connections, "ipv4:192.0.2.1:1", name="camera-1")
    connections.tick(network)
    network.open = {A: 1}
    connections.tick(network)
    assert connections.by_standing()["proven"] == 1


@given(st.ip_addresses(), st.integers(1, 65535))
def test_a_peer_of_grpc_is_that_of_the_socket(address, port):
    """Both ways to write one address and port give the same, a mapped IPv4 address too."""
    text = f"ipv4:{address}:{port}" if address.version == 4 else f"ipv6:%5B{address}%5D:{port}"
    plain = str(getattr(address, "ipv4_mapped", None) or address)
    assert parse_peer(text) == (plain, port)
    if address.version == 6:
        assert parse_peer(f"ipv6:%5Bfe80::1%25eth0%5D:{port}") == ("fe80::1", port)


def test_one_site_is_one_network():
    """Its hosts choose the second half of an IPv6 address as they like; callers on a Unix socket are one."""
    first, second, other = (
        Activity(f"ipv6:%5B{address}%5D:5", 0.0).network
        for address in ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")
    )
    assert first == second != other
    assert Activity("ipv4:192.0.2.1:5", 0.0).network == Activity("ipv4:192.0.2.1:6", 0.0).network
    assert Activity("unix:", 0.0).network == "unix:"


def test_a_unix_socket_has_no_peer():
    """All of its callers look alike."""
    assert parse_peer("unix:") is None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_sockets_of_a_port_are_found_and_shut(family):
    """Of all the process's sockets those that were accepted on the port; the other side reads the end."""
    host = "::1" if family is socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listening, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(listening.getsockname()[:2])) for _ in range(3)
        ]
        for _ in clients:
            stack.enter_context(listening.accept()[0])
        sockets = Sockets(listening.getsockname()[1])
        peers = [client.getsockname()[:2] for client in clients]
        assert set(sockets.scan()) == set(peers)
        assert sockets.shut(peers[0])
        assert clients[0].recv(1) == b""
        clients[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[1].recv(1)


def test_a_descriptor_that_means_another_connection_by_now_is_left_alone():
    """Between the look and the closing gRPC may close a connection, and accept another at its number."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:
        old = stack.enter_context(socket.create_connection(listening.getsockname()))
        accepted = listening.accept()[0]
        sockets = Sockets(listening.getsockname()[1])
        sockets.scan()
        number = accepted.fileno()
        new = stack.enter_context(socket.create_connection(listening.getsockname()))
        accepted.close()
        again = stack.enter_context(listening.accept()[0])
        assert again.fileno() == number
        assert not sockets.shut(old.getsockname())
        new.setblocking(False)
        with pytest.raises(BlockingIOError):
            new.recv(1)


@given(st.integers(1, 100_000), st.integers(0, 1_000_000))
def test_connections_never_take_the_last_descriptors(most, descriptors):
    """What is kept for others stays free, and more is accepted than may stay."""
    found = places(most, descriptors)
    assert found.accepted <= max(2, descriptors - 128)
    assert 0 < found.total < found.accepted
    assert found.total <= most
    assert found == Places(most, 4 * most) or descriptors < 4 * most + 128
