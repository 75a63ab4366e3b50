"""A web server that somebody posts to: it keeps what comes, and answers as it is told."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SILENT = 0
"""In place of a status: the answer never ends, and comes a byte at a time."""


@dataclass
class Posted:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebServer:
    """`answers` are statuses of the next answers; 204 once there are none."""

    address: str = ""
    answers: list[int] = field(default_factory=list)
    retry_after: str = ""
    posts: list[Posted] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)


@contextmanager
def web_server(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[WebServer]:
    """Serve on loopback; with `tls` over HTTPS."""
    state = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Keep the request, and answer."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.posts.append(Posted(self.path, headers, body))
            status = state.answers.pop(0) if state.answers else 204
            if status == SILENT:
                while not state.ends.wait(0.05):
                    self.wfile.write(b"H")
                return
            self.send_response(status)
            if state.retry_after:
                self.send_header("Retry-After", state.retry_after)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went is no error of ours."""

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        state.address = f"localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            state.ends.set()
            server.shutdown()
            thread.join()
