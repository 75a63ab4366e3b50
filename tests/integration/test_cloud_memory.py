"""What calls may take of the memory, shown on a real process whose address space is limited."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property

import grpc
import numpy as np
import pytest

from spillover.common.security.tokens import add_token
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.attack.wire import Connection, pump
from tests.attack.world import client_tls, memory
from tests.support.h2 import framed
from tests.support.models import colour_classifier, identity
from tests.support.pki import Pki, bearer
from tests.support.processes import LIMIT_S, cloud_process
from tests.support.serving import CALL_S, jpeg_of, request_for

INFER, MODEL_INFER = "/spillover.v1.Spillover/Infer", "/inference.GRPCInferenceService/ModelInfer"
CHECK = "/grpc.health.v1.Health/Check"
MEMORY_BYTES = 256 << 20
WITHHELD = framed(bytes(15 << 20))[:-1]
WIDE = 2_000_000
"""Elements of a row of the network `wide`: 8 MB in, 8 MB out."""


class Server:
    """A server process that may grow by `MEMORY_BYTES` and 20 %, and somebody who is to be answered by it."""

    def __init__(self, process, address, channel, metadata=()):
        self.process, self.address = process, address
        self._infer = pb_grpc.SpilloverStub(channel).Infer
        self._metadata = metadata
        for _ in range(50):  # so that every thread has what it keeps
            self.is_answering()
        with pytest.raises(grpc.RpcError):  # of a large message too: the C library keeps some of the first
            self._infer(request_for(bytes(15 << 20)), timeout=CALL_S, metadata=metadata)
        self.at_rest = self.resident
        limit = memory(process.pid)["VmSize"] + int(1.2 * MEMORY_BYTES)
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))

    @property
    def resident(self):
        """Bytes in use now; 0 once it is dead."""
        return memory(self.process.pid)["VmRSS"]

    @cached_property
    def where(self):
        """Host and port."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def is_answering(self):
        """A good device gets its answer; asked to come back later it does, as devices do."""
        end_s = time.monotonic() + CALL_S
        while True:
            try:
                request = request_for(jpeg_of((0, 0, 255)))
                reply = self._infer(request, timeout=CALL_S, metadata=self._metadata)
                return reply.classification.class_id[0] == 0
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > end_s:
                    raise
                time.sleep(0.05)

    def comes_back(self):
        """Whether its size gets near to that at rest again, within a limit."""
        end_s = time.monotonic() + LIMIT_S
        while self.resident > 1.2 * self.at_rest and time.monotonic() < end_s:
            self.is_answering()
            time.sleep(0.1)
        return 0 < self.resident <= 1.2 * self.at_rest


@contextmanager
def bounded(folder, **changes) -> Iterator[Server]:
    """A plain server."""
    config = {"limits": {"memory_bytes": MEMORY_BYTES}, "session": {"threads": 1}} | changes
    with cloud_process(folder, **config) as (process, address), grpc.insecure_channel(address) as channel:
        yield Server(process, address, channel)


@contextmanager
def pumping(connections) -> Iterator[None]:
    """Their bytes move while inside."""
    over = threading.Event()
    thread = threading.Thread(target=pump, args=(connections, over.is_set, LIMIT_S))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for connection in connections:
            connection.close()


def withhold(connections, path, calls, metadata=()):
    """Calls whose message of 15 MB never ends."""
    streams = []
    pump(connections, lambda: all(connection.settled for connection in connections), CALL_S)
    for connection in connections:
        for _ in range(calls):
            stream = connection.open(path, metadata)
            connection.data(stream, WITHHELD)
            streams.append(stream)
    return streams


def test_messages_that_never_end_take_no_more_than_the_memory_says(tmp_path):
    """90 of them over three connections: the server lives, answers another, and is small again after."""
    colour_classifier(tmp_path)
    with bounded(tmp_path) as server:
        connections = [Connection(server.where) for _ in range(3)]
        withhold(connections, INFER, 30)
        pump(connections, lambda: not server.resident, 3.0)  # as much of them as the server takes
        with pumping(connections):
            for _ in range(20):
                assert server.is_answering()
        assert server.comes_back(), (server.resident, server.at_rest)


