"""The way out of the spool: best first, only where there is room, never again what can never be answered."""

import threading

import pytest

from spillover.common.types import AnsweredBy, ModelId
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.spool.drain import Drain, DrainLimits
from spillover.edge.spool.frames import to_body
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Offer, SpoolLimits
from spillover.edge.uplink.call_status import CallStatus, DrainStep
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.edge_values import classification, encoded, result

FREE = LinkState(in_flight=0, max_in_flight=4)
ANSWER = CloudAnswer(classification(0.9, 0.1), ModelId("big", "7"), 0.1, 0.0, 0.0, 0.0, sent_bytes=4)


def _ignored(*_):
    """Takes a fate or a refusal."""


class Uplink:
    """Gives the outcomes of a script."""

    def __init__(self, *outcomes, link=FREE):
        self._outcomes = list(outcomes)
        self.state = link
        self.delivered = []

    def link(self):
        """What the test set."""
        return self.state

    def deliver(self, encoded_frame, timeout_s):
        """Note it, give the next outcome."""
        del timeout_s
        self.delivered.append(encoded_frame.frame_id)
        return self._outcomes.pop(0)


class ScriptedByFrame(Uplink):
    """Fails these frames, always, and answers all others."""

    def __init__(self, failures):
        super().__init__()
        self._failures = failures

    def deliver(self, encoded_frame, timeout_s):
        """By the frame."""
        del timeout_s
        self.delivered.append(encoded_frame.frame_id)
        return self._failures.get(encoded_frame.frame_id, ANSWER)


@pytest.fixture
def spool(tmp_path):
    """A spool with three frames, worth 1, 3 and 2."""
    spool = Spool(tmp_path / "s", SpoolLimits(1 << 20, 100.0), lambda: 0.0, _ignored, _ignored)
    spool.step([_offer(number, value) for number, value in enumerate((1.0, 3.0, 2.0))])
    return spool


def _offer(number, value):
    frame_id = f"cam-b-{number}"
    return Offer(value, frame_id, to_body(encoded(frame_id, number), result(frame_id)))


def _drain(spool, uplink, rate=0.0):
    results = []

    def emit(result):
        results.append(result)
        return DeliveryAck(0)

    return Drain(spool, uplink, DrainLimits(1.0, rate), emit), results


def test_the_most_valuable_leaves_first_and_becomes_a_revision(spool):
    """In order of value; each answer is revision 1 by the cloud, and the record is forgotten."""
    uplink = Uplink(ANSWER, ANSWER, ANSWER)
    drain, results = _drain(spool, uplink)
    for _ in range(4):
        drain.step()
    assert uplink.delivered == ["cam-b-1", "cam-b-2", "cam-b-0"]
    assert [(r.frame_id, r.revision, r.answered_by) for r in results] == [
        (frame_id, 1, AnsweredBy.CLOUD) for frame_id in uplink.delivered
    ]
    assert (spool.state().answered, spool.state().pending) == (3, 0)


@pytest.mark.parametrize(
    "link",
    [
        LinkState(in_flight=3, max_in_flight=4),
        LinkState(in_flight=0, max_in_flight=4, pushback_left_s=1.0),
        LinkState(in_flight=0, max_in_flight=4, breaker=BreakerPhase.OPEN, breaker_allows=False),
        LinkState(in_flight=1, max_in_flight=1),
    ],
)
def test_live_frames_go_first(spool, link):
    """The last free place, a server that asks for quiet, an open breaker: nothing leaves the disk."""
    uplink = Uplink(link=link)
    drain, _ = _drain(spool, uplink)
    assert drain.step() > 0
    assert not uplink.delivered


def test_a_link_that_fails_costs_no_record(spool):
    """As often as the link fails, the record waits on."""
    drain, results = _drain(spool, Uplink(*[CallFailure(CallStatus.UNAVAILABLE)] * 10))
    for _ in range(10):
        assert drain.step() > 0
    assert (spool.state().pending, spool.state().failed, results) == (3, 0, [])


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        (CallStatus.INVALID_ARGUMENT, 1),
        (CallStatus.TOO_LARGE, 1),
        (CallStatus.INTERNAL, 3),
        (CallStatus.BAD_REPLY, 3),
        (CallStatus.RESOURCE_EXHAUSTED, 3),
    ],
)
def test_what_a_living_server_cannot_answer_is_given_up(spool, status, tries):
    """Given up at once if it never can be, else after three tries; meanwhile the others are answered."""
    uplink = ScriptedByFrame({"cam-b-1": CallFailure(status)})
    drain, results = _drain(spool, uplink)
    for _ in range(tries + 2):
        drain.step()
    assert uplink.delivered.count("cam-b-1") == tries
    assert [result.frame_id for result in results] == ["cam-b-2", "cam-b-0"]
    assert (spool.state().failed, spool.state().pending) == (1, 0)


@pytest.mark.parametrize(
    "failure",
    [
        CallFailure(CallStatus.DEADLINE_EXCEEDED),
        CallFailure(CallStatus.RESOURCE_EXHAUSTED, pushed_back=True),
    ],
)
def test_a_record_that_never_gets_through_holds_up_no_other(spool, failure):
    """However often the best record comes back, the others are answered in between, and it waits on."""
    drain, results = _drain(spool, ScriptedByFrame({"cam-b-1": failure}))
    for _ in range(20):
        drain.step()
    assert [result.frame_id for result in results] == ["cam-b-2", "cam-b-0"]
    assert (spool.state().failed, spool.state().pending) == (0, 1)


