"""The table of call statuses: complete, spelled one way, and free of contradictions."""

import re

import grpc
import pytest

from spillover.edge.uplink.call_status import OK, RETRIED, CallStatus, DrainStep, LinkSignal
from spillover.edge.uplink.outcome import CallFailure

STATUSES = list(CallStatus)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_grpc_is_in_the_table(code: grpc.StatusCode) -> None:
    """Under gRPC's own name."""
    assert CallStatus.of_grpc(code.name).value == code.name.lower()


def test_a_code_that_grpc_adds_some_day_is_unknown() -> None:
    """It is a member of the table, and no error."""
    assert CallStatus.of_grpc("TEAPOT") is CallStatus.UNKNOWN


@pytest.mark.parametrize(
    ("code", "details", "status"),
    [
        ("UNKNOWN", "Payload Too Large", CallStatus.REFUSED_AS_TOO_LARGE),
        (
            "RESOURCE_EXHAUSTED",
            "SERVER: Received message larger than max (9 vs. 4)",
            CallStatus.REFUSED_AS_TOO_LARGE,
        ),
        ("UNKNOWN", "stream timeout", CallStatus.UNKNOWN),
        ("RESOURCE_EXHAUSTED", "the queue is full", CallStatus.RESOURCE_EXHAUSTED),
        ("UNAVAILABLE", "Payload Too Large", CallStatus.UNAVAILABLE),
    ],
)
def test_a_refusal_by_size_is_told_by_its_text(code: str, details: str, status: CallStatus) -> None:
    """A proxy and gRPC itself have no status of their own for it; the same frame is never sent again."""
    assert CallStatus.of_grpc(code, details) is status
    assert not CallStatus.REFUSED_AS_TOO_LARGE.means.retry_later
    assert CallStatus.REFUSED_AS_TOO_LARGE.means.drain is DrainStep.GIVE_UP


@pytest.mark.parametrize("status", STATUSES)
def test_statuses_are_spelled_as_labels(status: CallStatus) -> None:
    """snake_case, told from what is counted beside them; a failure's text begins with it."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", status.value)
    assert status.value not in {OK, RETRIED}
    assert CallStatus(status.value) is status
    assert str(CallFailure(status, "because")) == f"{status.value}: because"
    assert str(CallFailure(status)) == status.value


@pytest.mark.parametrize("status", STATUSES)
def test_no_row_contradicts_itself(status: CallStatus) -> None:
    """What never left says nothing of the link and costs no try; what is given up is kept by nobody."""
    means = status.means
    assert means.link is not LinkSignal.GOOD
    if means.never_left:
        assert means.link is LinkSignal.NOTHING
        assert means.drain is not DrainStep.COUNT_TRY
    if means.drain is DrainStep.GIVE_UP:
        assert means.operator_must_fix
        assert not means.retry_later
    assert CallFailure(status).never_left == means.never_left


@pytest.mark.parametrize(
    ("detail", "never_left"),
    [("failed to connect to all addresses; last error", True), ("Socket closed", False)],
)
def test_a_call_without_a_connection_never_left(detail: str, never_left: bool) -> None:
    """GRPC has one status for a connection that is lost and for none at all; its text tells them apart."""
    assert CallFailure(CallStatus.UNAVAILABLE, detail).never_left is never_left
