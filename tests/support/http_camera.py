"""A camera on the network that every machine can run: MJPEG over HTTP, each picture unlike the one before."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

_BOUNDARY = "picture"


class HttpCamera:
    """Serves at `address` (`host:port`; port 0: any) from `start` to `stop`, as often as both are called.

    `url` is a source for OpenCV. Pictures have `width` x `height` pixels and come `fps` times a second.
    """

    def __init__(
        self, address: str = "127.0.0.1:0", width: int = 64, height: int = 48, fps: float = 20.0
    ) -> None:
        self._host, port = address.rsplit(":", 1)
        self._port = int(port)
        self._size = width, height
        self._period_s = 1 / fps
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where it serves, or last served."""
        return f"http://{self._host}:{self._port}/camera.mjpg"

    def start(self) -> None:
        """Listen; returns when it does."""
        self._stopping = stopping = threading.Event()
        jpegs, period_s = self._jpegs(), self._period_s

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Send pictures until the client or the camera goes."""
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
                self.end_headers()
                number = 0
                while not stopping.wait(period_s):
                    jpeg = jpegs[number % len(jpegs)]
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                    except OSError:
                        return
                    number += 1

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

        self._server = Server((self._host, self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """End every stream and listen no more."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def _jpegs(self) -> list[bytes]:
        width, height = self._size
        rng = np.random.default_rng(0)
        pictures = (rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(8))
        return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
