"""The server under test: a process of this test, or one that runs elsewhere."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
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
    """Its address; `pid` and `gpu` only where it is a process of this test."""

    address: str
    pid: int | None
    gpu: GpuMeter | None = None


@contextlib.contextmanager
def server_under_test(part: CloudPart, cloud_model: str, out: Path) -> Iterator[Server]:
    """Start a server on the loopback interface, or use the one at `part.address`.

    Raises:
        ProcessFailedError: it did not become ready; the text holds the end of its log.
        UnavailableError: nothing answers at `part.address`.
    """
    if part.address:
        wait_until_reachable(part.address, "cloud.address")
        yield Server(part.address, None)
        return
    folder = find_model_folder(cloud_model).absolute()
    models = {"repository": str(folder.parent.parent), "load": [f"{folder.parent.name}@{folder.name}"]}
    with cloud_running(merged({"models": models}, part.config), out) as cloud, open_gpu_meter() as gpu:
        yield Server(cloud.address, cloud.pid, gpu)


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
