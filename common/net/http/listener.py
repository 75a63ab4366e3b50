"""The listening socket: accepts clients as long as there is room, and serves each on a thread of its own."""

import errno
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from prometheus_client.exposition import ThreadingWSGIServer

from spillover.common.net.addresses import UNIX, split_host_port
from spillover.common.net.http.handler import Handler
from spillover.common.net.http.places import MAX_CONNECTIONS, Places
from spillover.common.net.unix import SocketFile

POLL_S = 0.2
_RESERVE = 4
"""Descriptors kept for clients that come when the process has no other left."""


class Listener(ThreadingWSGIServer):
    """One thread per request, within the limits."""

    def __init__(
        self,
        address: str,
        context: Callable[[], ssl.SSLContext | None],
        clock: Callable[[], float],
    ) -> None:
        self._file = SocketFile(Path(address.removeprefix(UNIX))) if address.startswith(UNIX) else None
        target = ("", 0) if self._file else split_host_port(address)
        if self._file:
            self.address_family = socket.AF_UNIX
            self.request_queue_size = MAX_CONNECTIONS
        elif ":" in target[0]:
            self.address_family = socket.AF_INET6
        self._context = context
        self.places = Places(clock)
        self._reserve: list[socket.socket] = []
        super().__init__(target, Handler)
        self._refill_reserve()

    def serve_one(self) -> bool:
        """Wait a moment for a client and serve it; False when the system cannot give it a descriptor now."""
        self._refill_reserve()
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(POLL_S * 1000):
            return True
        try:
            request, address = self._accept()
        except OSError as error:
            return error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL}
        try:
            self.process_request(request, address)
        except (OSError, RuntimeError):  # it has gone, or there is no thread for it
            self.shutdown_request(request)
        return True

    def cut_overdue(self) -> None:
        """Shut down connections that take too long, which ends their threads."""
        for connection in self.places.overdue():
            connection.shut()

    def cut_all(self) -> None:
        """Shut down every connection."""
        for connection in self.places.all():
            connection.shut()

    def server_close(self) -> None:
        """Let go of the port, or the socket's file, and of the reserve."""
        super().server_close()
        if self._file:
            self._file.remove()
        while self._reserve:
            self._reserve.pop().close()

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name, as HTTPServer does; it is not needed."""
        if self._file:
            self._file.bind(self.socket)
            self.server_name, self.server_port = "localhost", 0
        else:
            TCPServer.server_bind(self)
            self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def server_activate(self) -> None:
        """Listen; only then a Unix socket gets its name."""
        super().server_activate()
        if self._file:
            self._file.publish()

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; the thread that serves it does the handshake."""
        connection, address = super().get_request()
        if self._file:
            address = ("unix", 0)  # clients of a Unix socket have none
        if context := self._context():
            try:
                connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            except OSError:
                connection.close()
                raise
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve the connection if there is a place for it; else close it."""
        if not self.places.take(request, client_address[0]):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self.places.leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve the connection, then release its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """Ignore clients that disconnect or fail the handshake."""

    def _accept(self) -> tuple[Any, Any]:
        """Accept a connection, with a descriptor of the reserve if the process has no other."""
        try:
            return self.get_request()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._reserve:
                raise
            self._reserve.pop().close()
            return self.get_request()

    def _refill_reserve(self) -> None:
        with suppress(OSError):  # none to be had: later
            while len(self._reserve) < _RESERVE:
                self._reserve.append(socket.socket(self.address_family))
