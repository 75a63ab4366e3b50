"""TLS, credentials and roles between the network and the servicers."""

import ssl
from collections.abc import Callable

import grpc

from spillover.cloud.config import CloudConfig
from spillover.cloud.rpc.gate import Gate, identify_by
from spillover.cloud.rpc.transport import ServerTls, open_credentials, open_forwarded
from spillover.cloud.security.certificates import PEM_CERTIFICATE, Certificates
from spillover.cloud.security.forwarded import Front
from spillover.cloud.security.roles import ANONYMOUS, METRICS_PAGE, Roles
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import Cause, SpilloverError
from spillover.common.log import get_logger
from spillover.common.net.addresses import UNIX, is_loopback
from spillover.common.net.http import Admit
from spillover.common.net.tls import utc_now
from spillover.common.security.tokens import HEADER, Caller, Tokens

OnRefused = Callable[[Cause, str, str], None]
"""Told of a refusal outside of gRPC: its cause, what was asked for, and the reason in words."""


class Security:
    """The gate, credentials and identities of one server, put together from its configuration.

    Raises:
        ConfigError: a certificate, a key, the revocations or the tokens cannot be read.
    """

    def __init__(self, config: CloudConfig, metrics: Metrics, on_refused: OnRefused) -> None:
        self._on_refused = on_refused
        self._tls = ServerTls(config.security.tls) if config.security.tls else None
        if self._tls:
            self._watch_certificate(self._tls, metrics)
        self._credentials = open_credentials(config.security)
        forwarded = open_forwarded(config.security)
        self._roles = Roles(config.security.roles)
        guarded = forwarded is not None or self.guards(config.listen)
        front = Front(forwarded, over_unix=config.listen.startswith(UNIX))
        self.gate = Gate(identify_by(self._credentials, front), self._roles if guarded else None)

    def _watch_certificate(self, tls: ServerTls, metrics: Metrics) -> None:
        def expires_unix_s() -> float:
            return tls.key_pair.valid_until.timestamp()  # of the pair that is in use now

        metrics.watch_certificate(expires_unix_s)
        if (pair := tls.key_pair).ends_soon(now := utc_now()):
            get_logger("security").warning(
                "certificate ends soon; renew it", days_left=round(pair.days_left(now), 1)
            )

    def guards(self, address: str) -> bool:
        """Whether callers at `address` need a permission.

        Only this machine's users reach loopback: they need none, unless identities are set up.
        """
        return self._credentials is not None or not is_loopback(address)

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What the port is secured with; None is in the clear."""
        return self._tls.credentials() if self._tls else None

    def http_context(self) -> ssl.SSLContext | None:
        """What the next connection to the metrics is secured with; None is in the clear."""
        return self._tls.http_context() if self._tls else None

    def http_admission(self, address: str) -> Admit | None:
        """Who checks the callers at `address` of the metrics; None: all may see them."""
        return self.admit_http if self.guards(address) else None

    def admit_http(self, authorization: str, certificate_der: bytes | None) -> None:
        """Let a caller see the metrics, on any thread. Raises UnauthenticatedError or ForbiddenError."""
        try:
            self._roles.check(self._http_caller(authorization, certificate_der), METRICS_PAGE)
        except SpilloverError as error:
            if error.cause:
                self._on_refused(error.cause, METRICS_PAGE, str(error))
            raise

    def _http_caller(self, authorization: str, certificate_der: bytes | None) -> Caller:
        if isinstance(self._credentials, Tokens):
            return self._credentials.caller([(HEADER, authorization)])
        if isinstance(self._credentials, Certificates):
            shown = [ssl.DER_cert_to_PEM_cert(certificate_der).encode()] if certificate_der else []
            return self._credentials.caller({PEM_CERTIFICATE: shown})
        return Caller("", ANONYMOUS)
