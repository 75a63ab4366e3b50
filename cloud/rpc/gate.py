"""Authentication and authorisation of every call, by its headers alone: one gate for every kind of proof."""

from collections.abc import Callable, Iterable

from spillover.cloud.rpc.call import NOBODY, AnyContext, ServedCall
from spillover.cloud.security.certificates import Certificates
from spillover.cloud.security.forwarded import Front
from spillover.cloud.security.roles import Roles
from spillover.common.security.tokens import Caller, Tokens
from spillover.common.traces import read_trace
from spillover.common.wire.conversion import DEVICE_KEY

Credentials = Certificates | Tokens | None
"""How callers prove their identity; None: all are anonymous."""
Metadata = Iterable[tuple[str, str | bytes]]
Identify = Callable[[AnyContext, Metadata], Caller]
"""Finds out from handshake and headers who calls. Raises UnauthenticatedError."""


def identify_by(credentials: Credentials, front: Front) -> Identify:
    """Who calls, by these credentials, or by those that a proxy in front passes on."""
    if isinstance(credentials, Tokens):
        return lambda _, metadata: front.caller(metadata, lambda: credentials.caller(metadata))
    if isinstance(credentials, Certificates):
        return lambda context, metadata: front.caller(
            metadata, lambda: credentials.caller(context.auth_context())
        )
    return lambda _, metadata: front.caller(metadata, lambda: NOBODY)


class Gate:
    """Refuses callers without identity (UNAUTHENTICATED) or permission (PERMISSION_DENIED).

    `roles` None: nobody needs a permission. Nothing of a message is read before this.
    """

    def __init__(self, identify: Identify, roles: Roles | None) -> None:
        self._identify = identify
        self._roles = roles

    def admit(self, call: ServedCall) -> None:
        """Find out who calls, and whether they may. Raises UnauthenticatedError or ForbiddenError."""
        if call.method.is_open:
            call.name(NOBODY, "")
            return
        metadata = call.context.invocation_metadata() or ()
        caller = call.caller = self._identify(call.context, metadata)
        if self._roles is not None and call.method.exists:
            self._roles.check(caller, call.method.path)
        call.name(caller, _named(metadata))
        call.trace = read_trace(metadata)


def _named(metadata: Metadata) -> str:
    for key, value in metadata:
        if key == DEVICE_KEY:
            return str(value)
    return ""
