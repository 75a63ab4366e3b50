"""Splits addresses, hides their passwords, and tells which of them are reachable only from this machine."""

import ipaddress
import re
from urllib.parse import quote, urlsplit

# Host and port of RFC 3986, optionally after the name of a gRPC resolver, as in dns:///host:port.
_HOST_PORT = re.compile(r"(?:[a-z0-9]+:(?://[^/]*/)?)?(?:\[[0-9a-fA-F:.]+\]|[^:\s\[\]/]+):([0-9]{1,5})")
_MAX_PORT = 65535
UNIX = "unix:"
"""How the address of a Unix socket begins, before the absolute path of its file."""
_MAX_UNIX_PATH = 107

HIDDEN = "***"
"""What is shown in place of a password."""
# The first form is for passwords with spaces, which no URL should have.
_URL = re.compile(r"([a-z][a-z0-9+.-]*://)([^/?#@\s]*:[^/?#@\n]*@\S*|\S+)", re.IGNORECASE)
_USER = re.compile(r"[a-z][a-z0-9+.-]*://[^:/?#@\s]+@", re.IGNORECASE)
# Cameras without a login of their protocol's take it in the query, or in the path, as in
# rtsp://host/user=admin_password=x_channel=1.
_PARAMETER = re.compile(
    r"(?<![a-z0-9])((?:password|passwd|pass|pwd|token|secret|auth|(?:api|access)[_-]?(?:key|token))=)"
    r"[^&;\s]*?(?=[&;\s'\"#]|_[a-z]+=|$)",
    re.IGNORECASE,
)


def is_loopback(address: str) -> bool:
    """Whether gRPC's `address`, such as `host:port` or `unix:path`, is only reachable from this machine."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_host_port(address: str) -> tuple[str, int]:
    """Host without IPv6 brackets, and port. Raises ValueError if there is no port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def with_port(address: str, port: int) -> str:
    """`address` with another port, for example the real one after binding port 0."""
    return f"{address.rpartition(':')[0]}:{port}"


def without_password(text: str) -> str:
    """`text`, a URL or a sentence that holds some, with every password in it hidden.

    Hidden are the password before the host, as in `rtsp://user:***@host/`, and what a query or path calls
    password, token, key or the like. A password that should have been percent-encoded is hidden as a whole.
    """
    return _URL.sub(lambda found: found[1] + _hide(found[2]), text) if "://" in text else text


def _hide(rest: str) -> str:
    """`rest` of a URL, from its authority on, without passwords."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host_port = authority.rpartition("@")[2]
    if "@" not in authority and ":" in host_port and not re.fullmatch(r".*[\]:][0-9]*", host_port):
        authority = rest  # no port follows, but a password with a slash
    user_info, at, _ = authority.rpartition("@")
    if at:
        user, colon, _ = user_info.partition(":")
        rest = f"{user}{colon}{HIDDEN if colon else ''}@{rest[len(user_info) + 1 :]}"
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", rest)


def takes_password(url: str) -> bool:
    """Whether `url` names a user and no password, as in `rtsp://admin@host/`."""
    return _USER.match(url) is not None


def with_password(url: str, password: str) -> str:
    """`url`, which names a user, with that user's password.

    Raises:
        ValueError: it names no user, or has a password already.
    """
    if (found := _USER.match(url)) is None:
        raise ValueError("must name a user and no password, as in rtsp://admin@192.0.2.7/stream")
    return f"{found[0][:-1]}:{quote(password, safe='')}@{url[found.end() :]}"


def web_address_fault(url: str) -> str:
    """Why `url` is no address of a web server; empty if it is one. The text does not show it."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    if not port_is_good or not re.fullmatch(r"[!-~]+", url):
        return "is no URL"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must begin with https:// or http:// and a host"
    if "@" in parts.netloc or parts.fragment:
        return "must hold neither a user nor a #"
    return ""


def address_fault(address: str) -> str:
    """Why `address` is neither `host:port` nor a Unix socket; empty if it is one."""
    shown = without_password(address)
    if address.startswith(UNIX):
        path = address.removeprefix(UNIX)
        if not path.startswith("/") or len(path.encode()) > _MAX_UNIX_PATH:
            return f"{shown!r}: a Unix socket is unix:/absolute/path of at most {_MAX_UNIX_PATH} bytes"
        return ""
    parts = _HOST_PORT.fullmatch(address)
    if parts is None:
        return f"{shown!r} is not host:port, as in 192.0.2.7:50051 or [2001:db8::7]:50051"
    if int(parts[1]) > _MAX_PORT:
        return f"{shown!r}: a port is at most {_MAX_PORT}"
    return ""
