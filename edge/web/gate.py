"""Who may see the pages: a token in a header for programs, a form and a cookie for people.

Browsers send no header with pictures and event streams, so the form gives a cookie (HttpOnly, SameSite=Strict
and, over TLS, Secure). It says whose token opened it and until when, sealed with a key of this process: no
table of sessions could grow, and a token that is taken back closes the sessions that it has opened.
"""

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from spillover.common.config import under_key
from spillover.common.errors import Cause, ForbiddenError, SpilloverError, UnauthenticatedError
from spillover.common.log import get_logger
from spillover.common.net.http import PROVEN
from spillover.common.security.config import ListenerSecurity
from spillover.common.security.tokens import Token, Tokens
from spillover.edge.web.answers import COOKIE, NO_SECRETS_HERE, SESSION, OnRefused, has_token, refuse

SESSION_S = 12 * 3600.0
"""How long a login holds."""
WRONG_TOKENS = 10
"""So many wrong tokens from one address are looked at one after the other ..."""
WRONG_EVERY_S = 6.0
"""... and then one in so many seconds."""
ADDRESSES = 256
"""Addresses whose wrong tokens are counted; the one that was wrong longest ago is forgotten for the next."""
METRICS_ROLE = "metrics"
"""Tokens with this role see no pictures; all others see everything."""
_LOG_EVERY_S = 10.0

_log = get_logger("web")


class Sees(StrEnum):
    """What a page shows, and so for whom it is."""

    NUMBERS = "numbers"
    """Metrics and the status: for every token."""
    PICTURES = "pictures"


class WrongTokens:
    """How many wrong tokens each address has sent. Thread-safe. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._clear_s: OrderedDict[str, float] = OrderedDict()
        """By address when its last wrong token will be forgiven."""

    def wait_s(self, address: str) -> float:
        """After how many seconds the address may try another token; 0: now."""
        with self._lock:
            left_s = self._clear_s.get(_network(address), 0.0) - self._clock()
            return max(0.0, left_s - (WRONG_TOKENS - 1) * WRONG_EVERY_S)

    def note(self, address: str) -> None:
        """The address has sent a wrong token."""
        with self._lock:
            name = _network(address)
            clear_s = max(self._clear_s.pop(name, 0.0), self._clock()) + WRONG_EVERY_S
            self._clear_s[name] = clear_s
            if len(self._clear_s) > ADDRESSES:
                self._clear_s.popitem(last=False)


class TooManyError(SpilloverError):
    """The sender's fault: wrong tokens, one after the other. It may try again after `wait_s` seconds."""

    cause = Cause.RATE

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong tokens came from this address; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


