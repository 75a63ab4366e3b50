"""The models that came over the air: which one runs, which one ran before, which one is on trial.

    state.json          all that is remembered; one atomic write is one step
    store/SHA256/       a bundle and, unpacked in `model/`, its folder; never changed once it is here
    incoming/           what is being fetched and unpacked; nothing in it counts
    tuf/                signed metadata

A digest stands for a bundle, and an empty one for the model that edge.yaml names. A step is made durable
before it is acted on, so after any end of the process there is a model that runs, and it is known what was
about to be tried.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.common.config.kinds import DIGEST
from spillover.common.errors import ConfigError
from spillover.common.files import lock_file, read_regular, set_aside, sync_folder, write_atomic
from spillover.common.log import get_logger

_log = get_logger("models")

FACTORY = ""
"""Stands for the model that edge.yaml names."""
TRIES = 1
"""Starts that a model on probation has before it counts as one that crashes."""
MOST_REFUSED = 64
"""Refusals that are remembered; the oldest goes. What was refused for its quality is not offered again."""
_MOST_STATE_BYTES = 1 << 20
_BUNDLE, _MODEL, _TRASH = "bundle.tar", "model", "trash"

Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]


class Refusal(msgspec.Struct, frozen=True):
    """Why a bundle does not run here any more."""

    reason: str
    at_unix_s: float
    ran: bool = False
    """Whether it was rolled back, and not refused before it answered."""


class Candidate(msgspec.Struct, frozen=True):
    """A bundle that is installed and may be shadowed."""

    sha256: Annotated[str, DIGEST]
    campaign: str = ""


class Probation(msgspec.Struct, frozen=True):
    """The current model has yet to prove itself."""

    starts_left: int = TRIES
    campaign: str = ""


class State(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The content of `state.json`."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    current: Digest = FACTORY
    previous: Digest | None = None
    """What ran before; None: nothing else has."""
    candidate: Candidate | None = None
    probation: Probation | None = None
    refused: dict[str, Refusal] = {}
    root_version: int = 0
    targets_version: int = 0
    timestamp_version: int = 0
    newest_unix_s: float = 0.0
    """The newest time that could be vouched for."""


class ModelStore:
    """The store in one folder, which this process alone uses. For one thread.

    Raises:
        ConfigError: the folder cannot be used, or another process uses it.
    """

    def __init__(self, folder: Path, now_unix_s: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._now_unix_s = now_unix_s
        try:
            for name in ("store", "incoming", "tuf"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(folder / "state.json", "update.folder")
        except OSError as error:
            raise ConfigError(f"update.folder: cannot use {folder}: {error.strerror}") from error
        self.state = self._read()

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()

    def model_folder(self, sha256: str) -> Path:
        """The model folder of a bundle that is here."""
        return self.folder / "store" / sha256 / _MODEL

    def bundle(self, sha256: str) -> Path:
        """The file of a bundle that is here, out of which patches make others."""
        return bundle_in(self.folder, sha256)

    def has(self, sha256: str) -> bool:
        """Whether it runs from here: it is whole, or it is the model that edge.yaml names."""
        return sha256 == FACTORY or self.model_folder(sha256).is_dir()

    def offer(self, sha256: str, campaign: str = "") -> None:
        """What was installed is the candidate now."""
        self._step(candidate=Candidate(sha256, campaign))

    def drop_candidate(self) -> None:
        """There is none any more; it may come again."""
        self._step(candidate=None)

    def refuse(self, sha256: str, reason: str) -> None:
        """It never becomes the current model of this device."""
        candidate = self.state.candidate
        if candidate and candidate.sha256 == sha256:
            candidate = None
        self._step(candidate=candidate, refused=self._with_refusal(sha256, reason, ran=False))
        _log.warning("model refused", bundle=sha256[:12], because=reason)

    def promote(self) -> None:
        """The candidate is the current model from now on, on probation."""
        candidate = self.state.candidate
        assert candidate is not None  # noqa: S101 - who calls has looked
        self._step(
            current=candidate.sha256,
            previous=self.state.current,
            candidate=None,
            probation=Probation(TRIES, candidate.campaign),
        )

    def starting(self) -> str:
        """The bundle to load, when a process begins; one on probation has one start less.

        A model whose starts are used up has taken the process with it each time: the one before comes back.
        """
        probation = self.state.probation
        if not self.has(self.state.current):
            self.roll_back("its files are gone")
        elif probation and probation.starts_left <= 0:
            self.roll_back("the process ended while it was on probation")
        elif probation:
            left = msgspec.structs.replace(probation, starts_left=probation.starts_left - 1)
            self._step(probation=left)
        return self.state.current

    def confirm(self) -> None:
        """The current model has proven itself."""
        self._step(probation=None)

    def roll_back(self, reason: str) -> str:
        """The model before runs again, and this one never more; the digest of what runs now."""
        failed, back = self.state.current, self.state.previous
        if failed == FACTORY:
            return FACTORY
        if back is None or back in self.state.refused or not self.has(back):
            back = FACTORY
        self._step(
            current=back,
            previous=None,
            probation=None,
            refused=self._with_refusal(failed, reason, ran=True),
        )
        _log.error("model rolled back", bundle=failed[:12], to=back[:12] or "model.folder", because=reason)
        return back

    def accepted(self, root: int, targets: int, timestamp: int, newest_unix_s: float) -> None:
        """Remember the versions of signed metadata, and the time, so that nothing older is believed."""
        self._step(
            root_version=root,
            targets_version=targets,
            timestamp_version=timestamp,
            newest_unix_s=max(newest_unix_s, self.state.newest_unix_s),
        )

    def collect(self, wanted: str = FACTORY) -> None:
        """Remove the bundles that nobody needs; `wanted` is one that may be here and not yet a candidate."""
        trash = self.folder / _TRASH
        shutil.rmtree(trash, ignore_errors=True)
        trash.mkdir()
        state = self.state
        candidate = state.candidate.sha256 if state.candidate else FACTORY
        needed = {state.current, state.previous, candidate, wanted}
        for path in (self.folder / "store").iterdir():
            if path.name not in needed:
                path.replace(trash / path.name)
        shutil.rmtree(trash, ignore_errors=True)

    def _with_refusal(self, sha256: str, reason: str, *, ran: bool) -> dict[str, Refusal]:
        refused = {key: value for key, value in self.state.refused.items() if key != sha256}
        refused[sha256] = Refusal(reason, self._now_unix_s(), ran)
        return dict(list(refused.items())[-MOST_REFUSED:])

    def _step(self, **changed: object) -> None:
        """Make a change durable. Raises OSError: it is not made."""
        state = msgspec.structs.replace(self.state, **changed)
        if state != self.state:
            write_atomic(self.folder / "state.json", msgspec.json.encode(state) + b"\n")
            self.state = state

    def _read(self) -> State:
        path = self.folder / "state.json"
        try:
            return msgspec.json.decode(read_regular(path, _MOST_STATE_BYTES), type=State)
        except FileNotFoundError:
            return State()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            aside = set_aside(path)
            _log.error(
                "state of models cannot be read; model.folder runs", aside=str(aside), error=str(error)
            )
            return State()


def bundle_in(store_folder: Path, sha256: str) -> Path:
    """The file of a bundle in a store."""
    return store_folder / "store" / sha256 / _BUNDLE


def install(store_folder: Path, sha256: str, bundle: Path, unpacked: Path) -> None:
    """Put a checked bundle and its unpacked folder, both in `incoming`, into the store as one step.

    Both are synced by who wrote them. The bundle stays in `incoming` too, so that an end before the last step
    costs nothing; where the file system has no links it is moved. Raises OSError.
    """
    whole = store_folder / "incoming" / f"{sha256}.whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    try:
        (whole / _BUNDLE).hardlink_to(bundle)
    except OSError:
        bundle.replace(whole / _BUNDLE)
    unpacked.replace(whole / _MODEL)
    sync_folder(whole)
    place = store_folder / "store" / sha256
    if place.exists():
        shutil.rmtree(whole)
        return
    whole.replace(place)
    sync_folder(place.parent)
