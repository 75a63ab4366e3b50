"""The edge's streams against the server's, with any losses, delays, repeats and orders of calls between them.

No network: a call is a value on a list. Two daemons of one device send, two servers stand behind one address.
Pictures are tiny, the codec is the real one.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from spillover.common.errors import InvalidInputError, ReferenceLostError, StreamRefusedError
from spillover.common.types import Image
from spillover.edge.payload.types import EncodedFeatures
from tests.support.splitting import residual_classifier, split_classifier
from tests.support.stream_ends import (
    CAMERA,
    FORGERIES,
    Edge,
    FeatureForm,
    Form,
    Opened,
    Payload,
    Seen,
    Server,
    VideoForm,
    scene,
)

DAEMONS, SERVERS = 2, 2
CUT = "sum"
MOST_UNDER_WAY = 12
LONGEST_PAUSE_S = 130.0
"""Longer than any pause of an edge, and than what a server calls idle."""
MOST_UNTIL_ANSWERED = 3
"""Payloads after the last loss until one is answered.

The first may still name what is lost. Where somebody got ahead of the stream, the key after it is lost too,
and the one after a pause begins another stream.
"""
AFTERWARDS = 3
MOST_FRAMES_LOST = 35
"""In a row: more than an edge may keep."""
NUMBERS = st.integers(0, 10_000)
FATES = st.lists(
    st.sampled_from(["answered", "answered", "answered", "lost", "reply lost", "reply late", "late"]),
    min_size=2,
    max_size=8,
)


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A payload on its way, and the picture that its sender has of it."""

    edge: Edge
    image: Image
    payload: Payload
    meant: Seen
    is_again: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """An answer on its way back; `error` is None: it was answered."""

    sent: Sent
    error: ReferenceLostError | StreamRefusedError | None


