"""The methods that are served, read from their services' descriptors, and what sets one apart."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from spillover.cloud.security.roles import NEEDED, OIP, OWN, Permission
from spillover.common.errors import UnsupportedError

OPEN_REQUEST_BYTES = 4096
"""The longest request of a method that is open to everybody; a name of a service is all that one carries."""

_BODILESS = frozenset({OIP + "ServerLive", OIP + "ServerReady"})
_RATED = frozenset({OWN + "Infer", OIP + "ModelInfer", OIP + "ModelStreamInfer"})


@dataclass(frozen=True, slots=True)
class Method:
    """One method. `work` takes the request, or an iterator of them, and the call; it gives the answer."""

    path: str
    name: str
    """Without its service."""
    request: type[Message]
    reply: type[Message]
    work: Callable[[Any, Any], Any]
    streams_requests: bool = False
    streams_replies: bool = False
    of_library: bool = False
    """`work` takes gRPC's own context; where one request has many replies, it writes them itself."""
    exists: bool = True
    is_open: bool = False
    """Anybody may call it."""
    has_no_body: bool = False
    """Its request says nothing, so it is not read."""
    is_rated: bool = False
    """Each message counts for the caller's rate."""


def methods_of(service: ServiceDescriptor, servicer: object, *, of_library: bool = False) -> Iterator[Method]:
    """The methods of `service` that `servicer` has."""
    for method in service.methods:
        if (work := getattr(servicer, method.name, None)) is not None:
            path = f"/{service.full_name}/{method.name}"
            yield Method(
                path,
                method.name,
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
                work,
                streams_requests=method.client_streaming,
                streams_replies=method.server_streaming,
                of_library=of_library,
                is_open=NEEDED.get(path) is Permission.OPEN,
                has_no_body=path in _BODILESS,
                is_rated=path in _RATED,
            )


def unknown_method(path: str) -> Method:
    """Answers that there is no such method; its request is not read."""

    async def refuse(_: Empty, __: object) -> Empty:
        raise UnsupportedError("there is no such method")

    return Method(path, "unknown", Empty, Empty, refuse, exists=False, has_no_body=True)
