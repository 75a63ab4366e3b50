"""Finds out why a camera cannot be opened: OpenCV says only that it cannot."""

import grp
import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_CONNECT_LIMIT_S = 3.0


def why_no_device(path: Path) -> str:
    """What is wrong with a device that could not be opened: absent, no permission, busy, or no camera."""
    try:
        group_id = path.stat().st_gid
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        return f"there is no {path}"
    except PermissionError:
        return f"no permission for {path}: this user must be in the group {_group(group_id)}"
    except OSError as error:
        return f"{path}: {error.strerror}"
    if holder := _holder(path):
        return f"{path} is busy: {holder} has it open"
    return f"{path} is there, but gives no picture: it may be busy, or not be a camera that OpenCV can read"


def why_no_stream(url: str) -> str:
    """What is wrong with a stream that could not be opened; says neither user nor password.

    It asks the host once more, for at most 3 s.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), 0)
    except ValueError as error:
        return f"not a URL: {error}"
    if not (host and port):
        return f"OpenCV cannot open a stream of {parts.scheme}:"
    try:
        socket.create_connection((host, port), _CONNECT_LIMIT_S).close()
    except socket.gaierror:
        return f"the name {host} is not known"
    except TimeoutError:
        return f"nothing answers at {host}:{port}"
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return f"{host}:{port} answers, but gives no video: check path, user and password"


def _group(group_id: int) -> str:
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)


def _holder(path: Path) -> str:
    """A process that has `path` open, as far as this user may see: its name and id. Empty without one."""
    wanted = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):
            if any(os.path.realpath(link) == wanted for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""
