"""What a check finds, and the table of all findings."""

import enum
from collections.abc import Iterator, Sequence

import msgspec


class State(enum.Enum):
    """How one thing is."""

    OK = "ok"
    WARNING = "warning"
    """A daemon runs with it, and somebody should look."""
    FAILED = "failed"
    """A daemon does not do its work with it."""
    SKIPPED = "skipped"
    """Nothing to check here, or it could not be asked."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    check: str
    state: State
    figure: str
    """What was found or measured."""
    cure: str = ""
    """What to do; every failure has one."""


def ok(check: str, figure: str) -> Finding:
    """All is well."""
    return Finding(check=check, state=State.OK, figure=figure)


def skipped(check: str, why: str) -> Finding:
    """There is nothing to check."""
    return Finding(check=check, state=State.SKIPPED, figure=why)


def warning(check: str, figure: str, cure: str) -> Finding:
    """Worth a look."""
    return Finding(check=check, state=State.WARNING, figure=figure, cure=cure)


def failed(check: str, figure: str, cure: str) -> Finding:
    """It has to be mended."""
    return Finding(check=check, state=State.FAILED, figure=figure, cure=cure)


_CHECK_WIDTH, _STATE_WIDTH = 15, 9


def lines_of(finding: Finding) -> Iterator[str]:
    """The finding as lines of the table; what does not fit into one line stands below."""
    shown = finding.state.value.upper() if finding.state is State.FAILED else finding.state.value
    first, *more = finding.figure.splitlines() or [""]
    indent = " " * (_CHECK_WIDTH + _STATE_WIDTH)
    yield f"{finding.check:<{_CHECK_WIDTH}}{shown:<{_STATE_WIDTH}}{first}".rstrip()
    yield from (f"{indent}{line}" for line in more)
    if finding.cure:
        yield f"{indent}-> {finding.cure}"


def summary(findings: Sequence[Finding]) -> str:
    """How many of each state."""
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether there is something to mend."""
    return any(finding.state is State.FAILED for finding in findings)
