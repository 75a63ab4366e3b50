"""The store of models: whatever happens, and wherever the process ends, there is a model that runs."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spillover.common.errors import ConfigError
from spillover.edge.models.store import FACTORY, MOST_REFUSED, ModelStore, install


def put(store_folder: Path, sha256: str) -> None:
    """Install a bundle as the child does."""
    incoming = store_folder / "incoming"
    (incoming / f"{sha256}.part").write_bytes(sha256.encode())
    unpacked = incoming / f"{sha256}.model"
    unpacked.mkdir(exist_ok=True)
    (unpacked / "model.onnx").write_text(sha256, encoding="ascii")
    install(store_folder, sha256, incoming / f"{sha256}.part", unpacked)


def digest(number: int) -> str:
    """A digest that tells its number."""
    return f"{number:064x}"


def check(store: ModelStore) -> None:
    """What must hold after every step, and after every end of the process."""
    state = store.state
    assert store.has(state.current)
    assert state.current not in state.refused
    if state.candidate:
        assert state.candidate.sha256 not in {state.current, *state.refused}
    if state.current != FACTORY:
        content = (store.model_folder(state.current) / "model.onnx").read_text(encoding="ascii")
        assert content == state.current
        assert store.bundle(state.current).read_text(encoding="ascii") == state.current
    assert len(state.refused) <= MOST_REFUSED


class Lives(RuleBasedStateMachine):
    """A device through many models, restarts in between."""

    @initialize(folder=st.uuids())
    def begin(self, folder: object) -> None:
        """An empty store."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"store-{folder}"))
        self.store = ModelStore(self.folder, lambda: 1.0)
        self.number = 0

    @rule()
    @precondition(lambda self: self.store.state.candidate is None)
    def fetch(self) -> None:
        """A new bundle is installed and offered."""
        self.number += 1
        put(self.folder, digest(self.number))
        self.store.offer(digest(self.number), "campaign")

    @rule()
    @precondition(lambda self: self.store.state.candidate)
    def refuse(self) -> None:
        """It is no good."""
        candidate = self.store.state.candidate
        assert candidate
        self.store.refuse(candidate.sha256, "worse")
        assert self.store.state.refused[candidate.sha256].reason == "worse"

    @rule()
    @precondition(lambda self: self.store.state.candidate and not self.store.state.probation)
    def promote(self) -> None:
        """It is better."""
        before, candidate = self.store.state.current, self.store.state.candidate
        assert candidate
        self.store.promote()
        assert (self.store.state.previous, self.store.state.current) == (before, candidate.sha256)

    @rule()
    @precondition(lambda self: self.store.state.probation)
    def confirm(self) -> None:
        """It has proven itself."""
        self.store.confirm()

    @rule()
    @precondition(lambda self: self.store.state.current != FACTORY)
    def roll_back(self) -> None:
        """It has not."""
        failed, before = self.store.state.current, self.store.state.previous
        assert self.store.roll_back("slow") == (before or FACTORY)
        assert self.store.state.refused[failed].ran

    @rule()
    def crash(self) -> None:
        """The process ends, and begins anew: a model on probation has one such start, and no second."""
        before = self.store.state
        self.store.close()
        self.store = ModelStore(self.folder, lambda: 1.0)
        assert self.store.state == before
        starts = self.store.starting()
        if before.probation and not before.probation.starts_left:
            assert starts == (before.previous or FACTORY)
        else:
            assert starts == before.current

    @rule()
    def collect(self) -> None:
        """What nobody needs goes, and nothing else."""
        state = self.store.state
        self.store.collect()
        kept = {path.name for path in (self.folder / "store").iterdir()}
        needed = {state.current, state.previous, state.candidate.sha256 if state.candidate else FACTORY}
        assert kept <= needed
        assert {one for one in needed if one} <= kept

    @invariant()
    def holds(self) -> None:
        """It always holds."""
        if hasattr(self, "store"):
            check(self.store)

    def teardown(self) -> None:
        """The folder goes."""
        self.store.close()
        shutil.rmtree(self.folder)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=30, stateful_step_count=30)


def test_a_model_whose_files_are_gone_is_rolled_back(tmp_path: Path) -> None:
    """Somebody removed them: what ran before runs again, or the model of edge.yaml."""
    store = ModelStore(tmp_path)
    put(tmp_path, digest(1))
    store.offer(digest(1))
    store.promote()
    shutil.rmtree(tmp_path / "store" / digest(1))
    assert store.starting() == FACTORY
    assert "gone" in store.state.refused[digest(1)].reason


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b'{"current": "../../etc"}', b"\xff" * 100])
def test_a_state_that_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """The model of edge.yaml runs, and the file is kept for whoever wants to know."""
    (tmp_path / "state.json").write_bytes(content)
    store = ModelStore(tmp_path)
    assert store.starting() == FACTORY
    assert (tmp_path / "state.json.set-aside").read_bytes() == content


def test_two_processes_do_not_share_a_store(tmp_path: Path) -> None:
    """The second one is told so, by the key."""
    store = ModelStore(tmp_path)
    with pytest.raises(ConfigError, match=r"update\.folder: .* is in use"):
        ModelStore(tmp_path)
    store.close()
    ModelStore(tmp_path).close()


def test_a_refused_model_does_not_come_back(tmp_path: Path) -> None:
    """Not even as the one before: what is left then is the model of edge.yaml."""
    store = ModelStore(tmp_path)
    for number in (1, 2):
        put(tmp_path, digest(number))
        store.offer(digest(number))
        store.promote()
        store.confirm()
    store.offer(digest(1))
    store.refuse(digest(1), "worse")
    assert store.roll_back("slow") == FACTORY


def test_killed_anywhere_it_begins_with_a_model_that_runs(tmp_path: Path) -> None:
    """`kill -9` at random moments, from the first byte that is fetched to the end of the probation."""
    command = [sys.executable, "-m", "tests.support.model_kills", "--kills", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
