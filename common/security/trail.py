"""The audit trail of commands that make and revoke credentials: `audit.jsonl`, beside what they change."""

import os
import pwd
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from spillover.common.errors import ConfigError
from spillover.common.files import PRIVATE
from spillover.common.log import printable

TRAIL = "audit.jsonl"
_MAX_TEXT = 200

About = str | int | float


def audit_command(folder: Path, action: str, **about: About) -> None:
    """Append what the user of this process has done to `folder`/audit.jsonl, which is only ever appended to.

    Raises:
        ConfigError: it cannot be written; what was done is done.
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **_user(), "action": action, **about}
    path = folder / TRAIL
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, PRIVATE)
        try:
            os.write(descriptor, msgspec.json.encode(clean(line)) + b"\n")  # one write: lines do not mix
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"{action} is done, and {path} cannot be written: {error.strerror}") from error


def clean(about: Mapping[str, About]) -> dict[str, About]:
    """`about` with what others wrote cut and escaped."""
    return {
        key: printable(value, _MAX_TEXT) if isinstance(value, str) else value for key, value in about.items()
    }


def _user() -> dict[str, About]:
    """Who runs this process: by its user id, as the environment can say anything."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    behind = os.environ.get("SUDO_USER")
    user: dict[str, About] = {"user": name}
    return user | {"sudo_user": behind} if behind else user
