"""Models on disk are found by name and version, and nothing outside the folder is."""

import pytest

from spillover.cloud.models.repository import Repository
from spillover.common.errors import NotFoundError


@pytest.fixture
def repository(tmp_path):
    """Two models with several versions, and a name without any."""
    for path in ("a/1", "a/2", "a/10", "b/1.9.0", "b/1.10.0", "empty"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("a/1", "a/2", "a/10", "b/1.9.0", "b/1.10.0"):
        (tmp_path / path / "model.onnx").touch()
    return Repository(tmp_path)


@pytest.mark.parametrize(("name", "newest"), [("a", "10"), ("b", "1.10.0")])
def test_numbers_in_versions_compare_as_numbers(repository, name, newest):
    """10 is newer than 2, and 1.10 than 1.9."""
    assert repository.find(name).model_id.version == newest


def test_a_name_without_a_version_is_no_model(repository):
    """Only names with a model file are listed."""
    assert repository.names() == ["a", "b"]


@pytest.mark.parametrize(("name", "version"), [("c", ""), ("a", "3"), ("../x", ""), ("", ""), ("a", "..")])
def test_what_is_not_there_is_not_found(repository, name, version):
    """Unknown names and versions, and ways out of the folder, are all NotFoundError."""
    with pytest.raises(NotFoundError) as caught:
        repository.find(name, version)
    assert str(repository.root) not in str(caught.value)  # callers need not know this machine's folders