class Gate:
    """Lets callers through who have proven who they are, by the configuration; without `tokens` everybody.

    `on_refused` hears why a request was refused. `secure` says that the pages are served over TLS. `clock`
    gives monotonic seconds.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        on_refused: OnRefused,
        *,
        secure: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._wrong = WrongTokens(clock)
        self._logged_s = -_LOG_EVERY_S
        self.cookie = "__Host-spillover" if secure else "spillover"
        """The name of the cookie. Browsers take the first form over TLS alone, for this host and no other."""
        self._attributes = f"Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
        self.on_refused = on_refused

    @property
    def wants_proof(self) -> bool:
        """Whether callers must prove who they are."""
        return self._tokens is not None

    def guarded(self, app: WSGIApplication, sees: Sees) -> WSGIApplication:
        """`app` for those who may see it; others get a sentence, and a browser at `/` the form."""

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if has_token(environ.get("QUERY_STRING", "")):
                self.on_refused(Cause.INVALID)
                return refuse(start_response, HTTPStatus.BAD_REQUEST, NO_SECRETS_HERE)
            if self._tokens is None:
                return app(environ, start_response)
            try:
                token = self._proven(environ)
                if sees is Sees.PICTURES and token.role == METRICS_ROLE:
                    raise ForbiddenError(f"the token of {token.name!r} is for metrics alone")
            except SpilloverError as error:
                return self._refuse(environ, start_response, error)
            environ[PROVEN]()
            environ[SESSION] = lambda: self._is_good(token)
            return app(environ, start_response)

        return answer

    def log_in(self, address: str, token: str) -> tuple[str, str]:
        """The header that begins a session.

        Raises:
            UnauthenticatedError: the token is wrong.
            ForbiddenError: it is for metrics alone.
            TooManyError: the address has sent too many wrong ones.
        """
        found = self._find(address, f"Bearer {token}")
        if found.role == METRICS_ROLE:
            raise ForbiddenError(f"the token of {found.name!r} is for metrics alone")
        until_s = int(self._clock() + SESSION_S)
        value = f"{found.name}~{until_s}~{self._seal(found, until_s)}"
        return "Set-Cookie", f"{self.cookie}={value}; {self._attributes}"

    def log_out(self) -> tuple[str, str]:
        """The header that ends a session in this browser."""
        return "Set-Cookie", f"{self.cookie}=; Max-Age=0; {self._attributes}"

    def refusal(self, error: SpilloverError) -> tuple[HTTPStatus, list[tuple[str, str]]]:
        """The status of an error of this class, and its headers; counts it."""
        if error.cause:
            self.on_refused(error.cause)
        if isinstance(error, TooManyError):
            return HTTPStatus.TOO_MANY_REQUESTS, [("Retry-After", f"{error.wait_s + 0.5:.0f}")]
        if isinstance(error, ForbiddenError):
            return HTTPStatus.FORBIDDEN, []
        return HTTPStatus.UNAUTHORIZED, [("WWW-Authenticate", "Bearer")]

    def _refuse(
        self, environ: WSGIEnvironment, start_response: StartResponse, error: SpilloverError
    ) -> Iterable[bytes]:
        status, headers = self.refusal(error)
        is_page = environ["PATH_INFO"] == "/" and environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        if is_page and status is HTTPStatus.UNAUTHORIZED and "HTTP_AUTHORIZATION" not in environ:
            return refuse(start_response, HTTPStatus.SEE_OTHER, "sign in", [("Location", "/login")])
        return refuse(start_response, status, str(error), headers)

    def _proven(self, environ: WSGIEnvironment) -> Token:
        if token := self._of_cookies(environ.get("HTTP_COOKIE", "")):
            environ[COOKIE] = True
            return token
        if authorization := environ.get("HTTP_AUTHORIZATION", ""):
            return self._find(environ.get("REMOTE_ADDR", ""), authorization)
        raise UnauthenticatedError("sign in at /login, or send `authorization: Bearer <token>`")

    def _find(self, address: str, authorization: str) -> Token:
        assert self._tokens is not None  # noqa: S101 - nobody comes here without
        if wait_s := self._wrong.wait_s(address):
            raise TooManyError(wait_s)
        try:
            return self._tokens.find(authorization)
        except UnauthenticatedError as error:
            self._wrong.note(address)
            if (now_s := self._clock()) - self._logged_s >= _LOG_EVERY_S:
                self._logged_s = now_s
                _log.warning("wrong token", address=address, because=str(error))
            raise

    def _of_cookies(self, header: str) -> Token | None:
        """The token of the first good cookie: others of this name may have been set for this host."""
        pairs = (pair.strip().partition("=") for pair in header.split(";"))
        found = (self._of_cookie(value) for name, _, value in pairs if name == self.cookie)
        return next((token for token in found if token), None)

    def _of_cookie(self, value: str) -> Token | None:
        name, _, rest = value.partition("~")
        until, _, seal = rest.partition("~")
        if not (until.isascii() and until.isdigit() and len(until) < 16 and seal.isascii()):
            return None
        if self._tokens is None or int(until) <= self._clock():
            return None
        for token in self._tokens.of(name):
            if hmac.compare_digest(self._seal(token, int(until)), seal):
                return token
        return None

    def _seal(self, token: Token, until_s: int) -> str:
        text = f"{token.name}~{until_s}~{token.sha256}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def _is_good(self, token: Token) -> bool:
        return self._tokens is not None and token in self._tokens.of(token.name)


def open_gate(security: ListenerSecurity, on_refused: OnRefused) -> Gate:
    """The gate that the configuration asks for. Raises ConfigError when the tokens cannot be read."""
    tokens = None
    if security.tokens_file:
        with under_key("security.tokens_file"):
            tokens = Tokens(Path(security.tokens_file).expanduser())
    return Gate(tokens, on_refused, secure=security.tls is not None)


def _network(address: str) -> str:
    """The address, or the /64 that an IPv6 address is one of: its user has all of them."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
