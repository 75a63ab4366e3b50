"""The byte budget: never overspent in any window, and spent on what gains most per byte."""

import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spillover.common.errors import ConfigError, InUseError
from spillover.common.types import Action, Decision
from spillover.edge.config import BudgetConfig, Period, UplinkConfig
from spillover.edge.link.byte_budget import (
    PING_BYTES,
    Budget,
    ByteMeter,
    SavedTokens,
    TokenBucket,
    Tokens,
    build_meter,
    wire_bytes,
)
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.policy import tracks
from spillover.edge.policy.base import Context, Reason
from spillover.edge.policy.budget import Rank, RankByBudget, RankRule, needed_bytes
from spillover.edge.tracking.stage import TrackSummary
from spillover.lab.pairs.replay.simulate import SimulatedBudget
from tests.support.slow_disk import Gate, returns


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 3000)), max_size=80),
    st.floats(10, 5000),
    st.floats(1, 60),
    st.floats(0.01, 0.5),
)
def test_no_window_of_a_period_exceeds_the_budget(
    asked: list[tuple[float, float]], budget: float, period_s: float, share: float
) -> None:
    """However frames come and whatever their size, any period holds at most the budget."""
    bucket = TokenBucket(Budget(budget, period_s, budget * share), 0.0)
    now, sent = 0.0, []
    for pause_s, size in asked:
        now += pause_s
        if bucket.take(size, now):
            sent.append((now, size))
    for start, _ in sent:
        assert sum(size for at, size in sent if start <= at <= start + period_s) <= budget * (1 + 1e-9)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.integers(1, 20))
def test_the_rank_is_the_share_of_the_window_below(values: list[float], window: int) -> None:
    """The sorted window says what counting says, without and with equal values."""
    rank = Rank(window)
    for n, value in enumerate(values):
        recent = values[max(0, n - window) : n]
        counts = sum(v < value for v in recent), sum(v <= value for v in recent)
        assert rank.of(value) == pytest.approx(
            tuple(count / len(recent) if recent else 1.0 for count in counts)
        )
        rank.add(value)


def test_of_equal_values_as_many_are_sent_as_the_budget_pays_for() -> None:
    """None ranks above the others, and the budget is spent all the same, at even distances."""
    rule, budget = RankRule(), SimulatedBudget(Budget(60_000, 60, 5_000))
    sent = []
    for n in range(3000):
        now_s = n / 10
        if rule.judge(1.0, 1_000, budget.tokens(now_s), now_s).send and budget.spend(1_000, now_s):
            sent.append(n)
    assert len(sent) >= 0.9 * 55_000 / 1_000 * 5
    assert np.diff(sent).max() <= 40


def sent_early(rule: RankRule, budget: SimulatedBudget, seconds: int) -> int:
    """How many of ten frames a second, of 1,000 bytes each, are sent in the first seconds of a daemon."""
    gains = np.random.default_rng(0).exponential(1.0, seconds * 10)
    frames = ((n / 10, float(gain)) for n, gain in enumerate(gains))
    return sum(
        rule.judge(gain, 1_000, budget.tokens(now_s), now_s).send and budget.spend(1_000, now_s)
        for now_s, gain in frames
    )


def test_a_bucket_that_begins_empty_is_not_filled_first() -> None:
    """More than half of what comes in is spent from the first half minute on; the bucket takes longer."""
    budget = SimulatedBudget(Budget(20_000_000, 3600, 2_000_000))
    assert sent_early(RankRule(), budget, 30) > 75  # 150 kB have come in, a tenth of the bucket


def test_a_restart_changes_nothing_in_what_is_sent() -> None:
    """A tenth of what is offered, of a large bucket that is half full, as it is after a day of that."""
    budget = SimulatedBudget(Budget(20_000_000, 20_000, 2_000_000), 1_000_000)
    assert 250 < sent_early(RankRule(), budget, 300) < 350  # a full one would send twice as many


