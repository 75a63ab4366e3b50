"""A private CA for tests, and channels to a server that trusts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import grpc

from spillover.cloud.security.authority import CA_CERTIFICATE, CRL, Authority
from spillover.cloud.security.builders import SERVER, Subject
from spillover.cloud.server import Running
from spillover.common.security.files import write_private, write_public
from spillover.common.wire.pb import spillover_pb2 as pb
from tests.support.serving import CALL_S


class Pki:
    """A CA in `folder`, and the files of whom it has vouched for: <name>.crt, <name>.key."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self.folder = folder
        self.authority = Authority.create(folder, name)
        self.ca = folder / CA_CERTIFICATE
        self.crl = folder / CRL
        self.issue("cloud", SERVER, ("localhost", "127.0.0.1"))

    def issue(self, name: str, role: str = "device", hosts: tuple[str, ...] = (), days: float = 90) -> None:
        """Write a certificate and its key; `days` below zero is one that has expired."""
        certificate, key = self.authority.issue(Subject(name, role, hosts), days)
        write_private(self.key(name), key)
        write_public(self.certificate(name), certificate)

    def certificate(self, name: str) -> Path:
        """Where the certificate of `name` is."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Where the key of `name` is."""
        return self.folder / f"{name}.key"

    def server_tls(self, *, mutual: bool) -> dict[str, str]:
        """`security.tls` of a server."""
        tls = {"certificate": str(self.certificate("cloud")), "key": str(self.key("cloud"))}
        return tls | ({"client_ca": str(self.ca), "crl": str(self.crl)} if mutual else {})

    def edge_tls(self, name: str) -> dict[str, str]:
        """`uplink.tls` of a device."""
        files = {"certificate": self.certificate(name), "key": self.key(name)}
        return {"ca": str(self.ca)} | {key: str(path) for key, path in files.items()}

    def forwarded(self) -> dict[str, str]:
        """`security.forwarded` of a server."""
        return {"client_ca": str(self.ca), "crl": str(self.crl)}

    def credentials(self, name: str | None = None, ca: Path | None = None) -> grpc.ChannelCredentials:
        """A client that trusts this CA (or `ca`) and shows the certificate of `name`, or none."""
        return grpc.ssl_channel_credentials(
            (ca or self.ca).read_bytes(),
            self.key(name).read_bytes() if name else None,
            self.certificate(name).read_bytes() if name else None,
        )


@contextmanager
def secure_channel(server: Running, credentials: grpc.ChannelCredentials) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own: gRPC shares connections between channels that are alike."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(server.address, credentials, options) as channel:
        yield channel


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


class HeldInfer:
    """An Infer that is under way: its headers are sent, its message is not."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._messages: SimpleQueue[pb.InferRequest | None] = SimpleQueue()
        method = channel.stream_stream(
            "/spillover.v1.Spillover/Infer", pb.InferRequest.SerializeToString, pb.InferReply.FromString
        )
        self.call = method(iter(self._messages.get, None), timeout=CALL_S)

    def finish(self, request: pb.InferRequest) -> pb.InferReply:
        """Send the message; its answer."""
        self._messages.put(request)
        self._messages.put(None)
        reply: pb.InferReply = next(self.call)  # type: ignore[call-overload] # the stubs forget `__next__`
        return reply
