"""Who calls. The seam where certificates and tokens come in."""

from typing import Any, Protocol

import grpc.aio

AnyContext = grpc.aio.ServicerContext[Any, Any]


class Identify(Protocol):
    """Finds out the proven identity of a caller."""

    def __call__(self, context: AnyContext) -> str:
        """The device's proven name, empty when nothing is proven. Raises SpilloverError to refuse."""
        ...


def nobody_proven(context: AnyContext) -> str:
    """Without transport security nothing is proven."""
    del context
    return ""


def peer_host(context: AnyContext) -> str:
    """The caller's address without its port, as in `ipv4:10.0.0.7`."""
    return context.peer().rpartition(":")[0]
