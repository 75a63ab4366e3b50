"""Edge, link, cloud and disk are broken in turn; every promise holds."""

import pytest

from tests.chaos.run import chaos


@pytest.mark.timeout(900)
def test_thirty_cycles_of_faults_break_no_promise(tmp_path):
    """Every kind of fault at least once: each frame ends once, nothing accepted is lost, nothing leaks."""
    assert chaos(tmp_path, cycles=30, seed=7, scale=0.5) == []


@pytest.mark.timeout(900)
def test_ten_kills_of_the_edge_lose_nothing(tmp_path):
    """After each, what was accepted is on the disk or answered; `make chaos CYCLES=1000 ONLY=edge_killed`."""
    assert chaos(tmp_path, cycles=10, seed=8, scale=0.5, only="edge_killed") == []
