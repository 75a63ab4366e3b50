"""Says once in the log what a person has to mend for the cloud to answer: a name, a task, the way there."""

import threading

from spillover.common.log import get_logger
from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.call_status import EXCEEDS_BUCKET, TOO_LARGE
from spillover.edge.uplink.outcome import CallFailure, CallOutcome

_log = get_logger("uplink")

_MENDED_BY_PEOPLE = frozenset(
    {"not_found", "bad reply", "unimplemented", "invalid_argument", "unfit", TOO_LARGE, EXCEEDS_BUCKET}
)
"""Ends of a call that repeat themselves until somebody changes a configuration.

Of a refused identity `edge.uplink.channel` gives advice.
"""


class OperatorAlerts:
    """Hears of every end of a call, and warns of each such status once until a call succeeds again.

    Thread-safe. That the link fails is said when the breaker opens: a single lost call is nobody's business.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._paused = False
        self._last: CallFailure | None = None

    def ended(self, outcome: CallOutcome) -> None:
        """A call came to its end."""
        with self._lock:
            if not isinstance(outcome, CallFailure):
                self._said.clear()
                self._last = None
                return
            self._last = outcome
            if outcome.status not in _MENDED_BY_PEOPLE or outcome.status in self._said:
                return
            self._said.add(outcome.status)
        _log.warning("the cloud does not answer", status=outcome.status, detail=outcome.detail)

    def turned(self, phase: BreakerPhase) -> None:
        """The breaker changed; half-open it only tries."""
        if phase is BreakerPhase.OPEN and not self._paused:
            self._paused = True
            last = self._last or CallFailure("no answer in time")
            _log.warning("calls to the cloud pause", status=last.status, detail=last.detail)
        elif phase is BreakerPhase.CLOSED:
            self._paused = False
            _log.info("the cloud answers again")
