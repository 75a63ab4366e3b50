"""Asks a running daemon for its status, refuses what any other program answers, and shows it."""

import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from spillover.common.cli import EXIT_FAILED, EXIT_LOST
from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.home import SERVICE_HOME, cache_home, status_sockets
from spillover.common.net.addresses import UNIX
from spillover.common.net.fetch import fetch
from spillover.common.net.post import trusted
from spillover.common.net.reload import read_secret
from spillover.edge.status.text import to_text
from spillover.edge.status.values import PAGE, Status
from spillover.edge.status.verdict import Verdict, verdict

LIMIT_S = 5.0
"""How long a daemon may take to answer."""
WATCH_S = 2.0
_CLEAR = "\x1b[H\x1b[2J"
"""Moves a terminal's cursor to the top and clears it (ECMA-48)."""
_BAD = frozenset({Verdict.FAILING, Verdict.LOST, Verdict.UNBALANCED})


def ask(address: str, token_file: Path | None = None, ca: Path | None = None) -> Status:
    """The status of the daemon at `address`: `host:port` of its metrics, or `unix:` and a socket's path.

    `token_file` holds a token that its `security` wants; with `ca` (PEM) it is asked over TLS.

    Raises:
        UnavailableError: nobody answers there, or another program does.
        ConfigError: a file cannot be read.
    """
    token = read_secret(token_file, "--token-file") if token_file else ""
    try:
        code, body = fetch(address, PAGE, LIMIT_S, token=token, context=_trusting(ca) if ca else None)
    except UnavailableError as error:
        if ca is None and isinstance(error.__cause__, http.client.RemoteDisconnected):
            raise UnavailableError(f"{error}; if it serves TLS, name the CA with --ca") from error
        raise
    if code in {401, 403, 429}:
        why = body[:200].decode(errors="replace").strip()
        raise UnavailableError(f"{address} does not let you ask; --token-file names a token: {why}")
    if code != 200:
        raise UnavailableError(f"{address} is no edge daemon: it answers {PAGE} with HTTP status {code}")
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"{address} is no edge daemon of this version: {_why(body, error)}") from error


def ask_device(device_id: str, config_path: str = "", service_home: Path = SERVICE_HOME) -> Status:
    """The status of the daemon `device_id` on this machine, which must run the file at `config_path`, if any.

    Raises:
        UnavailableError: none runs that this user could ask, or it runs another file.
    """
    whys = []
    for path in status_sockets(device_id, service_home):
        try:
            status = ask(f"{UNIX}{path}")
        except UnavailableError as error:
            whys.append(f"; {error}")
            continue
        if not (config_path and status.config) or status.config == config_path:
            return status
        whys.append(f"; {path}: it runs {status.config}, not {config_path}: give each its own device_id")
    where = f"{cache_home()} or {service_home} (SPILLOVER_HOME names the folder of any other)"
    raise UnavailableError(f"no daemon with device_id {device_id!r} answers in {where}{''.join(whys)}")


def show(
    question: Callable[[], Status],
    echo: Callable[[str], None],
    *,
    as_json: bool = False,
    watches: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Tell the answer by `echo`, and return the exit code; with `watches` again and again, without end.

    Raises:
        UnavailableError: there is no answer, and it is not watched.
    """
    while True:
        try:
            status = question()
        except UnavailableError as error:
            if not watches:
                raise
            text, code = str(error), EXIT_FAILED
        else:
            text = msgspec.json.encode(status).decode() if as_json else to_text(status)
            code = EXIT_LOST if verdict(status) in _BAD else 0
        echo(text if as_json or not watches else f"{_CLEAR}{time.strftime('%H:%M:%S')}\n{text}")
        if not watches:
            return code
        sleep(WATCH_S)


def _trusting(ca: Path) -> ssl.SSLContext:
    try:
        return trusted(str(ca))
    except ssl.SSLError as error:
        raise ConfigError(f"--ca: {ca} holds no PEM certificate") from error
    except OSError as error:
        raise ConfigError(f"--ca: {ca}: {error.strerror or error}") from error


def _why(body: bytes, error: msgspec.DecodeError) -> str:
    """What is wrong with `body`: no JSON at all, or that of somebody else."""
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    return f"its page begins with {body[:40].decode(errors='replace')!r}"
