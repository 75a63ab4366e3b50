"""Writes model folders: complete and checked, or not at all."""

import contextlib
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import MODEL_FILE, Manifest, file_sha256, write_manifest
from spillover.common.model.runtimes.onnxruntime import runtime_name
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig

LABELS_FILE = "labels.txt"
NO_DIGEST = "0" * 64
"""Placeholder in a manifest until `finish` computes the digest."""
_WORKSHOP = ".building-"
_ABANDONED_AFTER_S = 24 * 3600.0


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """An empty folder that replaces `target` when the block ends, and is removed when the block raises.

    It lies beside `target`, so that the move is a rename, and one level deeper than a version, so that a
    server that looks for `*/*/model.onnx` never finds it. Parents that had to be made are removed with it,
    and work folders that a killed process left more than a day ago.

    Raises:
        ConfigError: nothing can be written there.
    """
    absent = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=target.parent))
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error
    _sweep(target.parent)
    try:
        new, old = workshop / "new", workshop / "old"
        new.mkdir()
        yield new
        _take_place(new, target, old)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
        with contextlib.suppress(OSError):  # the first that holds something stays, and those above it
            for parent in absent:
                parent.rmdir()


def _sweep(folder: Path) -> None:
    """Remove work folders that no running process can still use."""
    for path in folder.glob(f"{_WORKSHOP}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)


def _take_place(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        # Another process was quicker, or the disk refuses: restore the old folder where possible.
        if old.exists() and not target.exists():
            old.rename(target)
        raise


def made_here() -> str:
    """Processor and library, for the `made_on` of a network whose weights were rounded here.

    Quantisation runs the float network on pictures. Its last digits differ between processors, and with them
    some scales, so the same command makes another network elsewhere.
    """
    return f"{platform.machine()}, {runtime_name()}"


def finish(folder: Path, manifest: Manifest, labels: Sequence[str]) -> Manifest:
    """Put labels and description beside the `model.onnx` in `folder`, then load and run it once.

    Returns the manifest as written, with the digest.

    Raises:
        ModelError: ONNX Runtime refuses the network, or it does not fit its manifest or decoder.
    """
    if labels:
        (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    digest = file_sha256(folder / MODEL_FILE)
    described = msgspec.structs.replace(manifest, sha256=digest, labels=LABELS_FILE if labels else "")
    write_manifest(folder, described)
    Model.load(folder, SessionConfig(threads=1, providers=("CPUExecutionProvider",), warm_up_runs=1))
    return described
