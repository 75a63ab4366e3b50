"""cloud.yaml: the example teaches every key, and a wrong value is refused by name."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from spillover.cloud.config import CloudConfig
from spillover.common.config import load_config, parse_config
from spillover.common.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "examples" / "cloud.yaml"


def test_the_example_is_the_defaults():
    """examples/cloud.yaml says what holds without it."""
    assert load_config(EXAMPLE, CloudConfig) == CloudConfig()


def test_the_example_shows_every_key():
    """No key of the configuration is missing in the example."""
    assert _keys(yaml.safe_load(EXAMPLE.read_text())) == _keys(msgspec.to_builtins(CloudConfig()))


def _keys(value: object, prefix: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {prefix}
    return {prefix}.union(*(_keys(inner, f"{prefix}.{key}") for key, inner in value.items()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listen: nowhere", "1: listen: must be host:port or unix:/path, as in"),
        ("listen: 127.0.0.1:65536", "listen: '127.0.0.1:65536': a port is at most 65535"),
        ("metrics: 127.0.0.1:70000", "metrics: "),
        ("limits: {max_pixels: 0}", "1: limits.max_pixels: must be a whole number above 0, not 0"),
        (
            "batching: {max_queue_delay_s: -1}",
            "max_queue_delay_s: must be a number of at least 0, not -1",
        ),
        ("session: {thread: 1}", "session.thread: there is no such key; did you mean session.threads?"),
        ("log: {level: loud}", "log.level: must be debug, info, warning or error, not 'loud'"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(text, says):
    """The error names the key path."""
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse_config(text, CloudConfig, "cloud.yaml")
