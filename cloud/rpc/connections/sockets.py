"""The connections of this process, by its own descriptors: gRPC for Python shows none, and closes none.

Linux lists the descriptors of a process in /proc/self/fd, each socket with a number that no other socket has.
"""

import ipaddress
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from spillover.cloud.rpc.connections.rules import Peer

DESCRIPTORS = Path("/proc/self/fd")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Sockets:
    """The connections that were accepted on `port`. For one thread.

    A connection seen before costs one system call, a new one five. Nothing is kept open, because the other
    side must learn at once when gRPC closes a connection.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._known: dict[int, Peer | None] = {}
        self._at: dict[Peer, tuple[int, int]] = {}

    def scan(self) -> dict[Peer, int]:
        """The connections there are now, each with the number of its socket. Raises OSError."""
        known: dict[int, Peer | None] = {}
        self._at = {}
        for name in os.listdir(DESCRIPTORS):  # noqa: PTH208 - a thousand paths would be made for nothing
            descriptor = int(name)
            number = _number(descriptor)
            if number is None:
                continue
            peer = self._known[number] if number in self._known else self._peer(descriptor, number)
            known[number] = peer
            if peer:
                self._at[peer] = number, descriptor
        self._known = known
        return {peer: number for peer, (number, _) in self._at.items()}

    def shut(self, peer: Peer) -> bool:
        """End the connection of `peer` that the last scan has found; False if it is gone by now."""
        number, descriptor = self._at[peer]
        with suppress(OSError), _duplicate(descriptor) as own:
            # What the descriptor stood for may have been closed since, and another connection have its place.
            if os.fstat(own.fileno()).st_ino == number and _peer_of(own) == peer:
                own.shutdown(socket.SHUT_RDWR)
                return True
        return False

    def _peer(self, descriptor: int, number: int) -> Peer | None:
        with suppress(OSError), _duplicate(descriptor) as own:
            here = own.getsockname()  # by the socket's real kind: for a Unix socket a path
            if os.fstat(own.fileno()).st_ino == number and isinstance(here, tuple) and here[1] == self._port:
                return _peer_of(own)
        return None


def parse_peer(peer: str) -> Peer | None:
    """The same of gRPC's `context.peer()`: `ipv4:192.0.2.7:5678`, `ipv6:%5B2001:db8::7%5D:5678`, `unix:`."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    return (_plain(host.strip("[]")), int(port)) if kind in {"ipv4", "ipv6"} else None


def _number(descriptor: int) -> int | None:
    try:
        target = os.readlink(f"{DESCRIPTORS}/{descriptor}")  # noqa: PTH115 - as above
    except OSError:  # closed meanwhile
        return None
    found = _SOCKET.fullmatch(target)
    return int(found[1]) if found else None


def _duplicate(descriptor: int) -> socket.socket:
    own = os.dup(descriptor)
    try:
        # Python would ask for the real kind with three more calls. This one has room for all addresses.
        return socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, own)
    except OSError:
        os.close(own)
        raise


def _peer_of(own: socket.socket) -> Peer:
    host, port = own.getpeername()[:2]
    return _plain(host), port


def _plain(host: str) -> str:
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or address)
