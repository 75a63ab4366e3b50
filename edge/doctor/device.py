"""Checks the device: disks, memory, temperature, and other programs on the same files."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from spillover.common.files import lock_beside
from spillover.edge.config.paths import WrittenFile, written_files
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, skipped, warning
from spillover.edge.health import sensors
from spillover.edge.health.monitor import HealthMonitor
from spillover.edge.status.health_text import ladder_words
from spillover.edge.status.words import held_back, size

_HOT_C = 80.0
"""A Raspberry Pi begins to slow down here."""
_LEAST_MEMORY_BYTES, _LITTLE_MEMORY_BYTES = 32e6, 128e6
"""What should be left beside a daemon."""
_TRIAL_BYTES = 64 * 1024


def check_disks(case: Case) -> Iterator[Finding]:
    """Each file system that is written to: something can be written, and there is room for the bounds."""
    by_disk: dict[int, list[WrittenFile]] = {}
    for written in written_files(case.config):
        if written.path.parent.is_dir():  # the check of folders has told those that are not there
            by_disk.setdefault(written.path.parent.stat().st_dev, []).append(written)
    if not by_disk:
        yield skipped("disk", "no files are written, or their folders are not there")
    for files in by_disk.values():
        yield from _check_disk(files)


def _check_disk(files: list[WrittenFile]) -> Iterator[Finding]:
    folder = files[0].path.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(_TRIAL_BYTES))
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        yield failed("disk", f"{folder}: nothing can be written: {error.strerror or error}", _DISK_CURE)
        return
    space = sensors.disk_space(folder)
    free_bytes = space.free_bytes if space else 0
    needed_bytes = sum(max(0.0, (written.most_bytes or 0) - _taken_bytes(written)) for written in files)
    keys = ", ".join(written.key for written in files)
    figure = f"{folder}: {size(free_bytes)} free, {size(needed_bytes)} more may be taken by {keys}"
    if needed_bytes > free_bytes:
        yield failed("disk", figure, "make room, or lower max_mb, rotate_mb or rotate_keep of these")
    else:
        yield ok("disk", figure)
    endless = [written.key for written in files if written.most_bytes is None]
    if endless:
        yield warning(
            "disk", f"{', '.join(endless)}: nothing bounds the file, so it fills the disk", "set rotate_mb"
        )


_DISK_CURE = "mount it writable, make room, or see `dmesg` for a card that fails"


def _taken_bytes(written: WrittenFile) -> int:
    """What the file and those beside it (rotated ones, a log) take now."""
    taken, path = 0, written.path
    with suppress(OSError):
        for one in path.parent.iterdir():
            if (
                written.fills_folder
                or one.name == path.name
                or one.name.startswith((f"{path.name}.", f"{path.name}-"))
            ):
                taken += one.stat().st_size
    return taken


def check_memory(case: Case) -> Iterator[Finding]:
    """What is left beside a daemon: this process holds about what one takes, or one runs already."""
    health = case.running.health if case.running else HealthMonitor((), case.root).latest()
    available = health.memory_available_bytes
    if available is None:
        yield skipped("memory", "this machine does not tell")
        return
    taken = (health.process_anon_bytes or 0) + (health.process_file_bytes or 0)
    who = "the daemon that runs" if case.running else "this process, which has loaded what a daemon does,"
    figure = f"{size(available)} left beside {who} with {size(taken)}"
    if available < _LEAST_MEMORY_BYTES:
        yield failed("memory", figure, "end other programs, or take a smaller model")
    elif available < _LITTLE_MEMORY_BYTES:
        yield warning("memory", figure, "end other programs, or take a smaller model")
    else:
        yield ok("memory", figure)


def check_temperature(case: Case) -> Iterator[Finding]:
    """How hot it is, and what the firmware holds back."""
    health = HealthMonitor((), case.root).latest()
    if health.temperature_celsius is None and health.throttling is None:
        yield skipped("temperature", "no sensor that this machine shows")
        return
    parts = [] if health.temperature_celsius is None else [f"{health.temperature_celsius:.0f} °C"]
    now = health.throttling.now if health.throttling else ()
    ever = health.throttling.since_boot if health.throttling else ()
    if now:
        parts.append(f"held back now: {held_back(now)}")
    elif ever:
        parts.append(f"held back since boot: {held_back(ever)}")
    figure = ", ".join(parts) or "nothing is held back"
    if case.running and case.running.ladder and case.running.ladder.step:
        does = ladder_words(case.running.ladder)
        yield warning("temperature", f"{figure}; {does}", _heat_cure(now or ever))
    elif now:
        yield failed("temperature", figure, _heat_cure(now))
    elif ever or (health.temperature_celsius or 0.0) >= _HOT_C:
        yield warning("temperature", figure, _heat_cure(ever))
    else:
        yield ok("temperature", figure)


def _heat_cure(causes: tuple[str, ...]) -> str:
    if "under_voltage" in causes:
        return "take a stronger power supply and a shorter cable"
    return "add a heat sink or a fan, or shade"


def check_others(case: Case) -> Iterator[Finding]:
    """Other programs on these files: their locks, and, as far as this user may see, what they have open."""
    but = {os.getpid(), case.running.process_id if case.running else 0}
    proc = case.root / "proc"
    if case.namesake:
        other = case.namesake
        figure = f"process {other.process_id} has the same device_id, with {other.config or 'no file'}"
        yield warning("other programs", figure, "give each daemon a device_id of its own")
    users = []
    for written in written_files(case.config):
        holders = _lock_holders(proc, written.path) | _writers(proc, written.path)
        users += [(written, process_id) for process_id in sorted(holders - but)]
    for written, process_id in users:
        figure = f"{written.key}: process {process_id} uses {written.path}"
        yield failed("other programs", figure, "give each daemon files of its own, or end that process")
    if not users:
        daemon = f"; the daemon of this file runs (process {case.running.process_id})" if case.running else ""
        yield ok("other programs", f"none uses a file of this configuration{daemon}")


def _lock_holders(proc: Path, path: Path) -> set[int]:
    """Processes that hold the lock of `path`, by the kernel's list (proc_locks(5)); none is tried here."""
    try:
        found = lock_beside(path).stat()
    except OSError:
        return set()  # nobody has ever locked it
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    lines = [line.split() for line in (sensors.read(proc / "locks") or "").splitlines()]
    return {int(words[4]) for words in lines if len(words) > 5 and words[5] == place}


def _writers(proc: Path, path: Path) -> set[int]:
    """Processes that have `path` open for writing, as far as this user may see."""
    try:
        wanted = path.stat()
    except OSError:
        return set()  # it is not there yet
    return {int(process.name) for process in proc.glob("[0-9]*") if any(_is_written(process / "fd", wanted))}


def _is_written(descriptors: Path, wanted: os.stat_result) -> Iterator[bool]:
    with suppress(OSError):  # the process has ended, or is another user's
        for link in descriptors.iterdir():
            with suppress(OSError):
                yield os.path.samestat(link.stat(), wanted) and bool(link.lstat().st_mode & stat.S_IWUSR)