class Streams(RuleBasedStateMachine):
    """Everything that may happen between the two ends."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.now_s = 0.0
        self.oracle = form.oracle()
        self.edges = [form.edge(self.clock, seed) for seed in range(DAEMONS)]
        self.servers = [Server(form, self.clock) for _ in range(SERVERS)]
        self.under_way: list[Sent] = []
        self.opened: list[tuple[Sent, Server, Opened]] = []
        self.replies: list[Reply] = []
        self.pictures = 0

    def clock(self) -> float:
        """Both sides have the same."""
        return self.now_s

    @precondition(lambda self: len(self.under_way) < MOST_UNDER_WAY)
    @rule(edge=st.integers(0, DAEMONS - 1))
    def send(self, edge: int) -> None:
        """A daemon's next frame leaves, if it may leave in a stream."""
        self._send(self.edges[edge])

    @precondition(lambda self: len(self.under_way) < MOST_UNDER_WAY)
    @rule(edge=st.integers(0, DAEMONS - 1), server=st.integers(0, SERVERS - 1), fates=FATES)
    def stretch(self, edge: int, server: int, fates: list[str]) -> None:
        """Frames in a row to one server, of which some are lost, or their answers are, or they are late."""
        for fate in fates:
            if (sent := self._send(self.edges[edge])) is None or fate == "late":
                continue
            self.under_way.remove(sent)
            if fate == "lost":
                continue
            self._serve(sent, self.servers[server])
            if fate != "reply late":
                reply = self.replies.pop()
                if fate == "answered":
                    self._learn(reply)

    @rule(edge=st.integers(0, DAEMONS - 1))
    def silence(self, edge: int) -> None:
        """So many frames in a row are lost that the edge must not keep them all."""
        for _ in range(MOST_FRAMES_LOST):
            if sent := self._send(self.edges[edge]):
                self.under_way.remove(sent)

    @precondition(lambda self: self.under_way)
    @rule(which=NUMBERS, server=st.integers(0, SERVERS - 1))
    def arrive(self, which: int, server: int) -> None:
        """Any call reaches either server, which decodes it at once."""
        sent = self.under_way.pop(which % len(self.under_way))
        self._serve(sent, self.servers[server])

    @precondition(lambda self: self.under_way)
    @rule(which=NUMBERS, server=st.integers(0, SERVERS - 1))
    def repeat(self, which: int, server: int) -> None:
        """A copy of a call reaches either server; another is still on its way."""
        self._serve(self.under_way[which % len(self.under_way)], self.servers[server])

    @precondition(lambda self: self.under_way)
    @rule(which=NUMBERS, server=st.integers(0, SERVERS - 1))
    def open(self, which: int, server: int) -> None:
        """A server takes a call and decodes it later: other calls come between."""
        sent = self.under_way.pop(which % len(self.under_way))
        try:
            opened = self.servers[server].opened(sent.payload)
        except (ReferenceLostError, StreamRefusedError) as error:
            self.replies.append(Reply(sent, error))
        else:
            self.opened.append((sent, self.servers[server], opened))

    @precondition(lambda self: self.opened)
    @rule(which=NUMBERS)
    def decode(self, which: int) -> None:
        """A call that a server has taken is decoded."""
        sent, _, opened = self.opened.pop(which % len(self.opened))
        self._decode(sent, opened)

    @precondition(lambda self: self.under_way)
    @rule(which=NUMBERS)
    def lose_call(self, which: int) -> None:
        """No server hears of it, and the edge of no answer."""
        self.under_way.pop(which % len(self.under_way))

    @precondition(lambda self: self.replies)
    @rule(which=NUMBERS)
    def lose_reply(self, which: int) -> None:
        """The server has answered, and the edge does not learn it."""
        self.replies.pop(which % len(self.replies))

    @precondition(lambda self: self.replies)
    @rule(which=NUMBERS)
    def reply(self, which: int) -> None:
        """Any answer comes back."""
        self._learn(self.replies.pop(which % len(self.replies)))

    @rule(server=st.integers(0, SERVERS - 1))
    def restart_server(self, server: int) -> None:
        """It has nothing any more, and what it was about to answer is lost."""
        old = self.servers[server]
        for _, _, opened in [one for one in self.opened if one[1] is old]:
            opened.close()
        self.opened = [one for one in self.opened if one[1] is not old]
        self.servers[server] = Server(self.form, self.clock)

    @rule(edge=st.integers(0, DAEMONS - 1))
    def restart_edge(self, edge: int) -> None:
        """Its calls that are under way arrive all the same, and their answers go nowhere."""
        self.edges[edge] = self.form.edge(self.clock, 100 + self.pictures)

    @rule(seconds=st.sampled_from([0.05, 1.0, 6.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Time passes: streams become idle, pauses end."""
        self.now_s += seconds

    @rule(server=st.integers(0, SERVERS - 1))
    def crowd(self, server: int) -> None:
        """Another device begins streams until the server takes no more."""
        self.servers[server].crowd()

    @precondition(lambda self: self.under_way)
    @rule(which=NUMBERS, how=st.sampled_from(FORGERIES), at=NUMBERS)
    def forge(self, which: int, how: str, at: int) -> None:
        """Somebody sends a copy with something changed: it is refused, or has the picture that it says."""
        sent = self.under_way[which % len(self.under_way)]
        self._serve_forged(self.form.forged(sent.payload, how, at), self.servers[at % SERVERS])

    @invariant()
    def memory_is_bounded(self) -> None:
        """On both sides."""
        for server in self.servers:
            assert server.used_bytes <= server.limit_bytes
        for edge in self.edges:
            assert edge.kept_bytes <= edge.limit_bytes

    def teardown(self) -> None:
        """Losses end: each camera is answered soon, and then by pictures against the ones before."""
        for sent, _, opened in self.opened:
            self._decode(sent, opened)
        self.opened.clear()
        for edge in self.edges:
            self._settles(edge)

    def _settles(self, edge: Edge) -> None:
        [server] = self.servers[:1]
        self.now_s += LONGEST_PAUSE_S
        for _ in range(MOST_UNTIL_ANSWERED):
            if edge.streams.outlook(CAMERA) is None:
                self.now_s += LONGEST_PAUSE_S
            if self._is_answered(edge, server) is not None:
                break
        else:
            raise AssertionError("no payload is answered")
        keys = sum(edge.keys.values())
        for _ in range(AFTERWARDS):
            payload = self._is_answered(edge, server)
            assert payload is not None, "a payload is lost though nothing is"
            assert _packets(payload) == 1
            assert sum(edge.keys.values()) == keys, "a key though nothing is lost"

    def _is_answered(self, edge: Edge, server: Server) -> Payload | None:
        sent = self._send(edge)
        assert sent is not None, "the edge sends nothing in a stream though its pause is over"
        self.under_way.remove(sent)
        self._serve(sent, server)
        reply = self.replies.pop()
        self._learn(replace(reply, sent=replace(sent, is_again=True)))
        return None if reply.error else sent.payload

    def _send(self, edge: Edge, image: Image | None = None, *, again: bool = False) -> Sent | None:
        if image is None:
            self.pictures += 1
            image = scene(self.pictures)
        payload = edge.encode(image)
        if payload is None:
            return None
        assert _packets(payload) <= self.form.most_packets
        sent = Sent(edge, image, payload, self.oracle.meant(image, payload), again)
        self.under_way.append(sent)
        return sent

    def _serve(self, sent: Sent, server: Server) -> None:
        try:
            opened = server.opened(sent.payload)
        except (ReferenceLostError, StreamRefusedError) as error:
            self.replies.append(Reply(sent, error))
        else:
            self._decode(sent, opened)

    def _decode(self, sent: Sent, opened: Opened) -> None:
        try:
            picture = opened.decoded()
        except ReferenceLostError as error:
            self.replies.append(Reply(sent, error))
        else:
            assert np.array_equal(picture, sent.meant), "an answer to a wrong picture"
            self.replies.append(Reply(sent, None))

    def _serve_forged(self, payload: Payload, server: Server) -> None:
        try:
            picture = server.opened(payload).decoded()
        except (ReferenceLostError, StreamRefusedError, InvalidInputError):
            return
        assert payload.position is not None
        assert np.array_equal(picture, self.oracle.by_digest[payload.position.digest])

    def _learn(self, reply: Reply) -> None:
        """As the uplink does: after a loss the same frame is encoded once more."""
        sent, streams = reply.sent, reply.sent.edge.streams
        if reply.error is None:
            streams.acknowledged(sent.payload)
            return
        if isinstance(reply.error, ReferenceLostError):
            streams.lost(sent.payload)
        else:
            streams.refused(sent.payload)
        if not sent.is_again and len(self.under_way) < MOST_UNDER_WAY:
            self._send(sent.edge, sent.image, again=True)


def _packets(payload: Payload) -> int:
    """How many frames a payload brings."""
    return 1 if isinstance(payload, EncodedFeatures) else len(payload.packets)


SETTINGS = settings(
    max_examples=20,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_video_is_never_answered_wrongly() -> None:
    """Whatever becomes of the calls: the right picture or none; video comes back; memory is bounded."""
    run_state_machine_as_test(partial(Streams, VideoForm()), settings=SETTINGS)


def test_features_are_never_answered_wrongly(tmp_path: Path) -> None:
    """The same of symbols."""
    folder = residual_classifier(tmp_path)
    split_classifier(folder)
    run_state_machine_as_test(partial(Streams, FeatureForm(folder, CUT)), settings=SETTINGS)


def test_a_stream_of_which_somebody_got_ahead_goes_on_under_another_name() -> None:
    """Whatever the edge sends under the old one has passed, keys too."""
    streams = Streams(VideoForm())
    streams.send(0)
    for at in (2, 5):
        streams.forge(0, "number", at)
    streams.teardown()
