"""Identities that a proxy in front of the server passes on: Envoy's header `x-forwarded-client-cert`.

Believed is the certificate in it and nothing else, and that is checked as in a handshake: chain, purpose,
dates, revocation. So the proxy is trusted for one thing alone, that its caller holds the private key.
https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/headers#x-forwarded-client-cert
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import (
    ClientVerifier,
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from spillover.cloud.security.certificates import Certificates, Peer, read_peer
from spillover.cloud.security.roles import PROXY
from spillover.common.errors import UnauthenticatedError
from spillover.common.net.reload import Reloading, read_file
from spillover.common.net.tls import load_certificates
from spillover.common.security.tokens import Caller

FORWARDED = "x-forwarded-client-cert"
Metadata = Iterable[tuple[str, str | bytes]]
_SECTION = "security.forwarded"
_PAIR = re.compile(r'([A-Za-z]+)=(?:"((?:[^"\\]|\\["\\])*)"|([^",;=\\]*))')
_ENCODED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_ONCE = frozenset({"hash", "cert", "chain", "subject"})
_MAX_REMEMBERED = 4096


class Forwarded:
    """Identifies callers by the certificates that a proxy has passed on; the files are followed.

    Raises:
        ConfigError: a file cannot be read, or no CA of `client_ca` has signed `crl`.
    """

    def __init__(self, client_ca: Path, crl: Path | None) -> None:
        self._certificates = Certificates(client_ca, crl, _SECTION)
        self._peer = Reloading([client_ca], lambda: _reader(client_ca))

    def caller(self, header: str) -> Caller:
        """Whom the header names. Raises UnauthenticatedError: malformed, or no good certificate."""
        return self._certificates.valid(self._peer.get()(header))


class Front:
    """Whether a call came through a proxy that is believed, and who made it.

    `forwarded` is None where no proxy is. `over_unix`: the server listens on a Unix socket, to which the
    proxy alone connects.
    """

    def __init__(self, forwarded: Forwarded | None, *, over_unix: bool) -> None:
        self._forwarded = forwarded
        self._over_unix = over_unix

    def caller(self, metadata: Metadata, direct: Callable[[], Caller]) -> Caller:
        """Who calls; `direct` is who is connected. Raises UnauthenticatedError."""
        header = forwarded_header(metadata)
        if self._forwarded and self._over_unix:
            if header is None:
                raise UnauthenticatedError("the proxy has passed no certificate on")
            return self._forwarded.caller(header)
        caller = direct()
        if header is None:
            return caller
        if self._forwarded is None or caller.role != PROXY:
            raise UnauthenticatedError(
                f"{FORWARDED} is believed of nobody but a proxy, by security.forwarded"
            )
        return self._forwarded.caller(header)


def forwarded_header(metadata: Metadata) -> str | None:
    """The header among those of a call. Raises UnauthenticatedError if there are two."""
    values = [value for key, value in metadata if key == FORWARDED]
    if len(values) > 1:
        raise UnauthenticatedError(f"{FORWARDED} was sent {len(values)} times")
    return str(values[0]) if values else None


def parse(header: str) -> dict[str, str]:
    """The pairs of the header's one element, keys in small letters; of keys that may come twice the last.

    Raises:
        UnauthenticatedError: it is malformed, or has another element, which a proxy has taken over unseen.
    """
    found: dict[str, str] = {}
    position = 0
    while pair := _PAIR.match(header, position):
        key, quoted, plain = pair[1].lower(), pair[2], pair[3]
        if key in found and key in _ONCE:
            raise UnauthenticatedError(f"{FORWARDED} has two values of {key!r}")
        found[key] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = pair.end()
        if position == len(header):
            return found
        if header[position] != ";":
            break
        position += 1
    what = "has more than one element" if header[position : position + 1] == "," else "is malformed"
    raise UnauthenticatedError(f"{FORWARDED} {what} at character {position}")


def _reader(client_ca: Path) -> Callable[[str], Peer]:
    """What reads a header, by the authorities of now; a header that was good is not checked twice."""
    pem = read_file(client_ca, f"{_SECTION}.client_ca")
    verifier = _verifier(load_certificates(pem, f"{_SECTION}.client_ca: {client_ca}"))
    return lru_cache(_MAX_REMEMBERED)(lambda header: _read(header, verifier))


def _verifier(authorities: list[x509.Certificate]) -> ClientVerifier:
    # A device is known by its subject, so it needs no alternative name, which the defaults ask for.
    device = ExtensionPolicy.webpki_defaults_ee().may_be_present(
        x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
    )
    policy = PolicyBuilder().store(Store(authorities))
    policy = policy.extension_policies(ee_policy=device, ca_policy=ExtensionPolicy.webpki_defaults_ca())
    return policy.build_client_verifier()


def _read(header: str, verifier: ClientVerifier) -> Peer:
    pairs = parse(header)
    if not pairs.get("cert"):
        raise UnauthenticatedError(f"{FORWARDED} carries no certificate: set `cert: true` at the proxy")
    leaf, *more = _certificates(pairs["cert"])
    if more:
        raise UnauthenticatedError(f"{FORWARDED} carries several certificates as one")
    der = leaf.public_bytes(Encoding.DER)
    if "hash" in pairs and pairs["hash"].lower() != hashlib.sha256(der).hexdigest():
        raise UnauthenticatedError(f"{FORWARDED} has the hash of another certificate")
    chain = _certificates(pairs["chain"]) if pairs.get("chain") else []
    peer = read_peer(leaf.public_bytes(Encoding.PEM))
    try:
        verified = verifier.verify(leaf, [one for one in chain if one != leaf])
    except VerificationError as error:
        raise UnauthenticatedError(f"the certificate of {peer.caller.name!r} is not good: {error}") from error
    return replace(peer, valid_until=min(one.not_valid_after_utc for one in verified.chain))


def _certificates(encoded: str) -> list[x509.Certificate]:
    if not _ENCODED.fullmatch(encoded):
        raise UnauthenticatedError(f"{FORWARDED} has a per cent sign that begins no byte")
    try:
        return x509.load_pem_x509_certificates(unquote(encoded, errors="strict").encode())
    except ValueError as error:
        raise UnauthenticatedError(f"{FORWARDED} carries no certificate in PEM: {error}") from error
