"""What every answer of the live view has in common: who may ask, how, and which headers go along.

Browsers carry strangers along: a site that its owner points at 127.0.0.1 (DNS rebinding), or one that merely
embeds a picture or sends a form. So no other site may ask; and where nobody has to prove who he is, the name
by which the page was asked for must be this machine's.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from spillover.common.errors import Cause, InvalidInputError
from spillover.common.net.addresses import is_loopback

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
POLICY = (
    "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What the page may load and do (CSP level 3): its own files, and nothing inline."""
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    # Without a referrer Chromium hides the origin of a form, by which the login is judged.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
MAX_FIELDS = 4

SESSION = "spillover.session"
"""Where an application finds a `Session`, if callers have to prove who they are."""
COOKIE = "spillover.cookie"
"""Set where a browser's cookie is the proof, which the browser would send for other sites' forms too."""

Session = Callable[[], bool]
"""Whether what the caller has proven still holds. An answer without an end asks now and then."""


Query = Mapping[str, str]
Respond = Callable[[WSGIEnvironment, StartResponse, Query], Iterable[bytes]]

OnRefused = Callable[[str], None]
"""Hears the cause of a refusal."""

READ = ("GET", "HEAD")
POST = ("POST",)

NO_SECRETS_HERE = (
    "a token never goes into an address, which logs and histories keep: take this one back with "
    "`spillover edge token revoke`, and sign in at /login or send `authorization: Bearer <token>`"
)
_SECRET_NAMES = ("token", "access_token", "bearer", "auth", "authorization", "api_key", "apikey", "password")


def guarded(
    respond: Respond,
    on_refused: OnRefused,
    fields: Sequence[str] = (),
    methods: Sequence[str] = READ,
    *,
    is_local: bool = True,
) -> WSGIApplication:
    """`respond` for callers that may ask: by these `methods`, from its own pages, these query `fields`.

    Others get 405, 403 or 400 and a line that says why, and `on_refused` hears the cause. `is_local`: nobody
    has to prove who he is.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in methods:
            on_refused(Cause.UNSUPPORTED)
            why = f"{environ['REQUEST_METHOD'][:20]} is not supported here; use {methods[0]}"
            allow = ("Allow", ", ".join(methods))
            return refuse(start_response, HTTPStatus.METHOD_NOT_ALLOWED, why, [allow])
        if why := _stranger(environ, is_local=is_local):
            on_refused(Cause.FORBIDDEN)
            return refuse(start_response, HTTPStatus.FORBIDDEN, why)
        try:
            query = _query(environ.get("QUERY_STRING", ""), fields)
        except InvalidInputError as error:
            on_refused(Cause.INVALID)
            return refuse(start_response, HTTPStatus.BAD_REQUEST, str(error))
        return respond(environ, start_response, query)

    return answer


def send(environ: WSGIEnvironment, start_response: StartResponse, kind: str, body: bytes) -> Iterable[bytes]:
    """Answer with the whole of `body`."""
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def refuse(
    start_response: StartResponse,
    status: HTTPStatus,
    why: str,
    headers: Sequence[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Answer that it cannot be, and why."""
    start_response(f"{status.value} {status.phrase}", [("Content-Type", TEXT), *headers, *HEADERS])
    return [f"{why}\n".encode()]


def has_token(query: str) -> bool:
    """Whether the query of an address seems to hold a secret."""
    names = {part.partition("=")[0].lower() for part in query.split("&")}
    return not names.isdisjoint(_SECRET_NAMES)


def _stranger(environ: WSGIEnvironment, *, is_local: bool) -> str:
    """Why the caller is one; empty if it is not.

    Browsers alone send `Sec-Fetch-Site` (W3C Fetch Metadata), and those without it `Origin` with a POST. A
    link to the page itself may be anywhere.
    """
    host = environ.get("HTTP_HOST", "localhost")
    if is_local and not is_loopback(host if re.search(r":\d+$", host) else f"{host}:80"):
        return "this page is for this machine alone: ask for it as 127.0.0.1 or localhost"
    is_link = environ.get("HTTP_SEC_FETCH_MODE") == "navigate" and environ["PATH_INFO"] == "/"
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in {"none", "same-origin"} and not is_link:
        return "another site may not ask for this"
    if environ["REQUEST_METHOD"] != "POST":
        return ""
    if (origin := environ.get("HTTP_ORIGIN")) is not None and urlsplit(origin).netloc != host:
        return "another site may not send this"
    if COOKIE in environ and not (origin or "HTTP_SEC_FETCH_SITE" in environ):
        return "a browser must say from which site it sends this; programs send their token as a header"
    return ""


def _query(text: str, fields: Sequence[str]) -> Query:
    if has_token(text):
        raise InvalidInputError(NO_SECRETS_HERE)
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise InvalidInputError(f"too many query fields; there are at most {MAX_FIELDS}") from error
    query = dict(pairs)
    unknown = [name for name in query if name not in fields]
    if unknown or len(query) < len(pairs):
        known = f"the fields {', '.join(fields)}, each once" if fields else "no query"
        raise InvalidInputError(f"this page takes {known}")
    return query
