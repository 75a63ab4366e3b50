"""The books: every ending is counted once, and the endpoint shows it."""

from dataclasses import replace

from spillover.common.types import AnsweredBy
from spillover.edge.telemetry.metrics import Metrics
from tests.support.edge_values import result


def test_first_results_and_revisions_are_apart() -> None:
    """A revision is no second ending of its frame."""
    metrics = Metrics()
    metrics.result(replace(result(), answered_by=AnsweredBy.EDGE_DEGRADED))
    metrics.result(replace(result(), answered_by=AnsweredBy.CLOUD, revision=1))
    assert metrics.summary() == {"frames[edge_degraded]": 1, "revisions": 1}
