"""Advice for a failed TLS handshake: gRPC's own text names the symptom, seldom the cause.

On a device without a battery clock a wrong clock is the usual cause, so the advice always mentions it.
"""

import re
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Loads a library that an uplink without TLS does not need.
    from spillover.common.net.tls import KeyPair

# Pattern in the texts of OpenSSL and gRPC -> the likely cause; the first match is used.
_CAUSES = (
    (
        "not yet valid",
        "the server's certificate begins after the time on this device's clock: set the clock (timedatectl)",
    ),
    ("has expired", "the server's certificate has expired, or this device's clock is ahead"),
    (
        "Hostname Verification",
        "the server's certificate is for another name: see uplink.address and uplink.tls.server_name",
    ),
    ("BAD_SIGNATURE", "no CA in uplink.tls.ca has signed the server's certificate"),
    ("CERTIFICATE_VERIFY_FAILED", "no CA in uplink.tls.ca has signed the server's certificate"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS, the uplink does"),
    (
        "failed to connect.*Socket closed",
        "the server ended the handshake: it may not accept this device's certificate",
    ),
)


def explain(details: str, device: "KeyPair | None", now: datetime) -> str | None:
    """The likely cause of a failed call, from gRPC's `details`; None if it does not look like TLS.

    `device` is the device's certificate if it has one, `now` the device's clock.
    """
    clock = f"(this device's clock says {now:%Y-%m-%d %H:%M} UTC)"
    if device and now < device.valid_from:
        return (
            f"this device's certificate begins on {device.valid_from:%Y-%m-%d}, after the time on its clock: "
            f"set the clock (timedatectl) {clock}"
        )
    if device and now > device.valid_until:
        return f"this device's certificate ended on {device.valid_until:%Y-%m-%d}: renew it {clock}"
    return next((f"{cause} {clock}" for symptom, cause in _CAUSES if re.search(symptom, details)), None)
