"""Runs checks one after the other, each on a thread with a time limit: none stops another."""

import time
from collections.abc import Iterable, Iterator

from spillover.common.errors import SpilloverError
from spillover.edge.doctor.case import Case, Check
from spillover.edge.doctor.findings import Finding, failed
from spillover.edge.runtime.parts import Ended, Worker


class Rounds:
    """Goes through checks; `left_behind` names those that did not end in time, whose threads still run."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.left_behind: list[str] = []

    def findings(self, checks: Iterable[Check]) -> Iterator[Finding]:
        """What each check finds, as soon as it is over."""
        for check in checks:
            yield from self._look(check)

    def _look(self, check: Check) -> list[Finding]:
        found: list[Finding] = []
        ends: list[Ended] = []

        def look() -> None:
            found.extend(check.look(self._case))

        worker = Worker(check.name, look, ends.append)
        worker.start()
        worker.wait(time.monotonic() + check.limit_s)
        if worker.runs:
            self.left_behind.append(check.name)
            figure = f"not over after {check.limit_s:g} s"
            return [
                *found,
                failed(check.name, figure, "something hangs: try again, then look at what it asks"),
            ]
        return [*found, *(_of_error(check.name, end.error) for end in ends if end.error)]


def _of_error(name: str, error: Exception) -> Finding:
    """A check that raised: the project's and the system's errors say whose fault it is."""
    if isinstance(error, SpilloverError | OSError):
        return failed(name, str(error), "mend what this line names")
    return failed(
        name, f"{type(error).__name__}: {error}", "this is a fault of the program: please report it"
    )
