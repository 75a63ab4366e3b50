"""Who may do what, and who pretends to be somebody else."""

import ssl
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spillover.cloud.security.authority import CA_KEY, key_pem
from spillover.cloud.security.builders import load_ec_key
from spillover.cloud.security.roles import METRICS_PAGE, NEEDED, Permission
from spillover.common.net.tls import utc_now
from tests.attack.messages import INFER, JPEG, LIST_MODELS, frame
from tests.attack.suite import CUT_OFF, Scene, attempt
from tests.attack.wire import Stream
from tests.attack.world import GOOD, OPERATOR, REVOKED, STRANGER, WEAK, Kind, Mode, World
from tests.support.pki import Pki

REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
MAY = {
    STRANGER: {Permission.OPEN},
    REVOKED: {Permission.OPEN},
    WEAK: {Permission.OPEN, Permission.INFER},
    OPERATOR: {Permission.OPEN, Permission.INFER, Permission.CONTROL, Permission.METRICS},
}
Case = tuple[x509.Name, ec.EllipticCurvePrivateKey, datetime, datetime, x509.ObjectIdentifier]
"""Issuer, the key that signs, begin, end, and what the certificate is for."""
_CUT = (*CUT_OFF, "RST_NO_ERROR")


@attempt(Kind(Mode.TOKEN), *REFUSED, direct_only=True)
def methods_by_role_with_tokens(scene: Scene) -> None:
    """Every method by a stranger, a revoked and a good device, and an operator."""
    _matrix(scene, (STRANGER, REVOKED, WEAK, OPERATOR))


@attempt(Kind(Mode.MTLS), *REFUSED)
def methods_by_role_with_certificates(scene: Scene) -> None:
    """The same with certificates."""
    _matrix(scene, (REVOKED, WEAK, OPERATOR))


@attempt(Kind(Mode.TOKEN), *REFUSED, "INVALID_ARGUMENT", direct_only=True)
def claimed_identities_with_tokens(scene: Scene) -> None:
    """Another's name in the request or in metadata, another's secret, Basic, no tilde, unicode."""
    _claims(scene)
    own, good = scene.world.tokens[WEAK], scene.world.tokens[GOOD]
    secret = own.rpartition("~")[2]
    values = [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {own}",
        own,
        f"Bearer {secret}",
        "Bearer ~",
        f"Bearer {own},{good}",
    ]
    values += [f"Bearer {GOOD}~{secret}", f"Bearer {GOOD}~", f"Bearer {own}x", f"Bearer {own[:-1]}"]
    values += ["Bearer " + "x" * 4000, "Bearer \xe9~\xe9"]
    for value in values:
        connection = scene.connect(STRANGER, metadata=(("authorization", value),))
        scene.saw(scene.end_of(connection.call(LIST_MODELS, b"")), what=value[:24])


@attempt(Kind(Mode.MTLS), *REFUSED, "INVALID_ARGUMENT")
def claimed_identities_with_certificates(scene: Scene) -> None:
    """Another's name in the request or in metadata, or in a header that a proxy would set."""
    _claims(scene)
    for header in ("x-forwarded-client-cert", "x-spillover-identity", "x-forwarded-for", "forwarded"):
        value = f'Subject="CN={OPERATOR},OU=operator";By=x;Hash=00'
        scene.saw(
            scene.call("/inference.GRPCInferenceService/RepositoryIndex", b"", more=[(header, value)]),
            what=header,
        )


@attempt(Kind(Mode.MTLS), "refused", direct_only=True)
def certificates_that_do_not_hold(scene: Scene) -> None:
    """None, expired, not yet valid, a server's, of another CA with the same name, signed by a device."""
    scene.saw(_served(scene, None), what="no certificate")
    for name, context in bad_certificates(scene.world).items():
        scene.saw(_served(scene, context), what=name)


def _matrix(scene: Scene, callers: tuple[str, ...]) -> None:
    for method, needed in NEEDED.items():
        if method == METRICS_PAGE:
            continue
        for who in callers:
            connection = scene.connect(who)
            status = _admitted(scene, connection.call(method, b""))
            connection.close()
            in_handshake = scene.world.front and who == REVOKED  # that is where Envoy refuses it
            allowed = needed in MAY[who] and not in_handshake
            scene.statuses["admitted" if status not in REFUSED else status] += 1
            is_right = (status not in {*REFUSED, "", *_CUT}) if allowed else status in {*REFUSED, *_CUT}
            scene.require(is_right, f"{who or 'stranger'}: {method}: {status}")


def _claims(scene: Scene) -> None:
    scene.saw(scene.call(INFER, frame(JPEG, device_id=WEAK)), {"OK"}, "its own name")
    scene.saw(scene.call(INFER, frame(JPEG, device_id=GOOD)), what="another's name")
    connection = scene.connect(WEAK)
    connection.metadata = tuple(one for one in connection.metadata if one[0] != "spillover-device")
    for name in (GOOD, "nobody", "x" * 300):
        stream = connection.call(INFER, frame(), [("spillover-device", name)])
        scene.saw(scene.end_of(stream), what=f"metadata {name[:12]}")


def _admitted(scene: Scene, stream: Stream) -> str:
    """How a call ends, or `OK` once an answer has come: a watch goes on after it."""
    scene.pump(lambda: bool(stream.status) or stream.received > 0)
    return "OK" if stream.received else stream.status


def _served(scene: Scene, context: ssl.SSLContext | None) -> str:
    """What a caller with this certificate gets: `refused`, or the status of its call."""
    plain = scene.world.client_tls(Mode.TOKEN)
    with suppress(OSError):
        connection = scene.connect(STRANGER, tls=context or plain)
        status = scene.end_of(connection.call(LIST_MODELS, b""))
        if status not in {*REFUSED, *_CUT}:
            return status
    return "refused"


def bad_certificates(world: World) -> dict[str, ssl.SSLContext]:
    """TLS of callers whose certificates must not be accepted, by what is wrong with them."""
    pki, now = world.pki, utc_now()
    day = timedelta(days=1)
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    ca_key = load_ec_key((pki.folder / CA_KEY).read_bytes(), pki.folder / CA_KEY)
    device_key = load_ec_key(pki.key(WEAK).read_bytes(), pki.key(WEAK))
    issuer = x509.load_pem_x509_certificate(pki.ca.read_bytes()).subject
    device = x509.load_pem_x509_certificate(pki.certificate(WEAK).read_bytes()).subject
    other = ec.generate_private_key(ec.SECP256R1())
    cases: dict[str, Case] = {
        "expired": (issuer, ca_key, now - 2 * day, now - day, client),
        "not yet valid": (issuer, ca_key, now + day, now + 2 * day, client),
        "for servers": (issuer, ca_key, now - day, now + day, server),
        "of another CA": (issuer, other, now - day, now + day, client),
        "signed by a device": (device, device_key, now - day, now + day, client),
    }
    return {name: _shown(pki, name.replace(" ", "-"), case) for name, case in cases.items()}


def _shown(pki: Pki, name: str, case: Case) -> ssl.SSLContext:
    issuer, key, start, end, purpose = case
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, OPERATOR),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "operator"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _context(pki, name, certificate, own)


def _context(
    pki: Pki, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> ssl.SSLContext:
    files = Path(pki.folder / f"bad-{name}.crt"), Path(pki.folder / f"bad-{name}.key")
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key_pem(key))
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(*files)
    return context
