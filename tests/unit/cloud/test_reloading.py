"""Every key of cloud.yaml follows a reload, or the log names it as one that needs a restart."""

import msgspec
import pytest
from msgspec import inspect

from spillover.cloud.config import CloudConfig
from spillover.cloud.serving.reloading import FOLLOWED, NEEDS_RESTART, changed_for_a_restart


def _keys(kind: type, prefix: str = "") -> list[str]:
    """Every key below a structure, by its dotted name."""
    found = []
    for field in inspect.type_info(kind).fields:
        key = f"{prefix}{field.encode_name}"
        if isinstance(field.type, inspect.StructType):
            found += _keys(field.type.cls, f"{key}.")
        else:
            found.append(key)
    return found


def test_the_table_has_every_key_once_and_no_other():
    """A key that is new in the configuration fails here until it is said whether it follows a reload."""
    keys = _keys(CloudConfig)
    homes = {key: {key, key.partition(".")[0]} & (FOLLOWED | NEEDS_RESTART) for key in keys}
    assert [key for key, found in homes.items() if len(found) != 1] == []
    assert set().union(*homes.values()) == FOLLOWED | NEEDS_RESTART
    assert not FOLLOWED & NEEDS_RESTART


def _config(**changes: object) -> CloudConfig:
    return msgspec.convert(changes, CloudConfig)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"limits": {"max_message_bytes": 5, "max_pixels": 5}}, ["limits.max_message_bytes"]),
        ({"models": {"load": ["a"], "repository": "/srv"}}, ["models.repository"]),
        ({"security": {"tls": {"certificate": "a", "key": "b"}}}, ["security.tls"]),
        ({"log": {"json": True}, "listen": "127.0.0.1:1"}, ["listen", "log.json"]),
        ({"session": {"threads": 3}, "batching": {"max_batch_size": 2}}, []),
        ({"batching_of": {"a": {}}, "limits": {"device_rate_per_s": 1.0}}, []),
    ],
)
def test_what_needs_a_restart_is_named_by_its_key(change, named):
    """Single keys, not sections; what the server follows is left out."""
    assert changed_for_a_restart(_config(), _config(**change)) == named
