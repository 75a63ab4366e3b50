"""Checks each webhook: its secret is readable and kept, its server takes connections. Nothing is posted."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.files import exposure
from spillover.common.net.addresses import is_loopback
from spillover.common.net.post import connected, trusted
from spillover.common.net.reload import read_secret
from spillover.edge.config import WebhookConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, warning
from spillover.edge.sinks.webhook import signature

LIMIT_S = 5.0


def check_webhook(key: str, sink: WebhookConfig, _case: Case) -> Iterator[Finding]:
    """The server of one sink, which `key` names. The URL may be a secret: its host alone is shown."""
    parts, secret = urlsplit(sink.url), Path(sink.secret_file).expanduser()
    host = parts.hostname or ""
    try:
        signature(read_secret(secret, f"{key}.secret_file"), "", 0, b"")
    except ConfigError as error:
        yield failed("webhook", str(error), "write the secret into it, and let this user read it")
        return
    if why := exposure(secret):
        problem, _, cure = why.rpartition(": ")
        yield warning("webhook", f"{secret} {problem}", f"{cure} {secret}")
    try:
        with connected(sink.url, LIMIT_S, trusted(sink.ca)):
            pass
    except (UnavailableError, OSError) as error:
        yield failed("webhook", f"{key}: {error}", "check url, ca, and whether the server runs")
        return
    if parts.scheme == "http" and not is_loopback(f"{host}:80"):
        yield warning("webhook", f"{key}: {host}: posts are signed, not encrypted", "use https://")
    yield ok("webhook", f"{host} takes connections; nothing was posted")
