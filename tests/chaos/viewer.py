"""Somebody who opens the live view of an edge, looks for a while, goes, and comes again."""

import http.client
import random
import threading

from tests.support.live_view import events, opened, pictures

_LOOKS_S, _AWAY_S = (5.0, 20.0), (2.0, 15.0)


class Viewer:
    """Comes and goes from `start` to `stop`, on two threads at most; now and then leaves in the middle."""

    def __init__(self, address: str, rng: random.Random) -> None:
        self._address = address
        self._rng = rng
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self.visits = 0
        self.pictures = 0
        self.turned_away = 0
        """Visits that found no page, or none to the end."""

    def start(self) -> None:
        """Come for the first time."""
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """Go for good."""
        self._stopping.set()
        self._thread.join(limit_s)

    def faults(self) -> list[str]:
        """What this viewer has to complain of."""
        if self.visits and not self.turned_away and self.pictures >= self.visits:
            return []
        return [f"{self.visits} visits saw {self.pictures} pictures, {self.turned_away} were turned away"]

    def _run(self) -> None:
        while not self._stopping.is_set():
            leave = threading.Event()
            timer = threading.Timer(self._rng.uniform(*_LOOKS_S), leave.set)
            timer.start()
            try:
                self._look(leave)
            except (OSError, http.client.HTTPException, AssertionError):
                self.turned_away += 1
            finally:
                timer.cancel()
            self._stopping.wait(self._rng.uniform(*_AWAY_S))

    def _look(self, leave: threading.Event) -> None:
        self.visits += 1
        for path in ("/", "/live.js", "/live.css", "/api/v1/events", "/api/v1/results"):
            with opened(self._address, path) as page:
                page.read()
        with opened(self._address, "/live.mjpg") as shown, opened(self._address, "/events") as told:
            seen = pictures(shown)
            parts = events(told)
            while not (leave.is_set() or self._stopping.is_set()):
                assert next(seen, None) is not None
                assert next(parts, None) is not None
                self.pictures += 1
