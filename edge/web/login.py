"""The form that takes a token, and its end: what a person needs where callers must prove who they are."""

from collections.abc import Iterable, Mapping
from functools import partial
from html import escape
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from spillover.common.errors import Cause, InvalidInputError, SlowCallerError, SpilloverError
from spillover.common.net.http import read_body
from spillover.edge.web.answers import HEADERS, POST, READ, Query, guarded, refuse, send
from spillover.edge.web.gate import Gate

FORM_BYTES = 4096
_KIND = "text/html; charset=utf-8"
_WHY = b"<!-- why -->"


class Login:
    """Serves `/login` and `/logout` of a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._page = files("spillover.edge.web").joinpath("static", "login.html").read_bytes()

    @property
    def routes(self) -> Mapping[str, WSGIApplication]:
        """The pages by their paths; everybody may ask for them."""
        apart = partial(guarded, on_refused=self._gate.on_refused, is_local=False)
        return {
            "/login": apart(self._log_in, methods=(*READ, *POST)),
            "/logout": apart(self._log_out, methods=POST),
        }

    def _log_in(self, environ: WSGIEnvironment, start_response: StartResponse, _: Query) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READ:
            return send(environ, start_response, _KIND, self._page)
        try:
            form = parse_qs(read_body(environ, FORM_BYTES).decode(), max_num_fields=2)
            cookie = self._gate.log_in(environ.get("REMOTE_ADDR", ""), form.get("token", [""])[0].strip())
        except (InvalidInputError, SlowCallerError, ValueError) as error:
            self._gate.on_refused(getattr(error, "cause", "") or Cause.INVALID)
            return refuse(start_response, HTTPStatus.BAD_REQUEST, str(error))
        except SpilloverError as error:
            status, headers = self._gate.refusal(error)
            start_response(f"{status.value} {status.phrase}", [("Content-Type", _KIND), *headers, *HEADERS])
            return [self._page.replace(_WHY, escape(str(error)).encode())]
        return refuse(start_response, HTTPStatus.SEE_OTHER, "welcome", [("Location", "/"), cookie])

    def _log_out(self, _: WSGIEnvironment, start_response: StartResponse, __: Query) -> Iterable[bytes]:
        gone = [("Location", "/login"), self._gate.log_out()]
        return refuse(start_response, HTTPStatus.SEE_OTHER, "signed out", gone)
