"""The child process that updates a model: it installs, it says why not, and it never holds up the daemon."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spillover.common.bundle.format import labels_digest
from spillover.common.errors import NotFoundError, UnavailableError
from spillover.edge.models import updating
from spillover.edge.models.store import ModelStore
from spillover.edge.models.update.pipe import Finished, Outcome, Request
from spillover.edge.models.updating import run_update
from tests.support.fleet import NOW, Fleet


class Link:
    """Fetches from the server of a fleet; what it is told to do first happens first."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.asked: list[str] = []
        self.down = False
        self.on_target = lambda: None

    def metadata(self, name: str) -> bytes:
        """As the server has it."""
        self.asked.append(name)
        if self.down:
            raise UnavailableError("the link is down")
        data = self.fleet.fetch(name)
        if data is None:
            raise NotFoundError(f"there is no {name}")
        return data

    def target(self, sha256: str, offset: int) -> Iterator[bytes]:
        """Likewise."""
        self.asked.append(f"{sha256[:4]}+{offset}")
        for chunk in self.fleet.content(sha256, offset, 64_000):
            self.on_target()
            yield chunk


class Bench:
    """A device with an empty store, and its link."""

    def __init__(self, folder: Path) -> None:
        self.fleet = Fleet(folder)
        self.store = ModelStore(folder / "store")
        (self.store.folder / "tuf" / "root.json").write_bytes(self.fleet.signing.root)
        self.link = Link(self.fleet)
        self.stopping = threading.Event()

    def update(self, sha256: str, **changed: object) -> Finished:
        """Ask for a bundle."""
        keys: dict[str, object] = {
            "store": str(self.store.folder),
            "sha256": sha256,
            "now_unix_s": NOW.timestamp(),
            "versions": (0, 0, 0),
            "software": "0.1.0",
            "task": "classification",
            "labels_sha256": labels_digest(()),
            "runtimes": ("onnxruntime",),
            "has": (),
        }
        return run_update(Request(**(keys | changed)), self.link, self.stopping)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One device."""
    return Bench(tmp_path)


def test_a_signed_bundle_is_installed_by_a_process_of_its_own(bench: Bench) -> None:
    """Metadata first, then the bundle; the versions that were accepted come back; again costs no bundle."""
    target = bench.fleet.publish("1")
    assert bench.update(target.sha256) == Finished(Outcome.INSTALLED, versions=(1, 1, 1))
    assert bench.store.has(target.sha256)
    assert bench.link.asked == [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
        f"{target.sha256[:4]}+0",
    ]
    bench.link.asked.clear()
    assert bench.update(target.sha256).outcome is Outcome.INSTALLED
    assert bench.link.asked == ["2.root.json", "timestamp.json"]


def test_what_cannot_be_installed_is_said(bench: Bench) -> None:
    """For good where it does not fit; else it may be tried again, with the reason of whoever failed."""
    target = bench.fleet.publish("1")
    found = bench.update(target.sha256, task="detection")
    assert (found.outcome, found.versions) == (Outcome.REFUSED, (1, 1, 1))
    assert "this device's model for detection" in found.reason
    found = bench.update("0" * 64)
    assert found.outcome is Outcome.FAILED
    assert "not among those that are signed" in found.reason
    found = bench.update(target.sha256, versions=(1, 7, 1))
    assert "older than what was accepted" in found.reason
    bench.link.down = True
    assert bench.update(target.sha256) == Finished(Outcome.FAILED, "the link is down")
    bench.link.down = False
    assert bench.update(target.sha256).outcome is Outcome.INSTALLED


def test_a_stop_ends_it_in_the_middle(bench: Bench) -> None:
    """What came is kept for the next time."""
    target = bench.fleet.publish("1")
    bench.link.on_target = bench.stopping.set
    assert bench.update(target.sha256).outcome is Outcome.FAILED
    bench.stopping.clear()
    assert bench.update(target.sha256).outcome is Outcome.INSTALLED


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no room')", "ended with 1: no room"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
        ("import os; os.write(1, b'x' * 100)", "something else"),
        ("import sys, time; time.sleep(600)", "said nothing for"),
    ],
    ids=["fails", "is killed", "babbles", "hangs"],
)
def test_a_child_that_goes_wrong_costs_its_update_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    """The reason has its last words."""
    monkeypatch.setattr(updating, "_COMMAND", ("-c", program))
    if "nothing" in words:
        monkeypatch.setattr(updating, "SILENT_S", 0.1)
    found = bench.update("0" * 64)
    assert found.outcome is Outcome.FAILED
    assert words in found.reason


def test_the_daemon_loads_neither_tuf_nor_patches() -> None:
    """They are the child's alone."""
    program = "import sys, spillover.edge.models.updating, spillover.edge.models.store; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not {"tuf", "bsdiff4", "securesystemslib"} & set(loaded.split())
