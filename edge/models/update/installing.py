"""Brings one bundle into the store: fetch or patch, check, unpack, and run it before anything depends on it.

What can never work here is a RefusedError, and the device remembers it. All else may be tried again, and goes
on where it stopped: what is being fetched stays in `incoming/`, and its length says from where on.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bsdiff4
import numpy as np

from spillover.common.bundle.format import GOLDEN_FOLDER, BundleManifest, Patch, unpack
from spillover.common.bundle.golden import check_golden
from spillover.common.bundle.target import Target
from spillover.common.errors import ModelError, SpilloverError, UnavailableError
from spillover.common.log import get_logger
from spillover.common.model.ensemble.opening import load_model
from spillover.edge.models.store import bundle_in, install

_log = get_logger("update")

_CHUNK_BYTES = 1 << 20
_RUNS = 3
_ROOM = 3
"""The bundle, its unpacked files, and what a patch is made of, in sizes of the bundle."""

Fetch = Callable[[str, int], Iterator[bytes]]
"""The content of a target, by its digest, from an offset on. Raises UnavailableError."""


class RefusedError(SpilloverError):
    """The bundle's fault: it can never run on this device."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a bundle must fit."""

    software: str
    task: str
    labels_sha256: str
    runtimes: tuple[str, ...]
    has: tuple[str, ...] = ()
    """Digests of bundles that are here and may be patched, the likeliest first."""


def bring(store_folder: Path, wanted: Target, facts: DeviceFacts, fetch: Fetch) -> None:
    """Fetch a bundle that is signed, prove that it runs, and put it into the store.

    Raises:
        RefusedError: it does not fit the device, is damaged though signed, or does not run.
        UnavailableError: it cannot be fetched now; what came is kept.
        OSError: the disk is full or broken.
    """
    _check_fits(wanted.note.bundle, facts)
    if (store_folder / "store" / wanted.sha256).is_dir():
        return  # an earlier process ended before it could say so
    _check_room(store_folder, wanted.size_bytes)
    incoming = store_folder / "incoming"
    whole = _patched(store_folder, wanted, facts, fetch)
    if whole is None:
        whole = _fetched(incoming, wanted.sha256, wanted.size_bytes, fetch)
    unpacked = incoming / f"{wanted.sha256}.model"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        unpack(whole, unpacked)
        _try_out(unpacked)
    except ModelError as error:
        _clear(incoming)
        raise RefusedError(str(error)) from error
    install(store_folder, wanted.sha256, whole, unpacked)
    _clear(incoming)


def _clear(incoming: Path) -> None:
    """Remove what has led to a bundle; until then it stays, so that no byte is fetched twice."""
    for path in incoming.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_fits(bundle: BundleManifest, facts: DeviceFacts) -> None:
    """Raise RefusedError unless the device can run it, and its answers mean what the present ones mean."""
    what = f"bundle {bundle.name}@{bundle.version}"
    if _numbers(bundle.min_software) > _numbers(facts.software):
        raise RefusedError(f"{what}: needs software {bundle.min_software}, this is {facts.software}")
    if bundle.task != facts.task:
        raise RefusedError(f"{what}: is for {bundle.task}, this device's model for {facts.task}")
    if bundle.labels_sha256 != facts.labels_sha256:
        raise RefusedError(f"{what}: has other labels, or in another order, than this device's model")
    if not set(bundle.runtimes) & set(facts.runtimes):
        wanted, here = ", ".join(bundle.runtimes), ", ".join(facts.runtimes)
        raise RefusedError(f"{what}: runs on {wanted}, this device has {here}")


def _numbers(version: str) -> tuple[int, ...]:
    """Of a version such as 0.2.1; what follows the numbers does not count."""
    parts = version.split("+", maxsplit=1)[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _check_room(folder: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < _ROOM * size_bytes:
        raise UnavailableError(
            f"{folder}: {free / 1e6:.0f} MB are free; a bundle of {size_bytes / 1e6:.0f} MB needs "
            f"{_ROOM * size_bytes / 1e6:.0f}"
        )


def _patched(store_folder: Path, wanted: Target, facts: DeviceFacts, fetch: Fetch) -> Path | None:
    """The bundle, made out of one that is here; None: there is no patch that pays, or it does not fit."""
    for old in facts.has:
        patch = wanted.note.patches.get(old)
        if patch is None or patch.size_bytes >= wanted.size_bytes:
            continue
        whole = store_folder / "incoming" / f"{wanted.sha256}.patched"
        try:
            _apply(bundle_in(store_folder, old), patch, whole, wanted, fetch)
        except (ModelError, ValueError, OSError, MemoryError) as error:
            whole.unlink(missing_ok=True)
            _log.warning("patch does not fit; the whole bundle is fetched", old=old[:12], error=str(error))
            return None
        return whole
    return None


def _apply(old: Path, patch: Patch, whole: Path, wanted: Target, fetch: Fetch) -> None:
    """Raises ModelError, ValueError or OSError where the patch does not give the bundle."""
    path = _fetched(whole.parent, patch.sha256, patch.size_bytes, fetch)
    made = bsdiff4.patch(old.read_bytes(), path.read_bytes())
    if hashlib.sha256(made).hexdigest() != wanted.sha256:
        raise ModelError("it gives another bundle")
    with whole.open("wb") as file:  # in place: ends of the process must not leave one part after the other
        file.write(made)
        file.flush()
        os.fsync(file.fileno())


def _fetched(incoming: Path, sha256: str, size_bytes: int, fetch: Fetch) -> Path:
    """The file of a target, complete and checked; goes on where an earlier attempt has stopped.

    Raises:
        RefusedError: more comes than was signed, or something else.
        UnavailableError: it ends too early.
    """
    path = incoming / f"{sha256}.part"
    if path.exists() and path.stat().st_size > size_bytes:
        path.unlink()
    with path.open("ab") as file:
        for chunk in fetch(sha256, file.tell()) if file.tell() < size_bytes else ():
            if file.tell() + len(chunk) > size_bytes:
                path.unlink()
                raise UnavailableError(
                    f"target {sha256[:12]}: more than the {size_bytes} bytes that are signed"
                )
            file.write(chunk)
            file.flush()
        os.fsync(file.fileno())
        have = file.tell()
    if have < size_bytes:
        raise UnavailableError(f"target {sha256[:12]}: {have} of {size_bytes} bytes have come")
    with path.open("rb") as whole:
        if hashlib.file_digest(whole, "sha256").hexdigest() != sha256:
            path.unlink()
            raise UnavailableError(f"target {sha256[:12]}: what has come has another digest")
    return path


def _try_out(folder: Path) -> None:
    """Load the model, run it, and see that it answers as it did where it was packed. Raises ModelError."""
    model = load_model(folder)
    width, height = model.folder.input_sides
    for _ in range(_RUNS):
        model.predict(np.zeros((height, width, 3), np.uint8))
    if (folder / GOLDEN_FOLDER).is_dir():
        check_golden(model, folder / GOLDEN_FOLDER)
