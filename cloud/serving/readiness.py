"""Whether the server is ready, and if not, why: what health checks, ServerReady and `/readyz` all say."""

import asyncio
from collections.abc import Iterable

from spillover.common.log import get_logger

LOADING = "models are still being loaded"
DRAINING = "the server is stopping"


class Readiness:
    """The reasons for which the server is not ready; none: it is.

    Belongs to the event loop; `reasons` may be read on any thread.
    """

    def __init__(self) -> None:
        self.reasons: tuple[str, ...] = (LOADING,)
        self.change = asyncio.Event()
        """Set at the next change, and then replaced: take it, look at `reasons`, then wait for it."""
        self._draining = False
        self._log = get_logger("server")

    @property
    def ready(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons

    def missing(self, reasons: Iterable[str]) -> None:
        """From now on these are missing; the loading is over."""
        if not self._draining:
            self._become(tuple(reasons))

    def drain(self) -> None:
        """Not ready from now on, whatever comes."""
        self._draining = True
        self._become((DRAINING,))

    def _become(self, reasons: tuple[str, ...]) -> None:
        if reasons == self.reasons:
            return
        self.reasons = reasons
        if not reasons:
            self._log.info("ready")
        elif not self._draining:
            self._log.warning("not ready", because="; ".join(reasons))
        self.change.set()
        self.change = asyncio.Event()
