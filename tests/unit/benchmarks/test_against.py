"""The comparison with an older commit: what is compared, in which environment, and how it is judged."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.against.cli import bench_against, verdict
from benchmarks.against.compare import row
from benchmarks.against.sides import TREE, AgainstError, Side, cloud_requirements, sides, unmet
from tests.support.tools import tool


def test_the_ratio_is_that_of_the_rounds():
    """A round that was slow for both sides changes no ratio, whatever it does to the medians."""
    found = row("a tensor", 16, [(1.0, 1.05), (4.0, 4.2), (1.0, 1.05), (2.0, 4.0)])
    assert found.ratio == pytest.approx(1.05)
    assert found.old_cpu_ms == pytest.approx(1.5)
    assert max(found.ratios) == pytest.approx(2.0)


@pytest.mark.parametrize(("new", "word"), [(1.10, "met"), (1.11, "MISSED")])
def test_a_tenth_more_is_the_most_that_is_allowed(new, word):
    """The verdict says the goal, the figure, and whether it is met."""
    text = verdict(row("a tensor", 16, [(1.0, new)]))
    assert text.startswith(word)
    assert text.endswith(f"C=16: at most 1.10 of the processor time before: {new:.3f}")


def test_an_environment_that_lacks_what_the_older_code_asks_for_is_noticed():
    """What is absent, too old or too new is unmet; what is met, or is for another machine, is not."""
    lacking = ("no-such-package", "numpy<1", "numpy>=99")
    assert unmet(("msgspec>=0.1", *lacking, "no-such; sys_platform == 'win32'")) == lacking


def test_this_environment_suits_the_working_tree():
    """What pyproject.toml asks for a server is installed where the tests run."""
    needed = cloud_requirements(TREE / "pyproject.toml")
    assert any(one.startswith("grpcio-health-checking") for one in needed)
    assert unmet(needed) == ()


@pytest.mark.slow
def test_code_from_elsewhere_is_not_measured(tmp_path):
    """A tree whose own code is not what its interpreter imports is refused: it would compare itself."""
    with pytest.raises(AgainstError, match="old"):
        Side("old", tmp_path, Path(sys.executable)).check()


@pytest.mark.needs("git")
def test_a_commit_that_does_not_exist_is_named(tmp_path):
    """The text has the commit that was asked for."""
    _need_checkout()
    with pytest.raises(AgainstError, match="no-such-commit"):
        sides("no-such-commit", tmp_path)


@pytest.mark.slow
@pytest.mark.needs("h2load")
@pytest.mark.needs("git")
def test_two_real_servers_are_compared():
    """The last commit and the working tree answer every request; each row has both figures, and a verdict."""
    _need_checkout()
    tool("h2load", "nghttp2-client")
    done = CliRunner().invoke(
        bench_against, ["HEAD", "--rounds", "1", "--seconds", "0.2"], catch_exceptions=False
    )
    assert "a JPEG of 640x480" in done.output
    assert "a tensor of 16 floats, C=16: at most 1.10" in done.output


def _need_checkout():
    tool("git", "git")
    if not (TREE / ".git").exists():
        pytest.skip("no git checkout")