def rewards(drift: float, bucket_frames: float, share: float, seed: int) -> tuple[float, float]:
    """What the rule gathers in 6000 frames, and what the best frames of each half would have given."""
    random = np.random.default_rng(seed)
    gains = random.exponential(1.0, 6000)
    gains[3000:] *= drift
    sizes = random.uniform(20_000, 40_000, 6000)
    rate = share * 30_000 * 10  # bytes a second at 10 frames/s
    bucket = bucket_frames * 30_000
    rule, budget = RankRule(), SimulatedBudget(Budget(rate * 600 + bucket, 600, bucket))
    gathered = 0.0
    for n, (gain, size) in enumerate(zip(gains, sizes, strict=True)):
        ranked = rule.judge(gain, size, budget.tokens(n / 10), n / 10)
        if ranked.send and budget.spend(size, n / 10):
            gathered += gain
    best = 0.0
    for half in (slice(0, 3000), slice(3000, 6000)):
        order = np.argsort(-gains[half] / sizes[half])
        affordable = np.cumsum(sizes[half][order]) <= rate * 300
        best += gains[half][order][affordable].sum()
    return gathered, best


@pytest.mark.parametrize("drift", [1.0, 1.8, 1 / 1.8])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_rule_earns_nine_tenths_of_what_is_possible(drift: float, share: float) -> None:
    """At least 90 % of a picker who sees all frames at once, with ten frames of bucket, under drift too."""
    gathered, best = np.sum([rewards(drift, 10, share, seed) for seed in range(3)], axis=0)
    assert gathered >= 0.9 * best


def test_a_frame_that_gains_nothing_is_never_sent() -> None:
    """Not even with a full bucket."""
    rule, budget = RankRule(), SimulatedBudget(Budget(1000, 10, 500))
    assert not rule.judge(0.0, 1, budget.tokens(100.0), 100.0).send
    assert rule.judge(0.1, 1, budget.tokens(101.0), 101.0).send


KEY_BYTES, OTHER_BYTES = 16_000.0, 1_500.0


def _of_video(*, key: bool) -> PayloadOption:
    extra_bytes = KEY_BYTES - OTHER_BYTES if key else 0.0
    size = OTHER_BYTES + extra_bytes
    return PayloadOption("video", Action.SEND_FRAME, size, 0.1, 1.0, extra_bytes=extra_bytes)


def _judged(rule: RankByBudget, option: PayloadOption, tokens: Tokens, now_s: float, gain: float) -> Decision:
    link = LinkState(max_in_flight=4, view=LinkView(options=(option,)), tokens=tokens)
    wanted = Decision(Action.SEND_FRAME, Reason.SCORE, gain, payload="video")
    return rule(wanted, Context(time_left_s=1.0, link=link, now_s=now_s))


def test_a_key_that_is_due_does_not_lower_what_the_frames_after_it_rank() -> None:
    """It is paid for as a key, and ranked as what it serves: share and ranks are those of usual frames."""
    tokens = Tokens(20_000.0, 40_000.0, 7_500.0)
    keyed, steady = RankByBudget(), RankByBudget()
    gains = np.random.default_rng(3).exponential(1.0, 101)
    for n, gain in enumerate(gains[:100]):
        waiting = _judged(keyed, _of_video(key=True), tokens, n / 10, float(gain))
        _judged(steady, _of_video(key=False), tokens, n / 10, float(gain))
    assert waiting.needed_bytes == wire_bytes(KEY_BYTES)
    after = [_judged(rule, _of_video(key=False), tokens, 10.0, float(gains[100])) for rule in (keyed, steady)]
    assert after[0].inputs == after[1].inputs
    assert after[0].inputs["budget_share"] == pytest.approx(7_500 / 10 / wire_bytes(OTHER_BYTES), rel=0.01)


def test_the_first_frames_of_tracks_do_not_outrank_those_that_follow() -> None:
    """They count as what serves until the budget pays for another, not as what serves for a minute."""
    rule = RankByBudget()
    tokens = Tokens(20_000.0, 40_000.0, wire_bytes(OTHER_BYTES))  # one a second
    link = LinkState(max_in_flight=4, view=LinkView(options=(_of_video(key=False),)), tokens=tokens)
    summary = TrackSummary(shown=4, stale=4.0, half_life_s=1.0)
    wanted = Decision(Action.SEND_FRAME, Reason.SCORE, payload="video", inputs={"by_tracks": 1.0})
    context = Context(time_left_s=1.0, link=link, tracks=summary)
    sent = 0
    for n in range(150):
        since_s = math.inf if n < 50 else n % 12 / 10
        frame = replace(wanted, expected_gain=tracks.value(summary, since_s) or 0.0)
        decision = rule(frame, replace(context, now_s=n / 10, since_last_offload_s=since_s))
        sent += n >= 50 and decision.action is Action.SEND_FRAME
    assert sent > 3


