"""Bearer tokens: generated here, stored as hashes, compared in constant time.

A token is `<name>~<secret>`, the secret 256 random bits, sent as `authorization: Bearer <token>` (RFC 6750).
The file stores SHA-256 of the secret. A slow hash would add nothing: it protects secrets that people choose,
and this one cannot be guessed.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.common.config import Section, convert_config, load_config
from spillover.common.config.kinds import DIGEST, name_of_at_most
from spillover.common.errors import ConfigError, UnauthenticatedError
from spillover.common.log import get_logger
from spillover.common.net.reload import Reloading, warn_if_exposed
from spillover.common.security.files import locked, write_private

Name = Annotated[str, name_of_at_most(64)]
Sha256 = Annotated[str, DIGEST]
HEADER = "authorization"


class Token(Section, frozen=True, omit_defaults=True):
    """The stored part of one token."""

    name: Name
    role: Name
    sha256: Sha256
    expires: datetime | None = None

    @property
    def has_expired(self) -> bool:
        """Whether its time is over, by the wall clock."""
        return self.expires is not None and self.expires <= datetime.now(UTC)


class TokenFile(Section, frozen=True):
    """The whole file. Two tokens of one name are both valid, so that one can be replaced without a gap."""

    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified identity: the device's or person's name, and its role. An anonymous caller has no name."""

    name: str
    role: str


class Tokens:
    """Identifies callers by their tokens; reloads the file when it changes.

    A file that is deleted revokes every token: who takes the list away wants nobody let in by it. One that
    cannot be read, or is no token file, may be half of a change: the list before it stays.

    Raises ConfigError if unreadable at first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was_read = False
        self._file = Reloading([path], self._read)
        warn_if_exposed("security.tokens_file", path)

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """The caller that sent this metadata. Raises UnauthenticatedError, which reveals no details."""
        token = self.find(_header(metadata))
        return Caller(token.name, token.role)

    def find(self, authorization: str) -> Token:
        """The token of this header, as the file has it. Raises UnauthenticatedError as `caller` does."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthenticatedError("this server wants `authorization: Bearer <token>`")
        name, _, secret = token.strip().rpartition("~")
        digest = _digest(secret)
        tokens = [each for each in self._file.get().get(name, ()) if hmac.compare_digest(each.sha256, digest)]
        if not tokens:
            raise UnauthenticatedError("this token is not known here")
        if tokens[0].has_expired:
            raise UnauthenticatedError(f"the token of {name!r} has expired")
        return tokens[0]

    def of(self, name: str) -> list[Token]:
        """The tokens of `name` that are good now."""
        return [token for token in self._file.get().get(name, ()) if not token.has_expired]

    def _read(self) -> Mapping[str, tuple[Token, ...]]:
        try:
            tokens = _by_name(load_config(self._path, TokenFile))
        except ConfigError as error:
            if not (self._was_read and isinstance(error.__cause__, FileNotFoundError)):
                raise
            get_logger("security").warning("token file deleted: no token is good", file=str(self._path))
            return {}
        self._was_read = True
        return tokens


def add_token(path: Path, name: str, role: str, days: float | None) -> str:
    """Make a token for `name`, add its hash to the file, and return the token, which is stored nowhere.

    Raises:
        ConfigError: the file is not a token file, or the name or role has invalid characters.
    """
    secret = secrets.token_urlsafe(32)
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    raw = {"name": name, "role": role, "sha256": _digest(secret), "expires": expires}
    token = convert_config(raw, Token, f"token of {name!r}")
    with locked(path.parent):
        _write(path, (*read_tokens(path), token))
    return f"{name}~{secret}"


def revoke_tokens(path: Path, name: str) -> int:
    """Remove every token of `name` from the file; returns how many. Raises ConfigError like `add_token`."""
    with locked(path.parent):
        tokens = read_tokens(path)
        kept = tuple(token for token in tokens if token.name != name)
        if len(kept) < len(tokens):
            _write(path, kept)
    return len(tokens) - len(kept)


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens in the file; empty if it does not exist yet. Raises ConfigError."""
    return load_config(path, TokenFile).tokens if path.exists() else ()


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    write_private(path, msgspec.yaml.encode(TokenFile(tokens=tokens)))


def _by_name(file: TokenFile) -> Mapping[str, tuple[Token, ...]]:
    names = {token.name for token in file.tokens}
    return {name: tuple(token for token in file.tokens if token.name == name) for name in names}


def _header(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    return next((value for key, value in metadata if key == HEADER and isinstance(value, str)), "")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
