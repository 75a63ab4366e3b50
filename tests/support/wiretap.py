"""A TCP relay on loopback that keeps every byte which passed from client to server."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wiretap:
    """Relays connections to `target` (`host:port`) and keeps what clients sent."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sent = bytearray()
        self._sockets = [self._listener]
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def sent(self) -> bytes:
        """All bytes from clients to the server so far."""
        with self._lock:
            return bytes(self._sent)

    def serve(self) -> None:
        """Accept until closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for source, sink, keep in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, keep), daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _pump(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        try:
            while data := source.recv(65536):
                if keep:
                    with self._lock:
                        self._sent += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def wiretap(target: str) -> Iterator[Wiretap]:
    """A relay while the block lasts."""
    tap = Wiretap(target)
    thread = threading.Thread(target=tap.serve)
    thread.start()
    try:
        yield tap
    finally:
        tap.close()
        thread.join(10)
