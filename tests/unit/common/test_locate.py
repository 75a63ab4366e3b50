"""From what a person writes to a model folder."""

from pathlib import Path

import pytest

from spillover.common.errors import ModelError
from spillover.common.model.locate import find_model_folder, version_key
from tests.support.models import colour_classifier


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A cache folder with versions 2 and 10 of one model."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path))
    for version in ("2", "10"):
        colour_classifier(tmp_path / "models", version=version)
    return tmp_path / "models" / "colour"


@pytest.mark.parametrize(("name", "version"), [("colour/2", "2"), ("colour/10", "10"), ("colour", "10")])
def test_a_prepared_model_is_found_by_name(prepared, name, version):
    """By name and version, or by name alone: then it is the newest."""
    assert find_model_folder(name) == prepared / version


def test_a_path_is_taken_as_it_is(prepared):
    """A model folder by its path, and a folder of versions by its newest."""
    assert find_model_folder(prepared / "2") == prepared / "2"
    assert find_model_folder(prepared) == prepared / "10"


def test_what_is_nowhere_is_named(prepared):
    """The error says what was asked for and where it was looked for."""
    with pytest.raises(
        ModelError, match=rf"^nobody: .*not {Path.cwd()}/nobody .*, not .*models/nobody; .*prepare"
    ):
        find_model_folder(Path("nobody"))
    with pytest.raises(ModelError, match=r"; did you mean colour\?$"):
        find_model_folder(Path("color/2"))


def test_what_cannot_be_a_prepared_model_is_not_to_be_prepared(tmp_path):
    """The advice fits: a folder elsewhere is imported or copied, one that is there lacks its description."""
    with pytest.raises(ModelError, match=rf"^{tmp_path}/x: there is no model folder.* copy it there$"):
        find_model_folder(tmp_path / "x")
    with pytest.raises(
        ModelError, match=rf"^{tmp_path} holds no model.yaml, .*`spillover lab import` writes one$"
    ):
        find_model_folder(tmp_path)


def test_versions_compare_as_people_count():
    """Numbers by value, letters after numbers."""
    assert sorted(["10", "2", "1.10", "1.9", "rc"], key=version_key) == ["1.9", "1.10", "2", "10", "rc"]
