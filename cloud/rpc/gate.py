"""Authentication and authorisation of every call: a grpc.aio interceptor."""

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

import grpc.aio

from spillover.cloud.rpc.handlers import AnyContext, Handler, wrapped
from spillover.cloud.rpc.status import details_of, status_of
from spillover.cloud.security.certificates import Certificates
from spillover.cloud.security.forwarded import Front
from spillover.cloud.security.roles import ANONYMOUS, NEEDED, Caller, Permission, Roles
from spillover.cloud.security.tokens import Tokens
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import SpilloverError
from spillover.common.log import get_logger

_LOG_INTERVAL_S = 1.0
_MAX_LOGGED = 200

Credentials = Certificates | Tokens | None
"""How callers prove their identity; None: all are anonymous."""


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Refuses callers without identity (UNAUTHENTICATED) or permission (PERMISSION_DENIED).

    Without certificates the headers decide, so the message of a refused caller is never read. With
    certificates the handshake has authenticated the caller, and the role is checked when the method begins.
    """

    def __init__(self, credentials: Credentials, front: Front, roles: Roles, metrics: Metrics) -> None:
        self._credentials = credentials
        self._front = front
        self._roles = roles
        self._metrics = metrics
        self._caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
        self._wrapped: dict[str, Handler] = {}
        self._log = get_logger("security")
        self._logged_s = -_LOG_INTERVAL_S

    def identify(self, context: AnyContext) -> str:
        """The name that the caller of the running method has proven, for `cloud.rpc.call_wrapper`."""
        del context  # each call runs in a task, and so in a context, of its own
        caller = self._caller.get()
        return caller.name if caller else ""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's handler for those who may call it, else one that refuses."""
        method = handler_call_details.method
        if NEEDED.get(method) is Permission.OPEN:
            return await continuation(handler_call_details)
        if isinstance(self._credentials, Certificates):
            return self._asking_certificate(
                self._credentials, await continuation(handler_call_details), method
            )
        try:
            self._admit(self._caller_of(handler_call_details), method)
        except SpilloverError as error:
            return self._refusal(error, method)
        return await continuation(handler_call_details)

    def _caller_of(self, details: grpc.HandlerCallDetails) -> Caller:
        metadata = details.invocation_metadata or ()
        if isinstance(self._credentials, Tokens):
            return self._front.caller(metadata, partial(self._credentials.caller, metadata))
        return self._front.caller(metadata, lambda: Caller("", ANONYMOUS))

    def _admit(self, caller: Caller, method: str) -> None:
        self._roles.check(caller, method)
        self._caller.set(caller)

    def _asking_certificate(self, certificates: Certificates, handler: Handler, method: str) -> Handler:
        if handler is None or method in self._wrapped:
            return handler and self._wrapped[method]

        async def admitted(request: Any, context: AnyContext) -> Any:  # noqa: ANN401 - any message
            try:
                direct = partial(certificates.caller, context.auth_context())
                self._admit(self._front.caller(context.invocation_metadata() or (), direct), method)
            except SpilloverError as error:
                await self._refuse(error, method, context)
            return request

        self._wrapped[method] = wrapped(handler, admitted)
        return self._wrapped[method]

    def _refusal(self, error: SpilloverError, method: str) -> Handler:
        async def refuse(_: object, context: AnyContext) -> None:
            await self._refuse(error, method, context)

        # Of the kind that need not read its requests before it answers, whatever kind the method is.
        return grpc.stream_unary_rpc_method_handler(refuse)

    async def _refuse(self, error: SpilloverError, method: str, context: AnyContext) -> NoReturn:
        status = status_of(error)
        known = method.rpartition("/")[2] if method in NEEDED else "unknown"
        self._metrics.rejected.labels(type(error).__name__).inc()
        self._metrics.requests.labels(known, status.name).inc()
        self._log_refusal(error, method, context.peer())
        await context.abort(status, details_of(error))
        raise AssertionError("abort raises")

    def _log_refusal(self, error: SpilloverError, method: str, peer: str) -> None:
        """One line a second at most: strangers must not fill the disk. The metrics count every refusal."""
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            self._log.warning(
                "refused", method=method[:_MAX_LOGGED], peer=peer, because=str(error)[:_MAX_LOGGED]
            )
