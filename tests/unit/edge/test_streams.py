"""The sender of one stream, over arbitrary losses, delays, repeats and orders of calls, beside a server."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spillover.edge.payload.streams import (
    CALM_S,
    PAUSE_MOST_S,
    PAUSE_S,
    REFUSED_MOST_S,
    REFUSED_S,
    Bounds,
    KeyCause,
    Sender,
)

BOUNDS = Bounds(most_payloads=5, most_bytes=1000)
FRESH = Sender(BOUNDS)
DRAWS = st.floats(0, 1, exclude_max=True)


def _sent(sender: Sender, now_s: float = 0.0, behind_bytes: int = 0) -> Sender:
    return sender.advanced(now_s, key=sender.key_cause(behind_bytes) is not None)


def test_the_first_payload_is_a_key_and_so_is_every_one_that_needs_nothing():
    """Until an answer comes there is no reference, and the key stays the same."""
    first = _sent(FRESH)
    assert (first.newest, first.key, first.reference) == (1, 1, 0)
    second = _sent(first)
    assert (second.newest, second.key, second.reference) == (2, 1, 0)


def test_the_newest_acknowledged_number_is_the_reference():
    """Answers in whatever order: an older one takes nothing back."""
    sender = _sent(_sent(_sent(FRESH)))
    assert sender.acknowledged(2).acknowledged(1).reference == 2
    assert sender.acknowledged(1).acknowledged(3).reference == 3


def test_nobody_acknowledges_what_was_not_sent():
    """A number beyond the newest one is no reference."""
    assert _sent(FRESH).acknowledged(2).reference == 0


@pytest.mark.parametrize(("answered", "behind_bytes"), [(0, 0), (1, 0), (0, 1000), (1, 1000)])
def test_a_key_is_due_when_too_much_is_behind_the_reference(answered, behind_bytes):
    """By number or by bytes, with a reference or without one."""
    sender = _sent(FRESH).acknowledged(answered)
    for _ in range(0 if behind_bytes else BOUNDS.most_payloads - (not answered)):
        assert sender.key_cause(behind_bytes) is None
        sender = _sent(sender)
    assert sender.key_cause(behind_bytes) is KeyCause.BEHIND


def test_a_loss_makes_the_next_payload_a_key_at_once():
    """As after a server's restart: the first one waits for nothing."""
    lost = _sent(FRESH).acknowledged(1).lost(1, now_s=10.0, draw=0.9)
    assert lost.may_send(10.0)
    assert lost.key_cause() is KeyCause.LOST
    assert (_sent(lost).newest, _sent(lost).key, _sent(lost).reference) == (2, 2, 0)


def test_what_is_heard_of_an_earlier_chain_says_nothing_of_this_one():
    """Answers, losses and refusals of calls that were under way when the key was sent."""
    sender = _sent(_sent(_sent(FRESH)).lost(1, 1.0, 0.5), 1.0)
    assert sender.key == 3
    assert sender.acknowledged(2) == sender
    assert sender.lost(2, 1.0, 0.5) == sender
    assert sender.refused(2, 1.0, 0.5) == sender


def test_what_is_older_than_the_reference_has_only_come_late():
    """The server keeps the newest pictures; the chain is as it was."""
    sender = _sent(_sent(_sent(FRESH))).acknowledged(2)
    assert sender.lost(1, 1.0, 0.5) == sender
    assert sender.lost(2, 1.0, 0.5).key_cause() is KeyCause.LOST


def test_between_a_loss_and_the_next_key_nothing_is_heard():
    """The other calls that a restart has lost are the same loss."""
    lost = _sent(_sent(FRESH)).lost(2, 1.0, 0.5)
    assert lost.lost(1, 1.0, 0.5) == lost
    assert lost.acknowledged(1) == lost


@given(st.lists(DRAWS, min_size=30, max_size=30))
def test_keys_that_are_lost_one_after_the_other_wait_longer_and_longer(draws):
    """Whatever is drawn: pauses stay within their bounds, and within ten minutes there are few keys."""
    sender, now_s, keys = FRESH, 0.0, 0
    for strike, draw in enumerate(draws, 1):
        sender = _sent(sender, now_s)
        keys += now_s < 600
        sender = sender.acknowledged(sender.newest).lost(sender.newest, now_s + 0.1, draw)
        pause_s = sender.not_before_s - (now_s + 0.1)
        longest_s = min(PAUSE_MOST_S, PAUSE_S * 2 ** (strike - 2)) if strike > 1 else 0.0
        assert longest_s / 2 - 1e-6 <= pause_s <= longest_s + 1e-6
        assert sender.may_send(now_s + 0.1) == (strike == 1)
        now_s = sender.not_before_s
    assert keys <= 27


def test_a_loss_after_calm_is_a_first_one_again():
    """A server that is restarted once a day loses no time to what happened before."""
    sender = FRESH
    for _ in range(3):
        sender = _sent(sender, 0.0).lost(sender.newest + 1, 1.0, 0.5)
    assert not sender.may_send(1.0)
    sender = _sent(sender, 100.0)
    later = sender.lost(sender.newest, 100.0 + CALM_S, 0.5)
    assert later.may_send(100.0 + CALM_S)


@given(DRAWS)
def test_after_a_refusal_there_is_no_stream_for_about_a_minute(draw):
    """Then a key says why it is one. More refusals of the same chain change nothing."""
    refused = _sent(_sent(FRESH)).refused(2, 10.0, draw)
    assert 0.7 * REFUSED_S < refused.not_before_s - 10.0 < 1.3 * REFUSED_S
    assert refused.refused(1, 12.0, draw) == refused
    assert refused.key_cause() is KeyCause.REFUSED


