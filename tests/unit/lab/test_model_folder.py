"""Writing model folders: complete and checked, or not at all."""

import os

import pytest

from spillover.common.errors import ConfigError, ModelError
from spillover.lab.models.folder import building


def test_a_built_folder_takes_the_place_of_the_old_one(tmp_path):
    """What the block wrote is there, what was there before is gone, and nothing else is left behind."""
    target = tmp_path / "net" / "1"
    target.mkdir(parents=True)
    (target / "old").touch()
    with building(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_build_leaves_the_old_folder_untouched(tmp_path):
    """An error inside the block loses nothing that was there and leaves nothing half done."""
    target = tmp_path / "net" / "1"
    target.mkdir(parents=True)
    (target / "old").touch()

    def fail():
        with building(target) as folder:
            (folder / "new").touch()
            raise ModelError("no")

    with pytest.raises(ModelError):
        fail()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(target.parent.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_the_operators_fault(tmp_path):
    """A file where a folder should be gives one clear error."""
    (tmp_path / "net").touch()
    with pytest.raises(ConfigError, match="cannot be written"), building(tmp_path / "net" / "1"):
        pass


def test_a_folder_in_the_making_is_no_version_to_a_server(tmp_path):
    """The network of an unfinished folder lies deeper than `<name>/<version>/model.onnx`."""
    with building(tmp_path / "net" / "1") as folder:
        (folder / "model.onnx").touch()
        assert not list(tmp_path.glob("*/*/model.onnx"))
    assert list(tmp_path.glob("*/*/model.onnx"))


def test_a_failed_build_takes_the_folders_away_that_it_made(tmp_path):
    """No empty `models/NAME` stays behind for a server to look into; what was there before does."""

    def fail(target):
        with building(target):
            raise ModelError("no")

    with pytest.raises(ModelError):
        fail(tmp_path / "models" / "net" / "1")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_build_left_behind_goes_with_the_next_one_after_a_day(tmp_path):
    """Old workshops are swept; a young one may be somebody's at work and stays."""
    old, young = tmp_path / ".building-old", tmp_path / ".building-young"
    for path in (old, young):
        (path / "new").mkdir(parents=True)
    os.utime(old, (0, 0))
    with building(tmp_path / "1"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".building-young", "1"}
