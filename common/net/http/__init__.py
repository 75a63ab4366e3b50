"""A small HTTP server for pages that scrapers, probes and people read: metrics, status, `/livez`, `/readyz`.

It is WSGI over the standard library, one thread per request, on a port or on a Unix socket. What a client may
hold is bounded in number, time and bytes, and a newcomer takes the place of who has kept silent longest, so
that nobody owns the page. TLS and roles are arguments, so both sides use the same server.
"""

from spillover.common.net.http.body import read_body
from spillover.common.net.http.context import ServerContext
from spillover.common.net.http.handler import (
    MAX_HEADER_BYTES,
    PEER,
    PROVEN,
    SILENCE_LIMIT_S,
    STREAM,
    Proven,
    Stream,
)
from spillover.common.net.http.places import (
    HEADERS_LIMIT_S,
    MAX_CONNECTIONS,
    MAX_OF_ADDRESS,
    MAX_STREAMS,
    REQUEST_LIMIT_S,
)
from spillover.common.net.http.server import Admit, HttpServer

__all__ = [
    "HEADERS_LIMIT_S",
    "MAX_CONNECTIONS",
    "MAX_HEADER_BYTES",
    "MAX_OF_ADDRESS",
    "MAX_STREAMS",
    "PEER",
    "PROVEN",
    "REQUEST_LIMIT_S",
    "SILENCE_LIMIT_S",
    "STREAM",
    "Admit",
    "HttpServer",
    "Proven",
    "ServerContext",
    "Stream",
    "read_body",
]
