"""Generators on other hosts: each plays its share of the edges and measures; the test gathers the figures.

The wire is gRPC with MessagePack bodies. A generator plays the jobs of anyone who can call it, so it listens
on the loopback interface unless it has a token, and sends to other machines only with --remote.
"""

import contextlib
import hmac
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import msgspec

from spillover.common.errors import SpilloverError
from spillover.lab.loadtest.server import require_loopback
from spillover.lab.loadtest.simulated.generator import GeneratorFailedError, LocalGenerator, local_generator
from spillover.lab.loadtest.simulated.job import GeneratorResult, Job, decode_job, encode_job

_SERVICE = "spillover.lab.v1.Generator"
_OPTIONS = [("grpc.max_receive_message_length", 256 * 1024 * 1024), ("grpc.max_send_message_length", -1)]
_PREPARE_LIMIT_S = 180.0
_TOKEN_KEY = "authorization"  # noqa: S105 - the name of the metadata, not a secret

Context = grpc.ServicerContext


class GeneratorServicer:
    """Plays one job at a time: `prepare` connects its edges, `go` plays it."""

    def __init__(self, token: str, *, remote: bool) -> None:
        self._token = token
        self._remote = remote
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._generator: LocalGenerator | None = None
        self._playing: LocalGenerator | None = None

    def prepare(self, request: bytes, context: Context) -> bytes:
        """Connect the edges of a job; a job prepared before is dropped."""
        self._check(context)
        try:
            job = decode_job(request)
            if not self._remote:
                require_loopback(job.server, "the job's server")
            with self._lock:
                self._stack.close()
                self._generator = self._stack.enter_context(local_generator(job))
        except (msgspec.DecodeError, SpilloverError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return b""

    def go(self, request: bytes, context: Context) -> bytes:
        """Play the prepared job, beginning in the given number of seconds; clocks of hosts need not agree."""
        self._check(context)
        with self._lock:
            generator, self._generator = self._generator, None
            if generator is None:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nothing was prepared")
            context.add_callback(generator.abort)  # when the caller is gone
            self._playing = generator
            try:
                result = generator.go(time.time() + msgspec.msgpack.decode(request, type=float))
            except SpilloverError as error:
                context.abort(grpc.StatusCode.INTERNAL, str(error))
            finally:
                self._stack.close()
        return msgspec.msgpack.encode(result)

    def close(self) -> None:
        """End the job that is running."""
        if self._playing is not None:
            self._playing.abort()
        self._stack.close()

    def _check(self, context: Context) -> None:
        given = dict(context.invocation_metadata() or ()).get(_TOKEN_KEY, "")
        if self._token and not hmac.compare_digest(str(given).encode(), f"Bearer {self._token}".encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token")


@contextlib.contextmanager
def serving_generator(listen: str, token: str, *, remote: bool) -> Iterator[str]:
    """A generator that takes jobs while the block lasts; gives its address.

    Raises:
        ConfigError: `listen` is not on the loopback interface and there is no token.
        SpilloverError: it cannot listen there.
    """
    if not token:
        require_loopback(listen, "--listen without a token")
    servicer = GeneratorServicer(token, remote=remote)
    server = grpc.server(ThreadPoolExecutor(2), options=_OPTIONS)
    methods = {
        "Prepare": grpc.unary_unary_rpc_method_handler(servicer.prepare),
        "Go": grpc.unary_unary_rpc_method_handler(servicer.go),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise SpilloverError(f"cannot listen on {listen}: {error}") from error
    server.start()
    try:
        yield f"{listen.rpartition(':')[0]}:{port}"
    finally:
        server.stop(1.0).wait(5.0)
        servicer.close()


class RemoteGenerator:
    """A `Generator` on another host, with a job prepared."""

    def __init__(self, address: str, channel: grpc.Channel, job: Job, token: str) -> None:
        self._address = address
        self._channel = channel
        self._job = job
        self._metadata = ((_TOKEN_KEY, f"Bearer {token}"),) if token else ()
        self._call("Prepare", encode_job(job), _PREPARE_LIMIT_S)

    def go(self, begin_unix_s: float) -> GeneratorResult:
        """Play the job there. Raises GeneratorFailedError."""
        delay_s = max(0.0, begin_unix_s - time.time())
        limit_s = delay_s + self._job.warm_up_s + self._job.window_s + _PREPARE_LIMIT_S
        reply = self._call("Go", msgspec.msgpack.encode(delay_s), limit_s)
        return msgspec.msgpack.decode(reply, type=GeneratorResult)

    def abort(self) -> None:
        """Cancel the call; the host there ends its workers."""
        self._channel.close()

    def _call(self, method: str, request: bytes, limit_s: float) -> bytes:
        call = self._channel.unary_unary(f"/{_SERVICE}/{method}", bytes, bytes)
        try:
            reply: bytes = call(request, timeout=limit_s, metadata=self._metadata)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed by `abort`
            if isinstance(error, ValueError):
                raise GeneratorFailedError(f"generator {self._address}: aborted") from None
            why = f"{error.code().name.lower()}: {error.details()}"
            raise GeneratorFailedError(f"generator {self._address}: {why}") from None
        return reply


@contextlib.contextmanager
def remote_generator(address: str, job: Job, token: str) -> Iterator[RemoteGenerator]:
    """The generator at `address`, its edges connected when the block begins. Raises GeneratorFailedError."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        yield RemoteGenerator(address, channel, job, token)
