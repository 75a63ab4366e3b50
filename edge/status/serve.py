"""Serves the status as JSON: on a Unix socket in the state folder, and beside the metrics."""

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec

from spillover.common.errors import ConfigError
from spillover.common.home import status_socket
from spillover.common.log import get_logger
from spillover.common.net.addresses import UNIX
from spillover.common.net.http import HttpServer
from spillover.edge.status.values import PAGE, Status

_log = get_logger("status")


def status_page(status: Callable[[], Status]) -> WSGIApplication:
    """A page with the status at the moment of the request."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        del environ
        body = msgspec.json.encode(status())
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

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
