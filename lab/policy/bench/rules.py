"""The rules that need no models: budget under drift, risk over splits, links. All simulated, all seeded."""

import time
from dataclasses import dataclass

import numpy as np

from edge.budget import Budget
from edge.policy.budget import BudgetRule
from edge.policy.gain import GainModel
from edge.policy.risk import threshold_for_risk
from lab.policy.pair import Pair
from lab.replay.simulate import ReplayFrame

FRAMES = 6000
FRAMES_PER_S = 10
MEAN_BYTES = 30_000.0


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What the rank rule earned of what a picker with sight of every frame would have earned."""

    drift: float
    budget_share: float
    bucket_frames: int
    reward_share: float
    over_budget_bytes: float


def budget_rows(seed: int = 0) -> list[BudgetRow]:
    """Scores whose scale jumps halfway; budgets for 5, 20, 50 % of the bytes; buckets of 10 and 40 frames."""
    return [
        _budget_row(drift, share, bucket, seed)
        for drift in (1.0, 1.8)
        for share in (0.05, 0.2, 0.5)
        for bucket in (10, 40)
    ]


def _budget_row(drift: float, share: float, bucket_frames: int, seed: int) -> BudgetRow:
    random = np.random.default_rng(seed)
    gains = random.exponential(1.0, FRAMES)
    gains[FRAMES // 2 :] *= drift
    sizes = random.uniform(0.67, 1.33, FRAMES) * MEAN_BYTES
    seconds, bucket = FRAMES / FRAMES_PER_S, bucket_frames * MEAN_BYTES
    budget = Budget(share * MEAN_BYTES * FRAMES + bucket, seconds, bucket)
    rule = BudgetRule(budget, 0.0)
    gathered = spent = 0.0
    for n, (gain, size) in enumerate(zip(gains, sizes, strict=True)):
        now_s = n / FRAMES_PER_S
        if rule.offer(gain, size, now_s).send and rule.spend(size, now_s):
            gathered, spent = gathered + gain, spent + size
    best = sum(
        _best(gains[half], sizes[half], budget.refill_bytes_per_s * seconds / 2)
        for half in (slice(0, FRAMES // 2), slice(FRAMES // 2, FRAMES))
    )
    return BudgetRow(drift, share, bucket_frames, gathered / best, max(0.0, spent - budget.bytes_per_period))


def _best(gains: np.ndarray, sizes: np.ndarray, allowed_bytes: float) -> float:
    order = np.argsort(-gains / sizes)
    return float(gains[order][np.cumsum(sizes[order]) <= allowed_bytes].sum())


@dataclass(frozen=True, slots=True)
class RiskRow:
    """Mean and worst joint error (kept and wrong) of 100 splits, and the share that stays on the device."""

    alpha: float
    mean_error: float
    worst_error: float
    kept_share: float


def risk_rows(pair: Pair, wrong: np.ndarray, splits: int = 100) -> list[RiskRow]:
    """Calibrate on one half, count on the other, by max-softmax; `wrong` (N,) is the edge's."""
    confidence = [getattr(p, "confidence", 0.0) for p in pair.edge_says]
    scores = 1.0 - np.array(confidence, np.float64)
    rows = []
    for alpha in (0.02, 0.05, 0.1):
        random, errors, kept = np.random.default_rng(0), [], []
        for _ in range(splits):
            order = random.permutation(len(scores))
            known, new = np.array_split(order, 2)
            stays = scores[new] < threshold_for_risk(scores[known], wrong[known], alpha)
            errors.append(float(np.mean(stays & wrong[new])))
            kept.append(float(stays.mean()))
        rows.append(RiskRow(alpha, float(np.mean(errors)), max(errors), float(np.mean(kept))))
    return rows


def link_frames(seed: int = 0) -> list[ReplayFrame]:
    """Ten minutes at 10 frames/s, 20 to 60 kB each, gains that are mostly small."""
    random = np.random.default_rng(seed)
    return [
        ReplayFrame(n / FRAMES_PER_S, float(random.exponential(0.2)), float(random.uniform(2e4, 6e4)))
        for n in range(FRAMES)
    ]


def decision_cost_us(model: GainModel, pair: Pair, decisions: int = 3000) -> tuple[float, float]:
    """Median and 99th percentile of one estimate, in microseconds."""
    says, taken = pair.edge_says, np.empty(decisions)
    for n in range(decisions):
        start = time.perf_counter()
        model.gain(says[n % len(says)])
        taken[n] = time.perf_counter() - start
    median, tail = np.quantile(taken, [0.5, 0.99]) * 1e6
    return float(median), float(tail)