def test_a_key_that_is_due_is_set_aside_before_frames_are_chosen() -> None:
    """What is left beside it decides how many pass; else many would be chosen that cannot be paid for."""
    rule, tokens = RankByBudget(), Tokens(wire_bytes(KEY_BYTES), 40_000.0, 7_500.0)
    waiting = [_judged(rule, _of_video(key=True), tokens, n / 10, float(n % 10)) for n in range(100)]
    passed = sum(decision.action is Action.SEND_FRAME for decision in waiting[10:])
    assert passed < 20
    assert {decision.inputs["tokens_bytes"] for decision in waiting} == {tokens.left_bytes}


def test_a_key_above_the_bucket_is_encoded_without_saving_for_it() -> None:
    """How large it has become only encoding tells; it is not to wait for a bucket that pictures keep low."""
    option, tokens = _of_video(key=True), Tokens(2_000.0, 10_000.0, 100.0)
    assert needed_bytes(option, tokens) == 0.0
    picture = replace(option, extra_bytes=0.0)
    assert needed_bytes(picture, tokens) == tokens.bucket_bytes


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (10, 1, 6)])
def test_a_budget_that_makes_no_sense_is_refused(numbers: tuple[float, float, float]) -> None:
    """Nothing is divided by zero later."""
    with pytest.raises(ValueError, match="bucket"):
        Budget(*numbers)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 9000), st.booleans()), min_size=1, max_size=40),
    st.floats(0.02, 0.5),
)
@settings(max_examples=60, deadline=None)
def test_crashes_and_restarts_never_overspend(steps: list[tuple[float, int, bool]], share: float) -> None:
    """However often the process dies, and whenever: no window of a period holds more than the budget."""
    now = 0.0

    def clock() -> float:
        return now

    budget = Budget(100_000, 60, 100_000 * share)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "left.json"
        meter, sent = ByteMeter(budget, clock, SavedTokens(path), 900), []
        connected = False
        for pause_s, size, dies in steps:
            now += pause_s
            if meter.take(size):
                sent.append((now, wire_bytes(size)))
                if not connected:
                    meter.connecting()
                    sent.append((now, 900))
                    connected = True
            if dies:
                del meter  # and with it the lock of its file
                meter, connected = ByteMeter(budget, clock, SavedTokens(path), 900), False
        for start, _ in sent:
            assert sum(size for at, size in sent if start <= at <= start + 60) <= 100_000


def test_what_is_left_survives_a_restart_and_is_seldom_written(tmp_path: Path) -> None:
    """A run that ends well leaves all it has; of a hundred small calls only some write to the disk."""
    budget, path, now = Budget(1_000_000, 86_400, 200_000), tmp_path / "left.json", 0.0
    SavedTokens(path).save(200_000)
    saved = CountedSaves(path)
    meter = ByteMeter(budget, lambda: now, saved)
    assert sum(meter.take(1_000) for _ in range(100)) == 100
    assert 1 <= saved.saves <= 8
    meter.close()
    after = ByteMeter(budget, lambda: now, SavedTokens(path))
    assert after.tokens().left_bytes == 200_000 - 100 * wire_bytes(1_000)


