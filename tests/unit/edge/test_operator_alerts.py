"""What the log says of a cloud that does not answer: enough to mend it, and once."""

from structlog.testing import capture_logs

from spillover.common.types import ModelId
from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.operator_alerts import OperatorAlerts
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.edge_values import classification

ANSWER = CloudAnswer(classification(1.0), ModelId("big", "7"), 0.1, 0.0, 0.0, 0.0)
NO_MODEL = CallFailure("not_found", "no model of the name big")


def test_what_a_person_must_mend_is_said_at_once_and_once():
    """With status and detail; again only after the cloud has answered in between."""
    complaints = OperatorAlerts()
    with capture_logs() as log:
        for outcome in (NO_MODEL, NO_MODEL, CallFailure("bad reply", "boxes"), NO_MODEL, ANSWER, NO_MODEL):
            complaints.ended(outcome)
    assert [(line["log_level"], line["status"], line["detail"]) for line in log] == [
        ("warning", "not_found", "no model of the name big"),
        ("warning", "bad reply", "boxes"),
        ("warning", "not_found", "no model of the name big"),
    ]


def test_an_outage_is_one_line_with_its_cause():
    """However often a probe fails: one warning when it begins, one line when it is over."""
    complaints = OperatorAlerts()
    refused = CallFailure("unavailable", "connection refused")
    with capture_logs() as log:
        for phase in (BreakerPhase.OPEN, BreakerPhase.HALF_OPEN, BreakerPhase.OPEN, BreakerPhase.HALF_OPEN):
            complaints.ended(refused)
            complaints.turned(phase)
        complaints.ended(ANSWER)
        complaints.turned(BreakerPhase.CLOSED)
    assert [(line["log_level"], line.get("status"), line.get("detail")) for line in log] == [
        ("warning", "unavailable", "connection refused"),
        ("info", None, None),
    ]
