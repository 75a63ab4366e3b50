"""Which bundles may be installed: TUF metadata, fetched through the parent and checked by python-tuf.

The time is the newest that the device can vouch for, since a clock in the field may be years off. With a slow
clock it does not see that metadata is old, and that is all it costs: versions need no clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from spillover.common.bundle.target import MOST_METADATA_BYTES, Target, target_of
from spillover.common.errors import ConfigError, InvalidInputError, SpilloverError
from spillover.common.files import read_regular

FIRST_ROOT = "root.json"

GetMetadata = Callable[[str], bytes | None]
"""Metadata by its name; None: the server has none of that name. Raises UnavailableError."""


class UntrustedError(SpilloverError):
    """The server's fault, or that of whoever is between: metadata that does not hold."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Of the newest metadata that was accepted."""

    root: int
    targets: int
    timestamp: int


NOTHING_YET = Versions(0, 0, 0)


class Trust:
    """Metadata as it is now, of a device whose `folder` has the first root and what was accepted since.

    Nothing older than `least` is accepted: tuf does not sync what it keeps, so a power cut may take it.

    Raises:
        ConfigError: there is no first root.
        UntrustedError: metadata is not signed as it must be, is older than what was accepted, or has expired.
        UnavailableError: it cannot be fetched now.
    """

    def __init__(
        self, folder: Path, get: GetMetadata, now_unix_s: float, least: Versions = NOTHING_YET
    ) -> None:
        try:
            first = read_regular(folder / FIRST_ROOT, MOST_METADATA_BYTES)
        except OSError as error:
            raise ConfigError(
                f"{folder / FIRST_ROOT}: {error.strerror}; `spillover edge enrol` fetches it"
            ) from error
        fetcher = _Fetcher(get)
        accepted = folder / "accepted"
        accepted.mkdir(exist_ok=True)
        try:
            updater = Updater(
                str(accepted),
                "",
                fetcher=fetcher,
                config=UpdaterConfig(prefix_targets_with_hash=False),
                bootstrap=first,
            )
            _set_time(updater, now_unix_s)
            updater.refresh()
        except ExpiredMetadataError as error:
            raise UntrustedError(f"metadata has expired: {error}; no new model is installed") from error
        except DownloadError as error:
            raise (fetcher.failed or UntrustedError(f"metadata: {error}")) from error
        except RepositoryError as error:
            raise UntrustedError(f"metadata: {error}") from error
        self._updater = updater
        if any(now < before for now, before in zip(astuple(self.versions), astuple(least), strict=True)):
            raise UntrustedError(f"metadata: {self.versions} is older than what was accepted, {least}")

    @property
    def versions(self) -> Versions:
        """Of what was accepted."""
        trusted = self._updater._trusted_set  # noqa: SLF001 - it has no other place
        return Versions(trusted.root.version, trusted.targets.version, trusted.timestamp.version)

    def bundle(self, sha256: str) -> Target:
        """What is signed of that bundle. Raises UntrustedError: it is none that may be installed."""
        target = self._updater.get_targetinfo(sha256)
        if target is None:
            raise UntrustedError(f"bundle {sha256}: is not among those that are signed")
        try:
            return target_of(sha256, target.length, target.hashes, target.custom)
        except InvalidInputError as error:
            raise UntrustedError(str(error)) from error


class _Fetcher(FetcherInterface):
    """Gives metadata that the parent has fetched."""

    def __init__(self, get: GetMetadata) -> None:
        self._get = get
        self.failed: SpilloverError | None = None
        """What the parent said, where it could not."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.lstrip("/")
        try:
            data = self._get(name)
        except SpilloverError as error:
            self.failed = error
            raise
        if data is None:
            raise DownloadHTTPError(f"there is no {name}", 404)
        return iter([data])


def _set_time(updater: Updater, now_unix_s: float) -> None:
    """Judge expiry by this time: tuf 7 has no other way to be told of one but its system clock's."""
    trusted = updater._trusted_set  # noqa: SLF001
    if not isinstance(getattr(trusted, "reference_time", None), datetime):
        raise ConfigError("this version of tuf takes the time from elsewhere: the extra `update` wants 7.x")
    trusted.reference_time = datetime.fromtimestamp(now_unix_s, UTC)


def trusted_time(
    told_unix_s: float, newest_unix_s: float, clock_unix_s: float, *, is_synchronised: bool
) -> float:
    """The newest of the server's time, the last one that was accepted, and that of a clock that is right."""
    return max(told_unix_s, newest_unix_s, clock_unix_s if is_synchronised else 0.0)
