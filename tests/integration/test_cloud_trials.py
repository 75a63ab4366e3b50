"""Models are tried in a child process before they are opened: what never ends is refused, and is gone."""

import os
import threading
import time

import pytest

from spillover.cloud.models.loader import load_spec_of
from spillover.cloud.models.repository import Repository
from spillover.cloud.models.trials import Trials
from spillover.common.errors import ModelError, UnavailableError
from tests.support.hostile import HOSTILE, NAME, endless_loop
from tests.support.models import colour_classifier
from tests.support.processes import children_of
from tests.support.serving import cloud_config

A_MINUTE_S = 60.0


def open_model(trials, root, name, timeout_s=A_MINUTE_S):
    """Open the newest version of `name` as the server does."""
    entry = Repository(root).find(name)
    config = cloud_config(root, models={"repository": str(root), "load_timeout_s": timeout_s})
    return trials.open(entry, load_spec_of(entry, config))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_that_would_never_end_is_refused_by_name(tmp_path, name):
    """The refusal names model and file and the reason, no path of this machine; nothing of it is left.

    A good model loads right afterwards.
    """
    make, reason = HOSTILE[name]
    make(tmp_path)
    colour_classifier(tmp_path)
    trials = Trials()
    before, threads = children_of(os.getpid()), threading.active_count()
    with pytest.raises(ModelError, match=reason) as caught:
        open_model(trials, tmp_path, NAME, 3.0 if name == "endless loop" else A_MINUTE_S)
    assert str(tmp_path) not in str(caught.value)
    assert children_of(os.getpid()) == before
    assert threading.active_count() == threads
    assert open_model(trials, tmp_path, "colour").executor.specs.inputs[0].name == "image"


def test_what_has_passed_is_not_tried_again(tmp_path, monkeypatch):
    """As long as its files are the same; another file in its place is tried."""
    colour_classifier(tmp_path)
    trials, tried = Trials(), []
    really = trials._try
    monkeypatch.setattr(trials, "_try", lambda *one: (tried.append(one), really(*one)))
    for _ in range(2):
        open_model(trials, tmp_path, "colour")
    assert len(tried) == 1
    colour_classifier(tmp_path, gain=9.0)
    open_model(trials, tmp_path, "colour")
    assert len(tried) == 2


def test_a_child_that_crashes_takes_nothing_with_it(tmp_path, monkeypatch):
    """The refusal says by which signal it ended, and the last line it wrote."""
    colour_classifier(tmp_path)
    code = "import os; os.write(2, b'first\\nbad page'); os.abort()"
    monkeypatch.setattr("spillover.cloud.models.trials._START", code)
    with pytest.raises(ModelError, match=r"^colour/1/model\.onnx: .* ended by SIGABRT: bad page$"):
        open_model(Trials(), tmp_path, "colour")


def test_a_stop_ends_a_trial_under_way(tmp_path):
    """Its caller hears that the server is stopping, and none begins after that."""
    endless_loop(tmp_path)
    trials, errors = Trials(), []

    def load() -> None:
        with pytest.raises(UnavailableError) as caught:
            open_model(trials, tmp_path, NAME)
        errors.append(caught.value)

    thread = threading.Thread(target=load)
    before = children_of(os.getpid())
    thread.start()
    end_s = time.monotonic() + A_MINUTE_S
    while children_of(os.getpid()) == before:
        assert thread.is_alive()
        assert time.monotonic() < end_s
        os.sched_yield()
    trials.stop()
    thread.join(A_MINUTE_S)
    assert "stopping" in str(errors[0])
    assert children_of(os.getpid()) == before
    with pytest.raises(UnavailableError):
        open_model(trials, tmp_path, NAME)


def test_a_link_inside_the_repository_is_followed(tmp_path):
    """`current` may lead to a version, whose own folder then says another version than its manifest's."""
    root = tmp_path / "models"
    folder = colour_classifier(tmp_path / "models" / "store", version="7")
    (root / "colour").mkdir()
    (root / "colour" / "7").symlink_to(folder)
    open_model(Trials(), root, "colour")
    (root / "other").mkdir()
    outside = colour_classifier(tmp_path / "elsewhere", "other")
    (root / "other" / "1").symlink_to(outside)
    with pytest.raises(ModelError, match=r"^other/1: leads out of the repository"):
        open_model(Trials(), root, "other")
