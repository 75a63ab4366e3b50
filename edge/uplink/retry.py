"""Whether a failed call may be tried once more: only where it can still be in time, and within a budget.

The budget is a share of the calls made, so that a failing server never sees more than 1.2 times the traffic
(the "retry budget" of Finagle, and of gRPC's retry throttling, proposal A6).
"""


class RetryBudget:
    """Counts calls and retries; at any moment retries <= `share` x calls."""

    def __init__(self, share: float = 0.2) -> None:
        self._share = share
        self._calls = 0
        self._retries = 0

    def called(self) -> None:
        """A first try departed."""
        self._calls += 1

    def take(self, time_left_s: float, expected_s: float) -> bool:
        """Whether to try again now, which spends budget; `expected_s` is how long an answer usually takes."""
        if time_left_s <= expected_s or self._retries + 1 > self._share * self._calls:
            return False
        self._retries += 1
        return True

    @property
    def amplification(self) -> float:
        """Calls made for a call wanted."""
        return 1.0 + self._retries / self._calls if self._calls else 1.0
