"""What gRPC in Python costs without a server behind it: ways to answer, each with an echo and no more.

Run as `python -m benchmarks.cloud.transports`; needs h2load. Prints processor time a request:

- asyncio: `grpc.aio`.
- threads: a thread for each of as many requests as may wait for a batch.
- few_threads: two, which is what threads cost when none of them waits.
- callbacks: two threads that hand the request over, and an answer that is given from elsewhere
  (`experimental_non_blocking`, as grpcio-health-checking uses it): threads that need not wait.
"""

import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks.cloud.contenders import free_port, served
from benchmarks.cloud.load import burst, write_body
from benchmarks.cloud.networks import NETWORKS
from spillover.common.wire.oip import reply_to_pb, request_from_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.tensors import TensorReply
from spillover.lab.terminal import open_console

_KINDS = ("asyncio", "threads", "few_threads", "callbacks")
_CONCURRENCIES = (1, 16, 64)
_ROUNDS, _REQUESTS, _THREADS, _FEW_THREADS = 5, 1000, 64, 2


def compare() -> None:
    """Measure them in turns and print medians."""
    found: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="transports-") as folder, ExitStack() as stack:
        work = Path(folder)
        body = work / "identity.body"
        write_body(NETWORKS["identity"], body)
        servers = []
        for kind in _KINDS:
            address = f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "benchmarks.cloud.transports", kind, address]
            servers.append(stack.enter_context(served(kind, command, address, work)))
        for _ in range(_ROUNDS):
            for concurrency in _CONCURRENCIES:
                for one in servers:
                    done = burst(one.address, body, _REQUESTS, concurrency, one.processes())
                    found[concurrency, one.name].append(done.cpu_ms)
    console = open_console()
    for (concurrency, kind), cpu_ms in found.items():
        console.print(f"C={concurrency} {kind}: {statistics.median(cpu_ms):.2f} ms CPU/request")


def echo(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """The input, as the output."""
    outputs = {"OUTPUT0": request_from_pb(request).inputs["INPUT0"]}
    return reply_to_pb(TensorReply(request.model_name, "1", outputs))


def _service(handler: Any) -> Any:  # noqa: ANN401 - generic in the stubs alone
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})


def _unary(behaviour: Callable[[pb.ModelInferRequest, Any], object]) -> Any:  # noqa: ANN401 - as above
    return _service(
        grpc.unary_unary_rpc_method_handler(
            behaviour, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
        )
    )


def _called_back() -> Any:  # noqa: ANN401 - as above
    """On the wire one answer of a stream is an answer."""

    def behaviour(request: pb.ModelInferRequest, _: object, send: Callable[[object], None]) -> None:
        send(echo(request))
        send(None)

    behaviour.experimental_non_blocking = True  # type: ignore[attr-defined]  # gRPC looks for it there
    return _service(
        grpc.unary_stream_rpc_method_handler(
            behaviour,
            pb.ModelInferRequest.FromString,
            pb.ModelInferResponse.SerializeToString,
        )
    )


async def _serve_asyncio(address: str) -> None:
    async def behaviour(request: pb.ModelInferRequest, _: object) -> pb.ModelInferResponse:
        return echo(request)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_unary(behaviour),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def _serve_threads(address: str, threads: int, service: Any) -> None:  # noqa: ANN401 - as above
    server = grpc.server(ThreadPoolExecutor(threads))
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["asyncio", where]:
            asyncio.run(_serve_asyncio(where))
        case ["threads", where]:
            _serve_threads(where, _THREADS, _unary(lambda request, _: echo(request)))
        case ["few_threads", where]:
            _serve_threads(where, _FEW_THREADS, _unary(lambda request, _: echo(request)))
        case ["callbacks", where]:
            _serve_threads(where, _FEW_THREADS, _called_back())
        case _:
            compare()
