"""The short half of `make attack`: one test an attempt, with smaller numbers."""

import pytest

import tests.attack.attempts  # noqa: F401 - fills the list
from tests.attack.__main__ import chosen
from tests.attack.suite import Attempt, run
from tests.attack.world import World

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("attempt", chosen([], short=True), ids=lambda one: one.name)
def test_the_server_stands(world: World, attempt: Attempt) -> None:
    """It lives, answers the good device, stays within its memory, and says what is expected."""
    row = run(attempt, world, short=True)
    assert row.failures == [], row
