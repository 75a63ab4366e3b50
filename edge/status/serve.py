"""Serves the status as JSON: on a Unix socket in the state folder, and beside the metrics; probes too."""

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec

from spillover.common.errors import ConfigError
from spillover.common.home import status_socket
from spillover.common.log import get_logger
from spillover.common.net.addresses import UNIX
from spillover.common.net.http import HttpServer
from spillover.edge.status.values import PAGE, Status
from spillover.edge.status.verdict import unready

STUCK_S = 60.0
"""A frame that is in work for so long hangs."""

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
_log = get_logger("status")


def status_page(status: Callable[[], Status]) -> WSGIApplication:
    """A page with the status at the moment of the request."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        del environ
        body = msgspec.json.encode(status())
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    return answer


def livez(hangs: Callable[[], bool]) -> WSGIApplication:
    """200 while frames pass through the pipeline, or none is there."""
    return _probe(lambda: [f"a frame has been in work for more than {STUCK_S:g} s"] if hangs() else [])


def readyz(status: Callable[[], Status]) -> WSGIApplication:
    """200 while every camera gives pictures, else 503 and which does not; the link does not matter."""
    return _probe(lambda: unready(status()))


def _probe(state: Callable[[], Iterable[str]]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        del environ
        reasons = list(state())
        start_response("503 Service Unavailable" if reasons else "200 OK", list(_TEXT))
        return ["".join(f"{line}\n" for line in reasons or ["ok"]).encode()]

    return answer


def status_server(device_id: str, page: WSGIApplication) -> HttpServer | None:
    """A server on the socket of `device_id`; None, and a warning, where it cannot be had.

    A daemon runs on without it: a camera is worth more than a look at it.
    """
    path = status_socket(device_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return HttpServer(f"{UNIX}{path}", {PAGE: page}, key="the status socket")
    except (OSError, ConfigError) as error:
        _log.warning("nobody can ask for the status", error=str(error))
        return None
