"""A daemon with a live view before a white object that walks, and clients of its streams."""

import http.client
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import msgspec
import numpy as np

from spillover.common.types import Detections, Image
from spillover.edge.daemon import Daemon
from tests.support.processes import free_port
from tests.support.scripted_cloud import PATIENCE_S
from tests.support.tracked import ScriptedDetector, Street, until

FRAMES, FPS, SIDE = 60, 10, 48
"""Frames of the clip, which begins again; frames a second; pixels of the object's side."""
WIDTH, HEIGHT, TOP = 320, 240, 96
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def where(number: int) -> tuple[int, int, int, int]:
    """The object's place in a frame: it walks from left to right."""
    left = 8 + 3 * (number % FRAMES)
    return left, TOP, left + SIDE, TOP + SIDE


def sees(number: int) -> Detections:
    """The truth of a frame."""
    box = np.array([where(number)], np.float32)
    return Detections(box, np.array([0.9], np.float32), np.array([0], np.int32))


class LiveStreet:
    """A running daemon whose page is at `address`."""

    def __init__(
        self, daemon: Daemon, address: str, clip: Path, context: ssl.SSLContext | None = None
    ) -> None:
        self.daemon = daemon
        self.address = address
        self.clip = clip
        self.context = context

    def get(
        self,
        path: str,
        headers: Mapping[str, str] = NO_HEADERS,
        method: str = "GET",
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of one request."""
        with self.stream(path, headers, method, body) as answer:
            return answer.status, answer.read()

    @contextmanager
    def stream(
        self,
        path: str,
        headers: Mapping[str, str] = NO_HEADERS,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer to be read in parts; the client goes at the end."""
        with opened(self.address, path, headers, method, body, self.context) as answer:
            yield answer


@contextmanager
def opened(
    address: str,
    path: str,
    headers: Mapping[str, str] = NO_HEADERS,
    method: str = "GET",
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """An answer to be read in parts; the client goes at the end."""
    host, _, port = address.rpartition(":")
    connection = (
        http.client.HTTPSConnection(host, int(port), timeout=PATIENCE_S, context=context)
        if context
        else http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    )
    try:
        connection.request(method, path, body, headers=dict(headers))
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


@contextmanager
def live_street(
    folder: Path,
    cameras: int = 1,
    lost: str = "",
    context: ssl.SSLContext | None = None,
    **sections: Any,
) -> Iterator[LiveStreet]:
    """A daemon, edge alone and without tracking unless told otherwise, that runs until the end of the body.

    `lost` is a camera beside those of the clip, which is not there. `context` is what its clients trust.
    """
    place = Street(folder)
    for number in range(FRAMES):
        picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        left, top, right, bottom = where(number)
        picture[top:bottom, left:right] = 255
        place.add(picture)
    address = f"127.0.0.1:{free_port()}"
    camera = {"source": str(place.clip), "pace": "realtime", "fps": FPS, "loop": True}
    base: dict[str, Any] = {"tracking": None, "mode": "edge_only", "metrics_address": address}
    base |= {"live_view": True, "device_id": "pole-7", "camera": camera}
    if cameras > 1:
        several = [camera | {"camera_id": f"cam{number}"} for number in range(cameras)]
        gone = [{"camera_id": lost, "source": "http://127.0.0.1:1/"}] if lost else []
        base |= {"cameras": several + gone, "camera": None}
    every = frozenset(range(FRAMES))  # each frame is in doubt, so that mode hybrid sends it
    config = place.config()
    wanted = msgspec.to_builtins(config) | base | sections
    detector = ScriptedDetector(sees, every if wanted["mode"] == "hybrid" else frozenset())
    daemon = place.daemon(detector, msgspec.convert(wanted, type(config)))
    runner = threading.Thread(target=daemon.run)
    runner.start()
    try:
        until(lambda: daemon.metrics.frames_captured > 0)
        yield LiveStreet(daemon, address, place.clip, context)
    finally:
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
    assert not runner.is_alive()


def pictures(answer: http.client.HTTPResponse) -> Iterator[Image]:
    """The pictures of a stream as they come."""
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].encode()
    read = b""
    while part := answer.read1():
        read += part
        *whole, read = read.split(b"--" + boundary + b"\r\n")
        for one in whole:
            if jpeg := one.partition(b"\r\n\r\n")[2]:
                image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                assert image is not None
                yield image.astype(np.uint8)


def events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Names and data of server-sent events as they come."""
    name = ""
    while line := answer.readline():
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").strip().decode()
        elif line.startswith(b"data: "):
            yield name, msgspec.json.decode(line.removeprefix(b"data: "))
