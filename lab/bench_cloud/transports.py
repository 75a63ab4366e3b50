"""What gRPC in Python costs without a server behind it: asyncio and threads, each with an echo and no more.

Run as `python -m lab.bench_cloud.transports`; needs h2load. Prints the processor time a request of each.
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

from common.oip import reply_to_pb, request_from_pb
from common.pb import open_inference_pb2 as pb
from common.tensors import TensorReply
from lab.bench_cloud.contenders import free_port, served
from lab.bench_cloud.load import burst, write_body
from lab.bench_cloud.networks import NETWORKS
from lab.console import open_console

_KINDS = ("asyncio", "threads")
_CONCURRENCIES = (1, 16, 64)
_ROUNDS, _REQUESTS, _THREADS = 5, 1000, 64


def compare() -> None:
    """Measure both in turns and print medians."""
    found: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="transports-") as folder, ExitStack() as stack:
        work = Path(folder)
        body = work / "identity.body"
        write_body(NETWORKS["identity"], body)
        servers = []
        for kind in _KINDS:
            address = f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "lab.bench_cloud.transports", kind, address]
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


def _service(behaviour: Callable[[pb.ModelInferRequest, Any], object]) -> Any:  # noqa: ANN401 - a generic handler
    method = grpc.unary_unary_rpc_method_handler(
        behaviour, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})


async def _serve_asyncio(address: str) -> None:
    async def behaviour(request: pb.ModelInferRequest, _: object) -> pb.ModelInferResponse:
        return echo(request)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_service(behaviour),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def _serve_threads(address: str) -> None:
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    server.add_generic_rpc_handlers((_service(lambda request, _: echo(request)),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["asyncio", where]:
            asyncio.run(_serve_asyncio(where))
        case ["threads", where]:
            _serve_threads(where)
        case _:
            compare()