def test_strangers_with_open_methods_take_no_more_than_their_part(tmp_path):
    """The same to Health/Check without a token, which everybody may call: a few bytes of it are wanted."""
    colour_classifier(tmp_path)
    pki, tokens = Pki(tmp_path / "pki"), tmp_path / "tokens.yaml"
    metadata = bearer(add_token(tokens, "camera", "device", None))
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    limits = {"memory_bytes": MEMORY_BYTES}
    with (
        cloud_process(tmp_path, limits=limits, security=security) as (process, address),
        grpc.secure_channel(address, pki.credentials()) as channel,
    ):
        server = Server(process, address, channel, metadata)
        connections = [Connection(server.where, client_tls(pki, "")) for _ in range(3)]
        withhold(connections, CHECK, 30)
        with pumping(connections):
            for _ in range(20):
                assert server.is_answering()
        assert server.comes_back(), (server.resident, server.at_rest)


def test_of_a_revoked_device_nothing_is_read(tmp_path):
    """Its call is refused by its headers although its message never ends; it costs nothing."""
    colour_classifier(tmp_path)
    pki = Pki(tmp_path / "pki")
    for name in ("camera", "stolen"):
        pki.issue(name)
    pki.authority.revoke("stolen")
    limits = {"memory_bytes": MEMORY_BYTES}
    with (
        cloud_process(tmp_path, limits=limits, security={"tls": pki.server_tls(mutual=True)}) as (
            process,
            address,
        ),
        grpc.secure_channel(address, pki.credentials("camera")) as channel,
    ):
        server = Server(process, address, channel)
        connection = Connection(server.where, client_tls(pki, "stolen"))
        streams = withhold([connection], INFER, 20)
        pump([connection], lambda: all(stream.status for stream in streams), CALL_S)
        assert {stream.status for stream in streams} == {"UNAUTHENTICATED"}
        assert server.resident < server.at_rest + (15 << 20)
        assert server.is_answering()
        connection.close()


def test_answers_that_nobody_reads_take_no_more_than_the_memory_says(tmp_path):
    """60 answers of 8 MB on connections whose window is shut: their calls end, and all memory comes back."""
    colour_classifier(tmp_path)
    identity(tmp_path, "wide", width=WIDE)
    tensors = {"INPUT0": np.ones((1, WIDE), np.float32)}
    message = request_to_pb(TensorRequest("wide", tensors)).SerializeToString()
    limits = {"memory_bytes": MEMORY_BYTES, "write_timeout_s": 3.0}
    with bounded(tmp_path, limits=limits, models=_default(tmp_path)) as server, ExitStack() as stack:
        connections = [Connection(server.where, window=0, reads=False) for _ in range(2)]
        pump(connections, lambda: all(connection.settled for connection in connections), CALL_S)
        streams = [one.call(MODEL_INFER, message) for _ in range(30) for one in connections]
        stack.enter_context(pumping(connections))
        end_s = time.monotonic() + LIMIT_S
        while not all(stream.status for stream in streams) and time.monotonic() < end_s:
            assert server.is_answering()
        assert "CANCELLED" in {stream.status for stream in streams}
        stack.close()
        assert server.comes_back(), (server.resident, server.at_rest)


def _default(folder):
    return {"repository": str(folder), "default": "colour"}


@pytest.mark.parametrize("held", ["a message", "an answer"])
def test_freed_memory_is_given_back_while_the_connection_stays(tmp_path, held):
    """Messages that came and went leave the process as large as it was, connections or not."""
    colour_classifier(tmp_path)
    identity(tmp_path, "wide", width=WIDE)
    tensors = {"INPUT0": np.ones((1, WIDE), np.float32)}
    message = request_to_pb(TensorRequest("wide", tensors)).SerializeToString()
    with bounded(tmp_path, models=_default(tmp_path)) as server:
        connection = Connection(server.where)
        path = MODEL_INFER if held == "an answer" else INFER
        for _ in range(10):
            stream = connection.call(path, message)
            pump([connection], lambda stream=stream: bool(stream.status), CALL_S)
        assert server.comes_back(), (server.resident, server.at_rest)
        connection.close()
