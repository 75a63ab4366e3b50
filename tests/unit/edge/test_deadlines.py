"""The promise: one first result per frame, by its deadline; at most one revision after it."""

import threading
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spillover.common.types import AnsweredBy, Classification, ModelId, Result
from spillover.edge.results.deadlines import NO_ANSWER_IN_TIME, PROBE, DeadlineTable, PendingFrame
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer
from tests.support.edge_values import encoded, result
from tests.support.slow_disk import Gate, returns

DEADLINE_S = 1.0
ANSWER = CloudAnswer(
    prediction=Classification(np.array([9], np.int32), np.array([0.8], np.float32)),
    model=ModelId("big", "2"),
    network_s=0.1,
    server_queue_s=0.2,
    server_decode_s=0.3,
    server_infer_s=0.4,
)
SENT = encoded()


class Bench:
    """A table with a clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.results: list[Result] = []
        self.answers = DeadlineTable(self.results.append, lambda: self.now_s)

    def open(self, frame_id: str = "f") -> PendingFrame:
        """Promise a result within `DEADLINE_S`."""
        return self.answers.register(result(frame_id), self.now_s, self.now_s + DEADLINE_S)

    def advance(self, seconds: float) -> float | None:
        """Let time pass, then look at the deadlines."""
        self.now_s += seconds
        return self.answers.expire()


@pytest.fixture
def bench() -> Bench:
    """An empty table."""
    return Bench()


def test_answer_in_time(bench: Bench) -> None:
    """An answer before the deadline is the first result, the cloud's, with the cloud's times."""
    handler = bench.open()
    handler.encoded(1234, 0.05)
    bench.now_s += 0.5
    handler.complete(ANSWER)
    bench.advance(10)
    [only] = bench.results
    assert (only.answered_by, only.revision, only.error) == (AnsweredBy.CLOUD, 0, "")
    assert only.prediction is ANSWER.prediction
    assert only.model == ANSWER.model
    assert (only.payload_bytes, only.timings.encode_s, only.timings.server_infer_s) == (1234, 0.05, 0.4)
    assert only.timings.total_s == pytest.approx(0.5)
    assert only.timings.infer_s == 0.01


def test_silence(bench: Bench) -> None:
    """Without an answer the local result is given at the deadline, not before, marked and with the reason."""
    handler = bench.open()
    handler.encoded(77, 0.01)
    bench.advance(0.999)
    assert not bench.results
    bench.advance(0.001)
    [only] = bench.results
    assert (only.answered_by, only.error) == (AnsweredBy.EDGE_DEGRADED, NO_ANSWER_IN_TIME)
    assert only.payload_bytes == 77
    assert only.model == ModelId("small", "1")


def test_a_probe_waits_for_nothing(bench: Bench) -> None:
    """The frame that tries a dead link is answered by the edge at once; an answer is a revision."""
    handler = bench.answers.register(result("f"), bench.now_s, bench.now_s + DEADLINE_S, at_once=PROBE)
    [first] = bench.results
    assert (first.answered_by, first.error, first.revision) == (AnsweredBy.EDGE_DEGRADED, PROBE, 0)
    bench.now_s += 0.5
    handler.complete(ANSWER)
    bench.advance(10)
    assert [(r.answered_by, r.revision) for r in bench.results[1:]] == [(AnsweredBy.CLOUD, 1)]


def test_known_failure_does_not_wait(bench: Bench) -> None:
    """A failure known before the deadline gives the local result at once."""
    bench.open().complete(CallFailure(CallStatus.UNAVAILABLE, "nobody there"))
    [only] = bench.results
    assert (only.answered_by, only.error) == (AnsweredBy.EDGE_DEGRADED, "unavailable: nobody there")


def test_late_answer_is_a_revision(bench: Bench) -> None:
    """An answer after the deadline comes as revision 1 of the same frame."""
    handler = bench.open()
    bench.advance(2)
    handler.complete(ANSWER)
    first, second = bench.results
    assert first.frame_id == second.frame_id
    assert (second.answered_by, second.revision) == (AnsweredBy.CLOUD, 1)


def test_late_failure_says_nothing(bench: Bench) -> None:
    """A failure after the deadline adds nothing: the frame has its result."""
    handler = bench.open()
    bench.advance(2)
    handler.complete(CallFailure(CallStatus.DEADLINE_EXCEEDED))
    assert len(bench.results) == 1
    assert len(bench.answers) == 0


def test_next_deadline_is_told(bench: Bench) -> None:
    """`expire` tells the seconds to the next open deadline, passing over frames that are done."""
    first = bench.open("a")
    bench.advance(0.25)
    bench.open("b")
    first.complete(ANSWER)
    assert bench.answers.expire() == pytest.approx(DEADLINE_S)


def test_a_second_outcome_changes_nothing(bench: Bench) -> None:
    """The first completion decides; the frame is neither answered nor spooled nor audited again."""
    spooled: list[str] = []
    audited: list[CloudAnswer] = []
    table = DeadlineTable(
        bench.results.append,
        lambda: bench.now_s,
        lambda sent, local: spooled.append(local.frame_id),
        lambda local, answer: audited.append(answer),
    )
    pending = table.register(result("f"), bench.now_s, bench.now_s + DEADLINE_S)
    pending.complete(CallFailure(CallStatus.UNAVAILABLE, unsent=SENT))
    for outcome in (ANSWER, CallFailure(CallStatus.UNAVAILABLE, unsent=SENT)):
        pending.complete(outcome)
    assert [given.answered_by for given in bench.results] == [AnsweredBy.EDGE_DEGRADED]
    assert (spooled, audited) == (["f"], [])


@pytest.mark.parametrize("outcome", [ANSWER, CallFailure(CallStatus.UNAVAILABLE, unsent=SENT)])
def test_no_frame_waits_for_the_spool_or_the_audit_of_another(bench: Bench, outcome: CallOutcome) -> None:
    """While one frame is spooled or audited, others are registered, completed and expire."""
    gate = Gate(lambda *_: None)
    table = DeadlineTable(bench.results.append, lambda: bench.now_s, gate, gate)
    slow = table.register(result("slow"), bench.now_s, bench.now_s + DEADLINE_S)
    thread = threading.Thread(target=slow.complete, args=(outcome,))
    thread.start()
    gate.wait_until_reached()

    def others() -> None:
        table.register(result("b"), bench.now_s, bench.now_s + DEADLINE_S).complete(
            CallFailure(CallStatus.INTERNAL)
        )
        table.register(result("c"), bench.now_s, bench.now_s)
        table.expire()

    assert returns(others)
    assert [given.frame_id for given in bench.results] == ["slow", "b", "c"]
    gate.open()
    thread.join(30)


def test_close_gives_up_what_waits(bench: Bench) -> None:
    """`close` gives the local result of frames that wait, once, and nothing for those that had theirs."""
    bench.open("late")
    bench.advance(2)
    handler = bench.open("waiting")
    assert bench.answers.close("stopped") == 1
    handler.complete(ANSWER)
    assert [(r.frame_id, r.error) for r in bench.results] == [
        ("late", NO_ANSWER_IN_TIME),
        ("waiting", "stopped"),
    ]
    assert bench.answers.drain(0)


class AnyInterleaving(RuleBasedStateMachine):
    """Frames opened, settled (also twice), expired and closed in any order."""

    @initialize()
    def begin(self) -> None:
        """An empty table."""
        self.bench = Bench()
        self.handlers: list[PendingFrame] = []
        self.opened_s: dict[str, float] = {}
        self.closed = False

    @rule()
    def open(self) -> None:
        """A new frame, unless stopped."""
        if not self.closed:
            frame_id = f"f{len(self.handlers)}"
            handler = self.bench.open(frame_id)
            self.opened_s[frame_id] = self.bench.now_s
            self.handlers.append(handler)

    @rule(seconds=st.floats(0, 3))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.bench.advance(seconds)

    @rule(which=st.integers(0, 50), ok=st.booleans())
    def complete(self, which: int, ok: bool) -> None:
        """A call ends: any, even one that has ended before."""
        if self.handlers:
            outcome = ANSWER if ok else CallFailure(CallStatus.UNAVAILABLE)
            self.handlers[which % len(self.handlers)].complete(outcome)

    @rule()
    def close(self) -> None:
        """Stop."""
        self.bench.answers.close("stopped")
        self.closed = True

    @invariant()
    def one_first_result_and_at_most_one_revision(self) -> None:
        """Per frame: revision 0 once and first, then at most revision 1; none missing after its deadline."""
        revisions = defaultdict(list)
        for given in self.bench.results:
            revisions[given.frame_id].append(given.revision)
        assert all(seen in ([0], [0, 1]) for seen in revisions.values())
        for frame_id, opened_s in self.opened_s.items():
            assert frame_id in revisions or (self.bench.now_s < opened_s + DEADLINE_S and not self.closed)


TestAnyInterleaving = AnyInterleaving.TestCase


def test_a_frame_that_comes_after_the_end_is_answered_at_once() -> None:
    """Nobody watches its deadline any more: the local result, marked, and no other."""
    given: list[Result] = []
    answers = DeadlineTable(given.append, lambda: 0.0)
    answers.close("stopped")
    answers.register(result("late"), 0.0, 1.0).complete(ANSWER)
    assert [(r.frame_id, r.answered_by) for r in given] == [("late", AnsweredBy.EDGE_DEGRADED)]
    assert given[0].error
    assert len(answers) == 0
