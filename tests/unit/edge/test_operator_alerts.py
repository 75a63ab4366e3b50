"""What the log says of a cloud that does not answer: enough to mend it, and once."""

from structlog.testing import capture_logs

from spillover.common.types import ModelId
from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.ledger import OperatorAlerts
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.edge_values import classification

ANSWER = CloudAnswer(classification(1.0), ModelId("big", "7"), 0.1, 0.0, 0.0, 0.0)
BAD_REPLY = CallFailure(CallStatus.BAD_REPLY, "boxes")
NO_MODEL = CallFailure(CallStatus.NOT_FOUND, "no model of the name big")


def test_what_a_person_must_mend_is_said_at_once_and_once():
    """With status and detail; again only after the cloud has answered in between."""
    alerts = OperatorAlerts()
    with capture_logs() as log:
        for outcome in (NO_MODEL, NO_MODEL, BAD_REPLY, NO_MODEL, ANSWER, NO_MODEL):
            alerts.ended(outcome)
    assert [(line["log_level"], line["status"], line["detail"]) for line in log] == [
        ("error", "not_found", "no model of the name big"),
        ("warning", "bad_reply", "boxes"),
        ("error", "not_found", "no model of the name big"),
    ]


def test_an_outage_is_one_line_with_its_cause():
    """However often a probe fails: one warning when it begins, one line when it is over."""
    alerts = OperatorAlerts()
    refused = CallFailure(CallStatus.UNAVAILABLE, "connection refused")
    with capture_logs() as log:
        for phase in (BreakerPhase.OPEN, BreakerPhase.HALF_OPEN, BreakerPhase.OPEN, BreakerPhase.HALF_OPEN):
            alerts.ended(refused)
            alerts.turned(phase)
        alerts.ended(ANSWER)
        alerts.turned(BreakerPhase.CLOSED)
    assert [(line["log_level"], line.get("status"), line.get("detail")) for line in log] == [
        ("warning", "unavailable", "connection refused"),
        ("info", None, None),
    ]
