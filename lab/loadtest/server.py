"""The server under test: a process of this test, or one that runs elsewhere."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.model.locate import find_model_folder
from spillover.lab.daemons import cloud_running
from spillover.lab.files import merged
from spillover.lab.loadtest.config import CloudPart
from spillover.lab.loadtest.meters import GpuMeter, open_gpu_meter

_REACH_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """Its address; the rest only where it is a process of this test."""

    address: str
    pid: int | None
    gpu: GpuMeter | None = None
    folder: Path | None = None
    """Where its cloud.yaml and log are."""


@contextlib.contextmanager
def servers_under_test(
    part: CloudPart, cloud_models: Sequence[str], out: Path
) -> Iterator[Mapping[str, Server]]:
    """Start a server for each model on the loopback interface, or use the one at `part.address` for all.

    The first one's files are in `out`, those of others in a folder of their model's name below it.

    Raises:
        ProcessFailedError: one did not become ready; the text holds the end of its log.
        UnavailableError: nothing answers at `part.address`.
    """
    if part.address:
        wait_until_reachable(part.address, "cloud.address")
        yield dict.fromkeys(cloud_models, Server(part.address, None))
        return
    with contextlib.ExitStack() as stack, open_gpu_meter() as gpu:
        servers = {}
        for number, model in enumerate(cloud_models):
            where = out / _folder_name(model) if number else out
            where.mkdir(parents=True, exist_ok=True)
            servers[model] = stack.enter_context(_server(part, model, where, gpu))
        yield servers


@contextlib.contextmanager
def _server(part: CloudPart, cloud_model: str, out: Path, gpu: GpuMeter | None) -> Iterator[Server]:
    folder = find_model_folder(cloud_model).absolute()
    models = {"repository": str(folder.parent.parent), "load": [f"{folder.parent.name}@{folder.name}"]}
    with cloud_running(merged({"models": models}, part.config), out) as cloud:
        yield Server(cloud.address, cloud.pid, gpu, out)


def _folder_name(cloud_model: str) -> str:
    """A folder in the output for the files of a model's server; scenarios have the others."""
    return f"cloud-{find_model_folder(cloud_model).parent.name}"


def wait_until_reachable(address: str, what: str) -> None:
    """Open one connection, so that a wrong address fails before the test and not in every call of it.

    Raises:
        UnavailableError: nothing answers there.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_REACH_LIMIT_S)
        except grpc.FutureTimeoutError:
            raise UnavailableError(
                f"{what}: nothing answers at {address} within {_REACH_LIMIT_S:.0f} s"
            ) from None


def require_loopback(address: str, what: str) -> None:
    """Check that `address` is on this machine: traffic elsewhere needs --remote.

    Raises:
        ConfigError: `address` is not on the loopback interface.
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ConfigError(f"{what}: {address!r} has no address: {error}") from error
    if not all(ipaddress.ip_address(ip.partition("%")[0]).is_loopback for ip in addresses):
        raise ConfigError(
            f"{what}: {address!r} is another machine; a load test sends traffic there only with --remote"
        )
