"""From configuration to what the server listens with: TLS that follows its files, how callers are known."""

import ssl
from pathlib import Path

import grpc

from spillover.cloud.config import SecurityConfig, TlsConfig
from spillover.cloud.rpc.gate import Credentials
from spillover.cloud.security.certificates import Certificates
from spillover.cloud.security.forwarded import Forwarded
from spillover.common.config import under_key
from spillover.common.net.http import ServerContext
from spillover.common.net.reload import Reloading, read_file
from spillover.common.net.tls import KeyPair, load_certificates, load_key_pair
from spillover.common.security.tokens import Tokens

_SECTION = "security.tls"


class ServerTls:
    """The server's key pair and client CA, as of now.

    Raises:
        ConfigError: a file cannot be read, or certificate and key do not belong together.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._files = Reloading(_paths(config), lambda: _read(config))
        self._given = self._files.get()
        self._http = ServerContext(config.certificate, config.key, _SECTION, config.client_ca)

    @property
    def key_pair(self) -> KeyPair:
        """The key pair."""
        return self._files.get()[0]

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is secured with. gRPC asks before each handshake whether the files have changed.

        So a new certificate is used by the next connection, and connections that are there stay as they are.
        """
        mutual = bool(self._config.client_ca)
        first = self._configuration()
        return grpc.dynamic_ssl_server_credentials(
            first,
            self.changed_configuration,  # type: ignore[arg-type]  # None is no change; the stubs forget it
            mutual,
        )

    def changed_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC is to use from the next handshake on; None unless the files have changed.

        gRPC frees what it had before while other handshakes may still use it (its issue 36693). With an
        answer at every handshake, a few hundred at once ended the process.
        """
        return self._configuration() if self._files.get() is not self._given else None

    def http_context(self) -> ssl.SSLContext:
        """The same for sockets of the standard library. Call it before each connection."""
        return self._http()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        self._given = self._files.get()
        pair, client_ca_pem = self._given
        return grpc.ssl_server_certificate_configuration(
            [(pair.key_pem, pair.certificate_pem)], client_ca_pem
        )


def open_credentials(config: SecurityConfig) -> Credentials:
    """How callers prove who they are, by the configuration; None if they need not. Raises ConfigError."""
    if config.tokens_file:
        with under_key("security.tokens_file"):
            return Tokens(Path(config.tokens_file).expanduser())
    if config.tls and config.tls.client_ca:
        crl = Path(config.tls.crl).expanduser() if config.tls.crl else None
        return Certificates(Path(config.tls.client_ca).expanduser(), crl)
    return None


def open_forwarded(config: SecurityConfig) -> Forwarded | None:
    """What checks the certificates that a proxy passes on; None: nothing is believed. Raises ConfigError."""
    if config.forwarded is None:
        return None
    crl = Path(config.forwarded.crl).expanduser() if config.forwarded.crl else None
    return Forwarded(Path(config.forwarded.client_ca).expanduser(), crl)


def _paths(config: TlsConfig) -> list[Path]:
    return [Path(name).expanduser() for name in (config.certificate, config.key, config.client_ca) if name]


def _read(config: TlsConfig) -> tuple[KeyPair, bytes | None]:
    certificate, key, *client_ca = _paths(config)
    pair = load_key_pair(certificate, key, _SECTION)
    if not client_ca:
        return pair, None
    pem = read_file(client_ca[0], f"{_SECTION}.client_ca")
    load_certificates(pem, f"{_SECTION}.client_ca: {client_ca[0]}")
    return pair, pem
