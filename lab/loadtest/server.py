"""The server under test: one started here, or one that runs elsewhere."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError
from common.home import models_home
from lab.loadtest.config import CloudPart
from lab.loadtest.gpu import GpuMeter, open_gpu_meter
from lab.processes import running, wait_for_file
from lab.yaml_files import merged, write_yaml

_START_LIMIT_S = 60.0


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
    """
    if part.address:
        yield Server(part.address, None)
        return
    config_path, ready, log = out / "cloud.yaml", out / "cloud.address", out / "cloud.log"
    ready.unlink(missing_ok=True)
    models = {"repository": str(models_home()), "load": [Path(cloud_model).parts[0]]}
    base = {"listen": "127.0.0.1:0", "models": models, "metrics": None}
    write_yaml(config_path, merged(base, part.config))
    with running(["cloud", "-c", str(config_path), "--ready-file", str(ready)], log) as process:
        address = wait_for_file(ready, process, log, limit_s=_START_LIMIT_S)
        with open_gpu_meter() as gpu:
            yield Server(address, process.pid, gpu)


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
