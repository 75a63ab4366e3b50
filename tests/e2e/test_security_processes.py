"""The guide in docs/guides/security.md, walked through with real processes."""

import subprocess

import cv2
import numpy as np

from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER, cloud_process, edge_process


def certs(folder, command, *arguments):
    """One `spillover cloud certs` command."""
    subprocess.run(
        [*SPILLOVER, "cloud", "certs", command, "--folder", str(folder), *arguments],
        check=True, timeout=LIMIT_S, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def test_certificates_are_made_used_renewed_and_revoked_while_both_sides_run(tmp_path):
    """Without a restart: renewals go unnoticed, revocation shuts a device out, a new one lets it in."""
    pki, pictures, models = tmp_path / "pki", tmp_path / "pictures", tmp_path / "cloud"
    certs(pki, "init")
    certs(pki, "issue", "cloud", "--role", "server", "--host", "127.0.0.1")
    certs(pki, "issue", "camera-1")
    pictures.mkdir()
    cv2.imwrite(str(pictures / "0.png"), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    colour_classifier(models, name="big")

    def pair(name):
        return {"certificate": str(pki / f"{name}.crt"), "key": str(pki / f"{name}.key")}

    config = {
        "device_id": "camera-1",
        "mode": "cloud_only",
        "deadline_s": 1.5,
        "camera": {"source": str(pictures), "fps": 20, "loop": True, "queue_size": 64},
        "model": {"folder": str(colour_classifier(tmp_path / "edge", name="small"))},
        "uplink": {"tls": {"ca": str(pki / "ca.crt"), **pair("camera-1")}, "breaker_pause_max_s": 0.5},
    }
    tls = pair("cloud") | {"client_ca": str(pki / "ca.crt"), "crl": str(pki / "crl.pem")}
    with (
        cloud_process(models, security={"tls": tls}) as (_, config["uplink"]["address"]),
        edge_process(config, tmp_path) as edge,
    ):
        edge.read_until(by_cloud, count=5)
        certs(pki, "renew", "camera-1")
        certs(pki, "renew", "cloud")
        edge.read_until(by_cloud, count=20)
        refusals = ("unauthenticated", "permission_denied")
        assert not [record.error for record in edge.records if record.error.startswith(refusals)]
        certs(pki, "revoke", "camera-1")
        edge.read_until(lambda record: "revoked" in record.error)
        certs(pki, "issue", "camera-1")
        edge.read_until(by_cloud, count=5)


def by_cloud(record):
    """The cloud answered, in time."""
    return record.answered_by == "cloud" and record.revision == 0
