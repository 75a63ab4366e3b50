"""The HTTP pages `/metrics`, `/livez` and `/readyz`, and the heartbeat of the event loop."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from spillover.cloud.security.roles import METRICS_PAGE
from spillover.cloud.serving.readiness import Readiness
from spillover.common.log import get_logger
from spillover.common.net.http import Admit, HttpServer
from spillover.common.systemd import Notifier

BEAT_S = 1.0
STUCK_S = 10.0
"""An event loop that has not taken its turn for so many seconds is stuck."""

_OK, _NOT_OK = "200 OK", "503 Service Unavailable"


class Heartbeat:
    """Beats on the event loop; every other thread can see by it whether the loop still turns.

    `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beaten_s = clock()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._beaten_s

    async def run(self, readiness: Readiness, notifier: Notifier) -> None:
        """Beat until cancelled, and tell systemd that the loop is alive and what it does."""
        period_s = min(BEAT_S, notifier.watchdog_s / 3) if notifier.watchdog_s else BEAT_S
        told: tuple[str, ...] | None = None
        while True:
            self._beaten_s = self._clock()
            if notifier.watchdog_s:
                notifier.alive(status_of(readiness))
            elif told != (told := readiness.reasons):
                notifier.status(status_of(readiness))
            await asyncio.sleep(period_s)


def status_of(readiness: Readiness) -> str:
    """One line for systemd: `ready`, or why it is not."""
    return "; ".join(readiness.reasons) or "ready"


def open_pages(
    address: str,
    registry: CollectorRegistry,
    readiness: Readiness,
    heartbeat: Heartbeat,
    context: Callable[[], ssl.SSLContext | None],
    admit: Admit | None,
) -> HttpServer:
    """Serve Prometheus' page to whom `admit` lets see it, and the probes to everybody.

    Open them before models are loaded, so that who probes can tell a server that loads from one that hangs.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    server = HttpServer(
        address,
        {METRICS_PAGE: make_wsgi_app(registry)},
        key="metrics",
        open_routes={"/livez": livez(heartbeat), "/readyz": readyz(readiness)},
        context=context,
        admit=admit,
    )
    server.start()
    get_logger("server").info("loading", metrics=server.address)
    return server


def livez(heartbeat: Heartbeat) -> WSGIApplication:
    """200 while the event loop turns."""

    def state() -> list[str]:
        silent_s = heartbeat.silent_s
        return [f"the event loop has not answered for {silent_s:.0f} s"] if silent_s > STUCK_S else []

    return _page(state)


def readyz(readiness: Readiness) -> WSGIApplication:
    """200 when the server is ready, else 503 and the reasons, one a line."""
    return _page(lambda: readiness.reasons)


def _page(state: Callable[[], Iterable[str]]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        del environ
        reasons = list(state())
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
        start_response(_NOT_OK if reasons else _OK, headers)
        return ["".join(f"{line}\n" for line in reasons or ["ok"]).encode()]

    return answer
