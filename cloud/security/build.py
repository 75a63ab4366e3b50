"""The security of one server, put together from its configuration."""

from typing import Any

import grpc

from cloud.config import CloudConfig
from cloud.identity import Identify, nobody_proven
from cloud.malformed import MalformedGuard
from cloud.metrics import Metrics
from cloud.security.gate import Gate
from cloud.security.roles import Roles
from cloud.security.transport import ServerTls, open_credentials
from common.network import is_loopback


class Security:
    """What stands between the network and the servicers.

    Raises:
        ConfigError: a certificate, a key, the revocations or the tokens cannot be read.
    """

    def __init__(self, config: CloudConfig, metrics: Metrics) -> None:
        self.tls = ServerTls(config.security.tls) if config.security.tls else None
        self.credentials = open_credentials(config.security)
        self.roles = Roles(config.security.roles)
        self.interceptors: list[Any] = [MalformedGuard(metrics)]
        self.identify: Identify = nobody_proven
        # Only this machine's users reach loopback: they need no permission, unless identities are set up.
        if self.credentials or not is_loopback(config.listen):
            gate = Gate(self.credentials, self.roles, metrics)
            self.interceptors.insert(0, gate)
            self.identify = gate.identify

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What the port is secured with; None is in the clear."""
        return self.tls.credentials() if self.tls else None
