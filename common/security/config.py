"""What a configuration says of who may use a listener, and in which ways one is open by mistake."""

from collections.abc import Iterator
from typing import ClassVar

from spillover.common.config import Section
from spillover.common.net.addresses import is_loopback


class KeyPairConfig(Section, frozen=True):
    """Encryption. The files are read again when they change."""

    certificate: str
    """PEM file of the server's certificate, followed by its intermediates if there are any."""
    key: str
    """PEM file of the certificate's private key."""


class ListenerSecurity(Section, frozen=True):
    """Who may connect."""

    proofs: ClassVar[str] = "security.tokens_file"
    """The keys by which callers are known, as a sentence names them."""

    tls: KeyPairConfig | None = None
    """Null: no encryption, which needs a loopback address or `allow_plaintext_network`."""
    tokens_file: str = ""
    """Callers must send a token of this file."""
    allow_plaintext_network: bool = False
    """Answer beyond this machine without encryption."""
    allow_anonymous_network: bool = False
    """Answer callers beyond this machine who prove nothing."""

    @property
    def proves_callers(self) -> bool:
        """Whether callers must prove who they are."""
        return bool(self.tokens_file)

    def openness(self, address: str) -> Iterator[str]:
        """In which ways `address` is open to the network and not asked to be."""
        if is_loopback(address):
            return
        if self.tls is None and not self.allow_plaintext_network:
            yield (
                f"{address} can be reached from the network: set security.tls, "
                "or security.allow_plaintext_network: true to send everything in the clear"
            )
        if not (self.proves_callers or self.allow_anonymous_network):
            yield (
                f"{address} can be reached from the network: set {self.proofs}, "
                "or security.allow_anonymous_network: true to answer all callers"
            )
