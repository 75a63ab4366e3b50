"""A clip as video through gRPC that loses, repeats and reorders calls: each answer is to its own picture."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest

from spillover.common.types import Classification, Frame, Image
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.config import PayloadKind, UplinkConfig, VideoConfig
from spillover.edge.payload.encoder import VIDEO, PayloadEncoder
from spillover.edge.payload.video import VideoStreams
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.client import GrpcUplink
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.faulty_calls import NO_TROUBLES, FaultyCalls, Troubles
from tests.support.models import colour_classifier
from tests.support.moving import Walker, World
from tests.support.scripted_cloud import PATIENCE_S
from tests.support.serving import cloud_config, serving
from tests.support.stream_watch import AnswerCheck
from tests.support.uplinks import RecordingReply, build_uplink, send
from tests.support.video import CountedStreams

pytestmark = pytest.mark.slow

FRAMES = 200
SIDE = 160
UNDER_WAY = 4
SCENE = World((Walker(20, 30, 1.5, 0.4), Walker(240, 90, -1.0, 0.8)), camera=(0.3, 0.1))


@dataclass(frozen=True, slots=True)
class Clip:
    """What became of a clip's frames, in their order."""

    check: AnswerCheck
    streams: CountedStreams
    answers: list[tuple[bytes, bytes]]
    """Requests and replies."""
    outcomes: list[CloudAnswer | CallFailure]
    troubles: Counter[str]

    @property
    def statuses(self) -> Counter[str]:
        """How frames ended."""
        return Counter(
            one.status.value if isinstance(one, CallFailure) else "answered" for one in self.outcomes
        )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network, which says how much there is of each colour."""
    folder = tmp_path_factory.mktemp("models")
    colour_classifier(folder)
    return folder


@contextmanager
def uplink_to(address: str, streams: CountedStreams) -> Iterator[GrpcUplink]:
    """An uplink that sends video, never pauses for failures, and has a few calls under way."""
    config = UplinkConfig(
        address=address,
        payload=PayloadKind.VIDEO,
        video=VideoConfig(longest_side=SIDE, crf=28),
        max_in_flight=UNDER_WAY,
        breaker_failures=1000,
    )
    encoder = PayloadEncoder(config, "boot", streams={VIDEO: VideoStreams(config, 1, streams)})
    uplink = build_uplink(config, expects=Classification, encoder=encoder)
    try:
        yield uplink
    finally:
        assert uplink.stop(time.monotonic() + PATIENCE_S)


def sent(repository: Path, troubles: Troubles, seed: int, servers: int = 1) -> Clip:
    """Send the clip while these troubles last, and see that each answer is the right one."""
    check, streams = AnswerCheck(repository / "colour" / "1"), CountedStreams()
    answers: list[tuple[bytes, bytes]] = []

    def watch(server: str, request: bytes, reply: bytes) -> None:
        answers.append((request, reply))
        check(server, request, reply)

    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(cloud_config(repository))).address for _ in range(servers)]
        calls = stack.enter_context(FaultyCalls(*addresses, seed=seed, watch=watch))
        calls.set(troubles)
        uplink = stack.enter_context(uplink_to(calls.address, streams))
        replies = [_shown(uplink, number) for number in range(FRAMES)]
        outcomes = [reply.outcome() for reply in replies]
        calls.set(NO_TROUBLES)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, CloudAnswer):
            assert isinstance(outcome.prediction, Classification)
            assert check.is_right(_frame_id(number), outcome.prediction), f"frame {number}"
    assert set(check.counts) <= {"right", "pictures"}, check.counts
    return Clip(check, streams, answers, outcomes, calls.counts)


def _shown(uplink: GrpcUplink, number: int) -> RecordingReply:
    assert uplink.wait_until_ready(PATIENCE_S)
    image = tinted(number)
    frame = Frame(image, _frame_id(number), number, "cam", time.monotonic(), time.time())
    return send(uplink, frame, PATIENCE_S)


def tinted(number: int) -> Image:
    """Picture `number` of the scene, in a light that changes from each picture to the next."""
    tint = np.array([29 * number % 90, 53 * number % 90, 71 * number % 90])
    return (SCENE.picture(number) * 0.6 + tint).astype(np.uint8)


def _frame_id(number: int) -> str:
    return f"cam-boot-{number}"


def _say(what: str, clip: Clip) -> None:
    click.echo(
        f"{what}: {clip.statuses['answered']} of {FRAMES} answered, {dict(clip.check.counts)}, "
        f"keys {dict(Counter(cause.value for cause in clip.streams.keys))}, calls {dict(clip.troubles)}"
    )


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_lost_calls_cost_no_right_answer(repository: Path, share: float) -> None:
    """Requests and replies alike; all other frames are answered, as video, and few keys are sent."""
    clip = sent(repository, Troubles(request_lost=share / 2, reply_lost=share / 2), seed=round(1000 * share))
    _say(f"{share:.0%} lost", clip)
    lost = clip.troubles["request_lost"] + clip.troubles["reply_lost"]
    assert clip.statuses["answered"] >= FRAMES - lost
    assert set(clip.statuses) <= {"answered", CallStatus.UNAVAILABLE.value}
    assert clip.check.counts["pictures"] == 0
    assert len(clip.streams.keys) <= 1 + lost


def test_the_check_sees_a_wrong_answer(repository: Path) -> None:
    """None is lost or wrong where no call is; each reply to the frame before it would be."""
    clip = sent(repository, NO_TROUBLES, seed=0)
    assert clip.check.counts == {"right": FRAMES}
    assert [cause.value for cause in clip.streams.keys] == ["first"]
    swapped = AnswerCheck(repository / "colour" / "1")
    in_order = sorted(clip.answers, key=lambda one: pb.InferRequest.FromString(one[0]).sequence)
    for (_, reply), (request, _) in itertools.pairwise([in_order[-1], *in_order]):
        swapped("server", request, reply)
    assert swapped.counts == {"wrong": FRAMES}


def test_repeated_and_reordered_calls_are_answered_rightly(repository: Path) -> None:
    """A third of the calls comes twice, a third after later ones, some are cut off."""
    troubles = Troubles(repeated=0.3, reordered=0.3, delayed=0.2, cut=0.02)
    clip = sent(repository, troubles, seed=3)
    _say("repeated, reordered, delayed, cut", clip)
    assert clip.statuses["answered"] >= FRAMES // 2
    assert min(clip.troubles[kind] for kind in ("repeated", "reordered", "delayed")) > 0


def test_two_servers_behind_one_address_give_no_wrong_answer(repository: Path) -> None:
    """Each call goes to either, so each server misses half of a stream."""
    clip = sent(repository, Troubles(reordered=0.1), seed=4, servers=2)
    _say("two servers", clip)
    assert clip.statuses["answered"] >= FRAMES // 2
    assert clip.check.counts["right"] > 0
