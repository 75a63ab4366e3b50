"""What the tests of this folder share: one world, and at most one server at a time."""

from collections.abc import Iterator

import pytest

from tests.attack.__main__ import allow_many_sockets
from tests.attack.world import World


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """Models, certificates and tokens, and the server that the last attempt has left."""
    allow_many_sockets()
    with World.created() as world:
        yield world
