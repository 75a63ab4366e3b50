"""The commands about a model of one's own work as they stand in the pages, one after the other."""

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from spillover.cloud.models.repository import Repository
from spillover.common.cli import spillover
from spillover.common.model.session import Model
from tests.support.documents import Page
from tests.support.dry_run import words_after
from tests.support.networks import channel_means, small_yolox

STEPS = ("import", "quantize")
"""`prepare` needs the published weights, and labelled pictures a network that finds things."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name."""
    small_yolox(tmp_path / "yolox_nano.onnx")
    channel_means(tmp_path / "birds.onnx", (1, 3, 224, 224))
    (tmp_path / "birds.txt").write_text("coot\ngrebe\nrail\n")
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        picture = random.integers(0, 256, (120, 160, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "made"), [("README.md", 2), ("docs/guides/models.md", 3)])
def test_a_model_of_ones_own(here: Path, name: str, made: int) -> None:
    """Every model that they make can be loaded, from where the cloud looks for it."""
    lines = [words_after(line, "spillover") for line in Page(Path(name)).shell_lines]
    steps = [
        words
        for words in lines
        if words and words[0] == "lab" and words[1] in STEPS and "--data" not in words
    ]
    assert len(steps) >= 2
    seen = set()
    for words in steps:
        again = ["--force"] if (words[1], words[2]) in seen else []  # the page shows two ways
        seen.add((words[1], words[2]))
        done = CliRunner().invoke(spillover, [*words, *again], catch_exceptions=False)
        assert done.exit_code == 0, f"{shlex.join(words)}: {done.output}"
    versions = Repository(here / "models").all_versions()
    assert len(versions) == made
    for model_id in versions:
        assert Model.load(here / "models" / model_id.name / model_id.version).model_id == model_id
