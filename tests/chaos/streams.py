"""What is done to calls that carry streams: lost, repeated, out of order, or at a server that has nothing.

An edge begins anew with payload `video`, so that its stream is seen from the first key on. While the fault
lasts, and after it, no answer may be to a wrong picture; after it, video is answered again.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from tests.chaos.field import WAIT_LIMIT_S, Field
from tests.support.faulty_calls import NO_TROUBLES, FaultyCalls, Troubles
from tests.support.stream_watch import AnswerCheck

_ANSWERS = 12
"""Rightly answered payloads of streams that each part of a fault waits for."""
_FEW = 3
"""The same of a part in which servers lose what they were given: the edge pauses longer and longer."""
_POLL_S = 0.05


def calls_lost(field: Field, rng: random.Random) -> None:
    """A third of the calls, or of their answers, is lost; the edge hears of it at once or never."""
    lost_as = rng.choice([grpc.StatusCode.UNAVAILABLE, None])
    troubles = Troubles(request_lost=0.15, reply_lost=0.15, lost_as=lost_as)
    with _streaming(field, rng) as (calls, check):
        _suffer(calls, check, troubles, "request_lost", "reply_lost")


def calls_repeated(field: Field, rng: random.Random) -> None:
    """Half of the calls reach the server twice, the second time at once or after later ones."""
    with _streaming(field, rng) as (calls, check):
        _suffer(calls, check, Troubles(repeated=0.5), "repeated")


def calls_reordered(field: Field, rng: random.Random) -> None:
    """Calls overtake each other, and now and then all connections are cut."""
    troubles = Troubles(reordered=0.3, delayed=0.3, cut=0.03)
    with _streaming(field, rng) as (calls, check):
        _suffer(calls, check, troubles, "reordered", "delayed")


def stream_server_killed(field: Field, rng: random.Random) -> None:
    """Kill -9 of the server with a stream under way, twice; another comes back that knows nothing of it."""
    with _streaming(field, rng) as (calls, check):
        calls.set(Troubles(reordered=0.2))
        for _ in range(2):
            field.kill_cloud()
            field.start_cloud()
            _wait_for_answers(check, _FEW)


def two_stream_servers(field: Field, rng: random.Random) -> None:
    """A second server comes behind the address, with streams of its own; then the first one goes."""
    with field.second_cloud() as other, _streaming(field, rng) as (calls, check):
        calls.lead_to(field.cloud_address, other)
        _wait_for_answers(check, _FEW)
        calls.lead_to(other)
        _wait_for_answers(check, _FEW)
        calls.lead_to(field.cloud_address)
        _wait_for_answers(check, _FEW)


@contextmanager
def _streaming(field: Field, rng: random.Random) -> Iterator[tuple[FaultyCalls, AnswerCheck]]:
    """An edge with payload `video`, whose calls a proxy has in hand, and who judges their answers."""
    check = AnswerCheck(field.cloud_model)
    with FaultyCalls(field.cloud_address, seed=rng.randrange(1 << 30), watch=check) as calls:
        field.kill_edge()
        field.link.lead_to(calls.address)
        field.start_edge(uplink={"payload": "video"})
        _wait_for_answers(check, _FEW)
        yield calls, check
        calls.set(NO_TROUBLES)
        _wait_for_answers(check, _FEW)
        field.kill_edge()
        field.link.lead_to(field.cloud_address)
    assert not check.wrong(), check.counts
    field.start_edge()


def _suffer(calls: FaultyCalls, check: AnswerCheck, troubles: Troubles, *kinds: str) -> None:
    """Let the troubles last until each kind has befallen a call, and further calls are answered."""
    calls.set(troubles)
    _wait_for_answers(check, _ANSWERS)
    _wait(lambda: all(calls.counts[kind] for kind in kinds), lambda: f"calls: {calls.counts}")


def _wait_for_answers(check: AnswerCheck, count: int) -> None:
    goal = check.answered() + count
    _wait(lambda: check.answered() >= goal or check.wrong(), lambda: f"answers: {check.counts}")


def _wait(until: Callable[[], bool], tell: Callable[[], str]) -> None:
    limit_s = time.monotonic() + WAIT_LIMIT_S
    while not until():
        assert time.monotonic() < limit_s, tell()
        time.sleep(_POLL_S)