def test_a_server_that_refuses_again_and_again_is_asked_ever_more_seldom():
    """Each key that it is asked with is paid for; an answer makes it a server like others again."""
    sender, now_s, pauses_s = FRESH, 0.0, []
    for _ in range(8):
        sender = _sent(sender, now_s)
        sender = sender.refused(sender.newest, now_s, 0.5)
        pauses_s.append(sender.not_before_s - now_s)
        now_s = sender.not_before_s
    assert pauses_s == [REFUSED_S * 2**n for n in range(6)] + [REFUSED_MOST_S] * 2
    sender = _sent(sender, now_s)
    sender = _sent(sender.acknowledged(sender.newest), now_s)
    assert sender.refused(sender.newest, now_s, 0.5).not_before_s == now_s + REFUSED_S


def test_a_codec_that_failed_is_left_alone_for_about_a_minute():
    """Then it gets a key."""
    failed = _sent(FRESH).acknowledged(1).failed(5.0, 0.5)
    assert not failed.may_send(5.0 + 0.7 * REFUSED_S)
    assert failed.key_cause() is KeyCause.FAILED


def test_another_size_asks_for_a_key_and_ends_no_pause():
    """What the key is due for stays what it was."""
    assert _sent(FRESH).changed(KeyCause.CHANGED).key_cause() is KeyCause.CHANGED
    refused = _sent(FRESH).refused(1, 10.0, 0.5)
    assert refused.changed(KeyCause.CHANGED) == refused


class _Server:
    """Has what it decoded in a short ring, and notices a gap; a restart takes it all away."""

    def __init__(self) -> None:
        self.ring: deque[int] = deque(maxlen=8)

    def takes(self, first: int, number: int, *, is_key: bool) -> str:
        """`ok` or `lost`. A payload holds what came from `first` on, as video does."""
        if number in self.ring:
            return "ok"
        if is_key and (not self.ring or first > self.ring[-1]):
            self.ring.clear()
            self.ring.append(first)
        newest = self.ring[-1] if self.ring else 0
        if not self.ring or number < newest or first > newest + 1:
            return "lost"
        self.ring.extend(range(newest + 1, number + 1))
        return "ok"


class StreamMachine(RuleBasedStateMachine):
    """Calls are lost, late, repeated and reordered, answers too, and the server is restarted at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.server = FRESH, _Server()
        self.now_s = 0.0
        self.calls: list[tuple[int, int, int]] = []
        """First packet, number and key's number of those under way."""
        self.answers: list[tuple[int, str]] = []
        self.truth: set[int] = set()
        """Numbers of the present chain to which the server has answered."""

    @initialize()
    def begin(self) -> None:
        """The first frame."""
        self.send()

    @rule()
    def send(self) -> None:
        """A frame is encoded, unless the stream pauses."""
        if not self.sender.may_send(self.now_s):
            return
        before, cause = self.sender, self.sender.key_cause()
        self.sender = _sent(before, self.now_s)
        assert self.sender.newest == before.newest + 1
        if cause is not None:
            self.truth.clear()
            assert self.sender.reference == 0
            assert self.sender.key == self.sender.newest
        first = (self.sender.reference or self.sender.key - 1) + 1
        assert self.sender.newest - first < BOUNDS.most_payloads
        self.calls.append((first, self.sender.newest, self.sender.key))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), repeats=st.booleans())
    def arrive(self, data, repeats) -> None:
        """Any call under way arrives; one that is repeated stays under way."""
        index = data.draw(st.integers(0, len(self.calls) - 1))
        first, number, key = self.calls[index] if repeats else self.calls.pop(index)
        outcome = self.server.takes(first, number, is_key=first == key)
        self.answers.append((number, outcome))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def lose_call(self, data) -> None:
        """It never arrives."""
        self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), draw=DRAWS)
    def hear(self, data, draw) -> None:
        """Any answer comes back."""
        number, outcome = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if outcome == "ok":
            if 0 < self.sender.key <= number:
                self.truth.add(number)
            self.sender = self.sender.acknowledged(number)
        else:
            self.sender = self.sender.lost(number, self.now_s, draw)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def lose_answer(self, data) -> None:
        """It is never heard."""
        self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))

    @rule()
    def restart(self) -> None:
        """The server forgets everything."""
        self.server = _Server()

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds) -> None:
        """Time passes."""
        self.now_s += seconds

    @invariant()
    def the_reference_was_acknowledged_in_this_chain(self) -> None:
        """By an answer to a payload of the same chain, and by nothing else."""
        assert self.sender.reference == 0 or self.sender.reference in self.truth
        assert self.sender.reference <= self.sender.newest

    @invariant()
    def it_recovers(self) -> None:
        """On a link that loses nothing a frame is answered after at most one loss and one pause."""
        sender, server, now_s = self.sender, _Server(), self.now_s
        server.ring.extend(self.server.ring)
        for _ in range(3):
            now_s = max(now_s, sender.not_before_s)
            sender = _sent(sender, now_s)
            first = (sender.reference or sender.key - 1) + 1
            if server.takes(first, sender.newest, is_key=first == sender.key) == "ok":
                return
            sender = sender.lost(sender.newest, now_s, 0.5)
        raise AssertionError(sender)


TestStreams = StreamMachine.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
