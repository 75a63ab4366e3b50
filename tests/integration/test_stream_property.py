"""The edge's streams against the server's, with any losses, delays, repeats and orders of calls between them.

No network: a call is a value on a list. Two daemons of one device send, two servers stand behind one address.
Pictures are tiny, the codec is the real one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spillover.common.errors import InvalidInputError, ReferenceLostError, StreamRefusedError
from spillover.common.types import Image
from spillover.common.video.h264 import Decoder
from spillover.common.video.planes import digest_of_planes, picture_of, planes_of
from spillover.edge.payload.types import EncodedVideo
from tests.attack.h264 import SIDE
from tests.support.stream_ends import CAMERA, Edge, Opened, Server

DAEMONS, SERVERS = 2, 2
MOST_UNDER_WAY = 12
LONGEST_PAUSE_S = 130.0
"""Longer than any pause of an edge, and than what a server calls idle."""
MOST_UNTIL_ANSWERED = 2
"""Payloads after the last loss until one is answered: the first may still name what is lost."""
AFTERWARDS = 3
LIKENESS = 8
"""Mean difference between a picture's planes and what H.264 makes of them, at most."""
NUMBERS = st.integers(0, 10_000)
FATES = st.lists(
    st.sampled_from(["answered", "answered", "answered", "lost", "reply lost", "reply late", "late"]),
    min_size=2,
    max_size=8,
)
FORGERIES = ("digest", "reference", "number", "shift", "cut", "noise", "stream")


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A payload on its way, and the picture that its sender has of it."""

    edge: Edge
    image: Image
    payload: EncodedVideo
    meant: Image
    is_again: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """An answer on its way back; `error` is None: it was answered."""

    sent: Sent
    error: ReferenceLostError | StreamRefusedError | None


class Oracle:
    """What each stream's sender must have, by decoding all of its packets in order."""

    def __init__(self) -> None:
        self._decoders: dict[bytes, Decoder] = {}
        self.by_digest: dict[int, Image] = {}

    def meant(self, image: Image, payload: EncodedVideo) -> Image:
        """What is decoded of a new payload, which shows what the camera has seen."""
        stream_id = payload.position.stream_id
        decoder = self._decoders.setdefault(stream_id, Decoder(payload.width, payload.height))
        planes = decoder.decode(payload.packets[-1])
        assert digest_of_planes(planes) == payload.position.digest, "the edge says what it does not have"
        difference = np.abs(planes.astype(int) - planes_of(image)).mean()
        assert difference < LIKENESS, f"what is sent is not what the camera has seen: {difference}"
        return self.by_digest.setdefault(payload.position.digest, picture_of(planes))


def scene(number: int) -> Image:
    """Picture `number`: noise, of which H.264 makes large packets; no two are alike."""
    rng = np.random.default_rng(number)
    return cv2.resize(rng.integers(0, 255, (SIDE // 2, SIDE // 2, 3), np.uint8), (SIDE, SIDE))


class Streams(RuleBasedStateMachine):
    """Everything that may happen between the two ends."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.oracle = Oracle()
        self.edges = [Edge(self.clock, seed) for seed in range(DAEMONS)]
        self.servers = [Server(self.clock) for _ in range(SERVERS)]
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
        for _ in range(Edge.most_packets + 3):
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
        self.servers[server] = Server(self.clock)

    @rule(edge=st.integers(0, DAEMONS - 1))
    def restart_edge(self, edge: int) -> None:
        """Its calls that are under way arrive all the same, and their answers go nowhere."""
        self.edges[edge] = Edge(self.clock, 100 + self.pictures)

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
        self._serve_forged(_forged(sent.payload, how, at), self.servers[at % SERVERS])

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
            if self._is_answered(edge, server) is not None:
                break
        else:
            raise AssertionError("no payload is answered")
        for _ in range(AFTERWARDS):
            payload = self._is_answered(edge, server)
            assert payload is not None, "a payload is lost though nothing is"
            assert not payload.position.is_key, "a key though nothing is lost"
            assert len(payload.packets) == 1

    def _is_answered(self, edge: Edge, server: Server) -> EncodedVideo | None:
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
        payload = edge.streams.encode(CAMERA, image)
        if payload is None:
            return None
        assert len(payload.packets) <= edge.most_packets
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

    def _serve_forged(self, payload: EncodedVideo, server: Server) -> None:
        try:
            picture = server.opened(payload).decoded()
        except (ReferenceLostError, StreamRefusedError, InvalidInputError):
            return
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


def _forged(payload: EncodedVideo, how: str, at: int) -> EncodedVideo:
    """A payload with something changed, which is still well-formed."""
    position, packets = payload.position, payload.packets
    which = at % len(packets)
    match how:
        case "digest":
            position = replace(position, digest=position.digest ^ (1 << at % 32))
        case "reference":
            reference = at % position.number
            position, packets = (
                replace(position, reference=reference),
                _filled(packets, position.number - reference),
            )
        case "number":
            # Not ahead of the sender: who can do that, as the sender itself, can only do without its stream.
            position = replace(position, number=max(len(packets), position.number - 1 - at % 3), reference=0)
        case "shift" if position.reference > 1:
            position = replace(position, number=position.number - 1, reference=position.reference - 1)
        case "cut":
            packets = _exchanged(packets, which, packets[which][: 1 + at % len(packets[which])])
        case "noise":
            hurt = bytearray(packets[which])
            hurt[at % len(hurt)] ^= 1 + at % 255
            packets = _exchanged(packets, which, bytes(hurt))
        case _:
            position = replace(position, stream_id=at.to_bytes(8, "big"))
    return replace(payload, position=position, packets=packets)


def _filled(packets: Sequence[bytes], count: int) -> tuple[bytes, ...]:
    """The last `count` packets, the first one repeated where there are fewer."""
    return (packets[0],) * (count - len(packets)) + tuple(packets[-count:])


def _exchanged(packets: Sequence[bytes], which: int, packet: bytes) -> tuple[bytes, ...]:
    return (*packets[:which], packet, *packets[which + 1 :])


TestStreams = Streams.TestCase
TestStreams.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