def test_what_is_left_can_be_read_while_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that pays waits for the file; the decision about the next frame, which only looks, does not."""
    SavedTokens(tmp_path / "left.json").save(200_000)
    meter = ByteMeter(Budget(1_000_000, 86_400, 200_000), lambda: 0.0, SavedTokens(tmp_path / "left.json"))
    gate = Gate(os.fsync)
    monkeypatch.setattr(os, "fsync", gate)
    payer = threading.Thread(target=meter.take, args=(100_000,))
    payer.start()
    gate.wait_until_reached()
    assert returns(meter.tokens)
    assert meter.tokens().left_bytes == 200_000
    gate.open()
    payer.join(30)
    assert meter.tokens().left_bytes == 200_000 - wire_bytes(100_000)


class CountedSaves(SavedTokens):
    """Counts how often the file is replaced."""

    saves = 0

    def save(self, left_bytes: float) -> None:
        """Count and save."""
        self.saves += 1
        super().save(left_bytes)


@pytest.mark.parametrize("content", ["seven", "", '{"left_bytes": "many"}'])
def test_a_damaged_file_is_set_aside_and_the_balance_begins_at_0(tmp_path: Path, content: str) -> None:
    """Nothing is guessed from it; it is kept under a name that the log has; the next start is as usual."""
    path = tmp_path / "left.json"
    path.write_text(content)
    with capture_logs() as log:
        saved = SavedTokens(path)
    assert saved.left_bytes == 0
    assert (tmp_path / "left.json.set-aside").read_text() == content
    assert [line["now"] for line in log] == [f"{path}.set-aside"]
    saved.save(5.0)
    saved.close()
    assert SavedTokens(path).left_bytes == 5


def test_a_file_whose_folder_is_away_is_used_once_it_comes(tmp_path: Path) -> None:
    """The balance begins at 0, nothing makes the folder, and the first save after it has come succeeds."""
    saved = SavedTokens(tmp_path / "disk" / "left.json")
    assert saved.left_bytes == 0
    with pytest.raises(OSError, match="disk"):
        saved.save(5.0)
    assert not list(tmp_path.iterdir())
    (tmp_path / "disk").mkdir()
    saved.save(5.0)
    saved.close()
    assert SavedTokens(tmp_path / "disk" / "left.json").left_bytes == 5


def test_a_balance_is_not_for_two(tmp_path: Path) -> None:
    """Both would spend it: the second is refused, with the name of the file."""
    path = tmp_path / "left.json"
    first = SavedTokens(path)
    with pytest.raises(InUseError, match=r"policy\.budget\.state_file: .*left\.json is in use by process"):
        SavedTokens(path)
    first.close()


def test_a_path_that_is_a_folder_is_named(tmp_path: Path) -> None:
    """Waiting would not help."""
    with pytest.raises(ConfigError, match=r"policy\.budget\.state_file"):
        SavedTokens(tmp_path)


def test_a_connection_is_paid_for_by_the_calls_that_follow() -> None:
    """One that had to be made anew with an empty bucket is owed, and nothing leaves before it is paid."""
    now = 0.0
    meter = ByteMeter(Budget(100_000, 100, 50_000), lambda: now, connection_bytes=2_000)
    assert not meter.take(100)
    meter.connecting()
    assert meter.tokens().left_bytes == 0
    now = 2_000 / 500 + 2_000 / 500
    assert not meter.take(100)
    now += wire_bytes(100) / 500 + 0.01
    assert meter.take(100)
    assert meter.charged_bytes == 2_000 + wire_bytes(100)


def test_pings_are_set_aside_from_the_beginning() -> None:
    """With them and the bucket, a period's refill is within the budget."""
    config = BudgetConfig(bytes=10_000_000)
    meter = build_meter(config, UplinkConfig(keepalive_s=60), "device")
    pings = PING_BYTES * 86_400 / 60
    whole = meter.tokens().refill_bytes_per_s * 86_400 + 1_000_000
    assert whole + pings <= 10_000_000 < whole + pings + 2


@pytest.mark.parametrize(
    ("config", "uplink", "named"),
    [
        (BudgetConfig(bytes=100_000), UplinkConfig(), "keepalive_s to 1037"),
        (BudgetConfig(bytes=20_000, per=Period.MINUTE), UplinkConfig(), "bucket of 2000"),
    ],
)
def test_a_budget_that_connections_would_spend_is_refused(
    config: BudgetConfig, uplink: UplinkConfig, named: str
) -> None:
    """The error says what to change."""
    with pytest.raises(ConfigError, match=named):
        build_meter(config, uplink, "device")
