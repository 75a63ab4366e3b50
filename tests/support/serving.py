"""A real server in this process, on loopback, with its event loop on a thread of its own."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import msgspec
import numpy as np

from spillover.cloud.config import CloudConfig
from spillover.cloud.models.loader import OpenModel, open_entry
from spillover.cloud.server import Running, serve
from spillover.common.images import encode_jpeg
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc

CALL_S = 30.0
"""The deadline of test calls: long, so that a slow machine fails no test."""


def cloud_config(repository: object, **changes: object) -> CloudConfig:
    """A configuration for tests: any free port, one thread, no metrics endpoint."""
    base = {
        "listen": "127.0.0.1:0",
        "metrics": None,
        "models": {"repository": str(repository)},
        "session": {"threads": 1},
    }
    return msgspec.convert(base | changes, CloudConfig)


@contextmanager
def serving(
    config: CloudConfig, open_model: OpenModel = open_entry, hanging: Sequence[str] = ()
) -> Iterator[Running]:
    """A server that answers while inside; errors of its start are raised here.

    `hanging` is what it must leave behind at its end, by name: by default nothing.
    """
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()
    found: list[Running] = []
    left_behind: list[str] = []
    errors: list[BaseException] = []

    def on_ready(server: Running) -> None:
        found.append(server)
        ready.set()

    def run() -> None:
        try:
            left_behind.extend(loop.run_until_complete(serve(config, stop, on_ready, open_model)))
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(60)
    try:
        if errors:
            raise errors[0]
        yield found[0]
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)
    if errors:
        raise errors[0]
    assert left_behind == list(hanging)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true within a limit; polled."""
    end_s = time.monotonic() + CALL_S
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def stub_of(server: Running) -> Iterator[pb_grpc.SpilloverStub]:
    """A client of the server's own service."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield pb_grpc.SpilloverStub(channel)


def jpeg_of(bgr: tuple[int, int, int], width: int = 64, height: int = 48) -> bytes:
    """A picture of one colour."""
    return encode_jpeg(np.full((height, width, 3), bgr, np.uint8), 90).data


def request_for(jpeg: bytes, model: str = "", **fields: Any) -> pb.InferRequest:
    """A request with one picture."""
    image = pb.EncodedImage(format=pb.EncodedImage.FORMAT_JPEG, data=jpeg)
    return pb.InferRequest(frame_id="f1", model=pb.ModelRef(name=model), image=image, **fields)