def test_a_late_answer_that_no_sink_could_take_is_not_forgotten(spool):
    """With the disk of the results full the record stays, and is asked for again when there is room."""
    given = []

    def full_then_free(result):
        ack = DeliveryAck(1)
        ack.complete(stored=len(given) > 1)
        given.append(result.frame_id)
        return ack

    drain = Drain(spool, Uplink(*[ANSWER] * 5), DrainLimits(1.0, 0.0), full_then_free)
    for _ in range(2):
        drain.step()
    assert (spool.state().answered, spool.state().pending) == (0, 3)
    for _ in range(3):
        drain.step()
    assert (spool.state().answered, spool.state().pending) == (3, 0)
    assert sorted(given[2:]) == ["cam-b-0", "cam-b-1", "cam-b-2"]


def test_the_end_does_not_wait_for_a_sink_that_hangs(spool):
    """Nobody knows whether the result is safe, so the record waits for the next run."""
    drain = Drain(spool, Uplink(ANSWER), DrainLimits(1.0, 0.0), lambda _: DeliveryAck(1))
    drain.close()
    drain.step()
    assert (spool.state().answered, spool.state().pending) == (0, 3)


@pytest.mark.parametrize("status", [CallStatus.DEADLINE_EXCEEDED, CallStatus.INTERNAL])
def test_what_is_remembered_of_records_is_bounded(tmp_path, status):
    """With more failing records than are noted, the best has its turn again; no note grows beyond 1024."""
    spool = Spool(tmp_path / "s", SpoolLimits(8 << 20, 100.0), lambda: 0.0, _ignored, _ignored)
    ids = [f"cam-b-{number}" for number in range(1100)]
    spool.step([_offer(number, float(-number)) for number in range(len(ids))])
    uplink = ScriptedByFrame(dict.fromkeys(ids, CallFailure(status)))
    drain, _ = _drain(spool, uplink)
    for _ in ids:
        drain.step()
    assert uplink.delivered[:1024] == ids[:1024]
    assert ids[0] in uplink.delivered[1024:]
    assert len(drain._came_back) <= 1024
    assert len(drain._tries) <= 1024
    assert spool.state().pending == len(ids)


@pytest.mark.parametrize("status", [status for status in CallStatus if status.means.drain is DrainStep.WAIT])
def test_what_says_nothing_about_a_record_costs_none(spool, status):
    """As often as a call ends so, every record waits on."""
    drain, _ = _drain(spool, Uplink(*[CallFailure(status)] * 10))
    for _ in range(10):
        drain.step()
    assert (spool.state().pending, spool.state().failed) == (3, 0)


def test_a_model_that_is_not_there_empties_no_spool(spool):
    """A wrong model name on either side is mended some day: not a record is lost by it."""
    drain, results = _drain(spool, Uplink(*[CallFailure(CallStatus.NOT_FOUND)] * 10, ANSWER))
    for _ in range(11):
        drain.step()
    assert (spool.state().failed, spool.state().answered, len(results)) == (0, 1, 1)


def test_bytes_that_are_no_frame_are_given_up(spool):
    """What another program wrote there is counted as failed, not sent."""
    spool.step([Offer(9.0, "key", b"something else")])
    drain, _ = _drain(spool, Uplink())
    drain.step()
    assert spool.state().failed == 1


def test_the_rate_is_bounded(spool):
    """With a bound, the pause after a record is what its bytes are worth."""
    drain, _ = _drain(spool, Uplink(ANSWER), rate=2.0)
    assert drain.step() == pytest.approx(4 / 2.0)


def test_close_ends_the_thread(spool):
    """However long the pause."""
    full = LinkState(in_flight=4, max_in_flight=4)
    drain, _ = _drain(spool, Uplink(link=full))
    thread = threading.Thread(target=drain.run)
    thread.start()
    drain.close()
    thread.join(30)
    assert not thread.is_alive()


class Asked(Uplink):
    """Notes how many records the spool held whenever the link was asked for."""

    def __init__(self, spool, *outcomes):
        super().__init__(*outcomes)
        self._spool = spool
        self.pending = []
        self.answered = threading.Event()

    def link(self):
        """Note the records."""
        self.pending.append(self._spool.state().pending)
        return super().link()

    def deliver(self, encoded_frame, timeout_s):
        """Give the outcome, and say so."""
        self.answered.set()
        return super().deliver(encoded_frame, timeout_s)


def test_an_empty_spool_is_not_looked_at_until_a_record_comes_and_a_close_ends_the_wait(tmp_path):
    """The thread asks for the link only while there is something to send."""
    spool = Spool(tmp_path / "s", SpoolLimits(1 << 20, 100.0), lambda: 0.0, _ignored, _ignored)
    spool.step([])
    uplink = Asked(spool, ANSWER)
    drain, _ = _drain(spool, uplink)
    thread = threading.Thread(target=drain.run)
    thread.start()
    spool.step([_offer(1, 1.0)])
    assert uplink.answered.wait(30)
    drain.close()
    thread.join(30)
    assert not thread.is_alive()
    assert uplink.pending
    assert min(uplink.pending) == 1


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_drain_of_an_empty_spool_ends_when_it_is_closed(tmp_path, closed_first):
    """Whether the close comes before the wait or during it."""
    spool = Spool(tmp_path / "s", SpoolLimits(1 << 20, 100.0), lambda: 0.0, _ignored, _ignored)
    drain, _ = _drain(spool, Uplink())
    thread = threading.Thread(target=drain.run)
    if closed_first:
        drain.close()
    thread.start()
    drain.close()
    spool.step([])  # what is published afterwards must not undo the wake
    thread.join(30)
    assert not thread.is_alive()
