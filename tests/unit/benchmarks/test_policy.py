"""The policy benchmark: its simulations hold the promises, and what is missing is said."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.policy.policy_report import write_report
from benchmarks.policy.rules import budget_rows, risk_rows
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Classification, Prediction
from spillover.edge.policy.gain import EdgeSide
from spillover.lab.data.labelled import ClassLabels, LabelledSet
from spillover.lab.data.pictures import ArrayPicture
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.terminal import Silent

pytestmark = pytest.mark.slow


def test_the_rank_rule_earns_nine_tenths_and_overspends_nothing() -> None:
    """On every row of the table, with drift as without."""
    rows = budget_rows()
    assert len(rows) >= 2
    assert all(row.reward_share >= 0.9 for row in rows)
    assert all(row.over_budget_bytes == 0 for row in rows)


def test_the_risk_stays_below_alpha_on_average() -> None:
    """On halves that the threshold has not seen."""
    random = np.random.default_rng(0)
    top = random.uniform(0.4, 1.0, 400)
    wrong = random.random(400) < 1 - top
    says: list[Prediction] = [
        Classification(np.array([0, 1], np.int32), np.array([p, 1 - p], np.float32)) for p in top
    ]
    picture = ArrayPicture("p", np.zeros((1, 1, 3), np.uint8))
    data = LabelledSet("set", (picture,) * 400, ClassLabels(np.zeros(400, np.int64)))
    pair = Pair(CLASSIFICATION.name, EdgeSide("e@1", "0" * 64, 0.1), "c@1", 2, says, says, says, says, data)
    rows = risk_rows(pair, wrong)
    assert len(rows) >= 2
    for row in rows:
        assert row.mean_error <= row.alpha + 0.003
        assert 0 < row.kept_share < 1


def test_a_report_without_pictures_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pairs are passed over by name; the simulated sections are there."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    text = write_report(tmp_path / "nothing", tmp_path / "out", Silent(), 1).read_text()
    assert "Passed over" in text
    assert "cifar10" in text
    assert "| lte |" in text
    assert "bytes over budget" in text
