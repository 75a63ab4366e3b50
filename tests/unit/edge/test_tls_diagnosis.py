"""The advice that goes with a failed handshake."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from spillover.edge.uplink.tls_diagnosis import explain


@dataclass(frozen=True)
class Own:
    """A certificate's dates."""

    valid_from: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    valid_until: datetime = datetime(2027, 1, 1, tzinfo=UTC)


NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)


def test_a_clock_before_the_certificate_is_named():
    """A device that woke up in 1970 is told that its clock is wrong, and what the clock says."""
    advice = explain("Socket closed", Own(), EPOCH)
    assert "clock" in advice
    assert "1970-01-01 00:05" in advice
    assert "2026-01-01" in advice


def test_an_ended_certificate_is_named():
    """A certificate that has ended by this clock is to be renewed; the clock is named here too."""
    advice = explain("Socket closed", Own(), datetime(2028, 1, 1, tzinfo=UTC))
    assert "2027-01-01" in advice
    assert "2028-01-01" in advice


@pytest.mark.parametrize(
    ("details", "says"),
    [
        ("CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK", "clock"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "expired"),
        ("Hostname Verification Check failed.", "server_name"),
        ("ECDSA routines:OPENSSL_internal:BAD_SIGNATURE", "uplink.tls.ca"),
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer", "uplink.tls.ca"),
        ("failed to connect to all addresses; last error: ipv4:127.0.0.1:1: Socket closed", "may not accept"),
    ],
)
def test_each_symptom_has_its_cause(details, says):
    """The text of gRPC is turned into what to look at."""
    assert says in explain(details, Own(), NOW)


def test_what_is_not_tls_gets_no_advice():
    """A cloud that is simply not there is no matter of certificates."""
    assert explain("Connection refused", Own(), NOW) is None
    assert explain("Socket closed", Own(), NOW) is None  # under a call that was going on
