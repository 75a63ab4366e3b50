"""Checks that the server of each webhook takes connections. Nothing is posted."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from spillover.common.errors import UnavailableError
from spillover.common.net.addresses import is_loopback
from spillover.common.net.post import connected, trusted
from spillover.edge.config import WebhookConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, warning

LIMIT_S = 5.0


def check_webhook(key: str, sink: WebhookConfig, _case: Case) -> Iterator[Finding]:
    """The server of one sink, which `key` names. The URL may be a secret: its host alone is shown."""
    parts = urlsplit(sink.url)
    host = parts.hostname or ""
    try:
        with connected(sink.url, LIMIT_S, trusted(sink.ca)):
            pass
    except (UnavailableError, OSError) as error:
        yield failed("webhook", f"{key}: {error}", "check url, ca, and whether the server runs")
        return
    if parts.scheme == "http" and not is_loopback(f"{host}:80"):
        yield warning("webhook", f"{key}: {host}: posts are signed, not encrypted", "use https://")
    yield ok("webhook", f"{host} takes connections; nothing was posted")
