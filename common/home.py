"""Location of prepared models, downloads and status sockets: one folder, `$SPILLOVER_HOME` or a default."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SERVICE_HOME = Path("/var/lib/spillover")
"""The folder of daemons that run as services, as deploy/systemd sets it up."""


def cache_home(environ: Mapping[str, str] | None = None) -> Path:
    """`$SPILLOVER_HOME`, else the platform's cache folder (XDG on Linux, ~/Library/Caches on macOS)."""
    env = os.environ if environ is None else environ
    if named := env.get("SPILLOVER_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "spillover"
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "spillover"


def models_home(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of prepared models inside the cache folder."""
    return cache_home(environ) / "models"


def status_socket(device_id: str, environ: Mapping[str, str] | None = None) -> Path:
    """Where an edge daemon of that name listens for questions about its status."""
    return cache_home(environ) / f"edge-{device_id}.sock"


def status_sockets(device_id: str, service_home: Path = SERVICE_HOME) -> list[Path]:
    """Where daemons of that name may listen: in this user's folder, then in those of services."""
    own = status_socket(device_id)
    of_services = [service_home / own.name, *sorted(service_home.glob(f"*/{own.name}"))]
    return [path for path in dict.fromkeys([own, *of_services]) if path.exists()]
