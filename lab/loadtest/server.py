"""The server under test: one started here, or one that runs elsewhere."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.model.locate import find_model_folder
from spillover.lab.loadtest.config import CloudPart
from spillover.lab.loadtest.gpu import GpuMeter, open_gpu_meter
from spillover.lab.processes import running, wait_for_file
from spillover.lab.yaml_files import merged, write_yaml

_START_LIMIT_S = 60.0
_REACH_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens; `pid` and `gpu` only when it is ours."""

    address: str
    pid: int | None
    gpu: GpuMeter | None = None


@contextlib.contextmanager
def server_under_test(part: CloudPart, cloud_model: str, out: Path) -> Iterator[Server]:
    """Start a server on the loopback interface, or use the one at `part.address`.

    Raises:
        ProcessFailedError: it did not become ready; the text holds the end of its log.
        UnavailableError: nobody answers at `part.address`.
    """
    if part.address:
        wait_until_reachable(part.address, "cloud.address")
        yield Server(part.address, None)
        return
    config_path, ready, log = out / "cloud.yaml", out / "cloud.address", out / "cloud.log"
    ready.unlink(missing_ok=True)
    folder = find_model_folder(cloud_model).absolute()
    load = f"{folder.parent.name}@{folder.name}"
    models = {"repository": str(folder.parent.parent), "load": [load]}
    base = {"listen": "127.0.0.1:0", "models": models, "metrics": None}
    write_yaml(config_path, merged(base, part.config))
    with running(["cloud", "-c", str(config_path), "--ready-file", str(ready)], log) as process:
        address = wait_for_file(ready, process, log, limit_s=_START_LIMIT_S)
        with open_gpu_meter() as gpu:
            yield Server(address, process.pid, gpu)


def wait_until_reachable(address: str, what: str) -> None:
    """Open one connection, so that a wrong address is an error now and not a report of failures.

    Raises:
        UnavailableError: nobody answers there.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_REACH_LIMIT_S)
        except grpc.FutureTimeoutError:
            raise UnavailableError(
                f"{what}: nobody answers at {address} within {_REACH_LIMIT_S:.0f} s"
            ) from None


def require_loopback(address: str, what: str) -> None:
    """Refuse to send traffic to another machine unasked.

    Raises:
        ConfigError: `address` is not on the loopback interface.
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ConfigError(f"{what}: {address!r} has no address: {error}") from error
    if not all(ipaddress.ip_address(ip.partition("%")[0]).is_loopback for ip in found):
        raise ConfigError(
            f"{what}: {address!r} is another machine; a load test sends traffic there only with --remote"
        )
