"""The rules that need no models: budget under drift, risk over splits, links. All simulated, all seeded."""

import math
import time
from dataclasses import dataclass

import numpy as np

from spillover.common.types import Action
from spillover.edge.inference.scene import Scene, watch
from spillover.edge.link.byte_budget import Budget, Tokens
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.policy.base import Context
from spillover.edge.policy.budget import RankByBudget, RankRule
from spillover.edge.policy.chain import KEEP_ALL, Audit, EmptyRules, Policy, ScoreThreshold
from spillover.edge.policy.forms import ChoosePayload
from spillover.edge.policy.gain import GainModel
from spillover.edge.policy.guard import LinkGuard
from spillover.edge.policy.share import FixedThreshold
from spillover.lab.pairs.fit.pair import Pair
from spillover.lab.pairs.replay.simulate import ReplayFrame, SimulatedBudget

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
    rule, simulated = RankRule(), SimulatedBudget(budget)
    gathered = spent = 0.0
    for n, (gain, size) in enumerate(zip(gains, sizes, strict=True)):
        now_s = n / FRAMES_PER_S
        ranked = rule.judge(gain, size, simulated.tokens(now_s), now_s)
        if ranked.send and simulated.spend(size, now_s):
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


def threshold_for_risk(scores: np.ndarray, wrong: np.ndarray, alpha: float) -> float:
    """The highest threshold whose risk is bounded: (n R(t) + 1) / (n + 1) <= alpha.

    R(t) is the share of frames with score < t whose local answer is wrong. Conformal risk control
    (Angelopoulos et al., ICLR 2024): on new frames of the same kind the expected risk is at most `alpha`.
    -inf (send all) where even that cannot be shown, inf (keep all) where every threshold is safe.
    """
    count = len(scores)
    allowed = alpha * (count + 1) - 1
    if allowed < 0:
        return -math.inf
    # The loss steps up just above the score of each wrong frame: one more than allowed must not be kept.
    bad = np.sort(scores[wrong])
    most = int(allowed)
    return float(bad[most]) if most < len(bad) else math.inf


def risk_rows(pair: Pair, wrong: np.ndarray, splits: int = 100) -> list[RiskRow]:
    """Calibrate on one half, count on the other, by max-softmax; `wrong` (N,) is the edge's."""
    scores = 1.0 - np.array([answer.top_confidence for answer in pair.edge_predictions], np.float64)
    rows = []
    for alpha in (0.02, 0.05, 0.1):
        random, errors, fidelity = np.random.default_rng(0), [], []
        for _ in range(splits):
            order = random.permutation(len(scores))
            known, new = np.array_split(order, 2)
            stays = scores[new] < threshold_for_risk(scores[known], wrong[known], alpha)
            errors.append(float(np.mean(stays & wrong[new])))
            fidelity.append(float(stays.mean()))
        rows.append(RiskRow(alpha, float(np.mean(errors)), max(errors), float(np.mean(fidelity))))
    return rows


def link_frames(seed: int = 0) -> list[ReplayFrame]:
    """Ten minutes at 10 frames/s, 20 to 60 kB each, gains that are mostly small."""
    random = np.random.default_rng(seed)
    return [
        ReplayFrame(n / FRAMES_PER_S, float(random.exponential(0.2)), float(random.uniform(2e4, 6e4)))
        for n in range(FRAMES)
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of one decision: median and 99th percentile, by the clock and of the processor."""

    wall_p50_us: float
    wall_p99_us: float
    cpu_p50_us: float
    cpu_p99_us: float


def decision_cost(model: GainModel, pair: Pair, decisions: int = 3000) -> Cost:
    """Whole decisions, as the pipeline makes them with every rule switched on.

    Motion, expected gain, payload choice, rank by byte budget, audits, link. What others on the machine take
    is in the time by the clock, and not in the processor's.
    """
    random = np.random.default_rng(0)
    score = ScoreThreshold(FixedThreshold(0.05), EmptyRules(0.02, 0.5, 0.5), random.random)
    around = ChoosePayload(), RankByBudget(), Audit(0.01, random.random), LinkGuard()
    policy = Policy(KEEP_ALL, (score, *around), model.gain)
    link, scene, says = _link(), Scene(), pair.edge_predictions
    images = random.integers(0, 255, (4, 480, 640, 3), np.uint8)
    wall, processor = np.empty(decisions), np.empty(decisions)
    for n in range(decisions):
        prediction = says[n % len(says)]
        started, used = time.perf_counter(), time.thread_time()
        scene, seen = watch(scene, images[n % 4], prediction, pair.report_threshold, n / FRAMES_PER_S)
        policy.decide(Context(0.4, link, n / FRAMES_PER_S, policy.score(prediction), surroundings=seen))
        wall[n], processor[n] = time.perf_counter() - started, time.thread_time() - used
    numbers = (np.quantile(taken, share) * 1e6 for taken in (wall, processor) for share in (0.5, 0.99))
    return Cost(*(float(number) for number in numbers))


def _link() -> LinkState:
    """A link with three picture variants and a budget."""
    options = tuple(
        PayloadOption(f"picture-{size}", Action.SEND_FRAME, size, 0.1 + size / 1e6, fidelity)
        for size, fidelity in ((50_000.0, 1.0), (25_000.0, 0.97), (8_000.0, 0.8))
    )
    return LinkState(max_in_flight=4, view=LinkView(options=options), tokens=Tokens(5e5, 1e6, 1e4))
