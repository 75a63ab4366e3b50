"""The books: every ending is counted once, and the endpoint shows it."""

from dataclasses import replace
from urllib.request import urlopen

import pytest

from spillover.common.errors import ConfigError
from spillover.common.types import AnsweredBy
from spillover.edge.telemetry.metrics import Metrics, metrics_endpoint
from tests.support.edge_values import result


def test_first_results_and_revisions_are_apart() -> None:
    """A revision is no second ending of its frame."""
    metrics = Metrics()
    metrics.result(replace(result(), answered_by=AnsweredBy.EDGE_DEGRADED))
    metrics.result(replace(result(), answered_by=AnsweredBy.CLOUD, revision=1))
    assert metrics.summary() == {"frames[edge_degraded]": 1, "revisions": 1}


def test_endpoint_serves_the_registry() -> None:
    """The endpoint answers in Prometheus' text format while the context lasts."""
    metrics = Metrics()
    metrics.call("unavailable", 1234, "picture")
    with metrics_endpoint("127.0.0.1:0", metrics.registry) as address:
        text = urlopen(f"http://{address}/metrics", timeout=30).read().decode()
    assert 'spillover_edge_uplink_calls_total{status="unavailable"} 1.0' in text
    assert 'spillover_edge_uplink_payload_bytes_total{kind="picture"} 1234.0' in text


def test_no_address_is_no_endpoint() -> None:
    """An empty address serves nothing."""
    with metrics_endpoint("", Metrics().registry) as address:
        assert address is None


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:x"])
def test_bad_address_is_named(address: str) -> None:
    """An address that cannot be listened on is a configuration error that names it."""
    with pytest.raises(ConfigError, match=address), metrics_endpoint(address, Metrics().registry):
        pass
