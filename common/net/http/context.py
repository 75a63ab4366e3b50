"""The TLS of a listening socket of the standard library, read again when its files change."""

import ssl
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.net.reload import Reloading, warn_if_exposed


class ServerContext:
    """Gives the context of the next connection, by the files that `section` of the configuration names.

    Callers need show no certificate; one that they show must be signed by a CA of `client_ca`, if any.

    Raises:
        ConfigError: a file cannot be read, or certificate and key do not belong together.
    """

    def __init__(self, certificate: str, key: str, section: str, client_ca: str = "") -> None:
        self._names = [name for name in (certificate, key, client_ca) if name]
        self._section = section
        self._context = Reloading(self._paths, self._read)
        warn_if_exposed(f"{section}.key", Path(key).expanduser())

    def __call__(self) -> ssl.SSLContext:
        """The context as of now; costs a look at each file."""
        return self._context.get()

    @property
    def _paths(self) -> list[Path]:
        return [Path(name).expanduser() for name in self._names]

    def _read(self) -> ssl.SSLContext:
        certificate, key, *client_ca = self._paths
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
            for ca in client_ca:
                context.load_verify_locations(ca)
                # Not required: probes have none. What needs an identity asks for it after the handshake.
                context.verify_mode = ssl.CERT_OPTIONAL
        except OSError as error:  # ssl.SSLError is one
            # Costs memory, so it is loaded only to say better what is wrong.
            from spillover.common.net.tls import load_key_pair

            load_key_pair(certificate, key, self._section)
            raise ConfigError(f"{self._section}: {error}") from error
        return context


def _no_password() -> bytes:
    """In place of asking at the terminal, where a daemon would wait for ever."""
    return b""
