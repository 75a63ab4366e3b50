"""What `/livez` and `/readyz` answer, and the event loop's heartbeat, which `/livez` and systemd watch."""

import asyncio
import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from spillover.cloud.serving.readiness import Readiness
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
