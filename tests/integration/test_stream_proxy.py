"""The proxy that breaks calls does to them what it says, and counts it."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.faulty_calls import FaultyCalls, Troubles
from tests.support.scripted_cloud import (
    PATIENCE_S,
    Behaviour,
    ScriptedCloud,
    answers,
    refuses,
    scripted_cloud,
)
from tests.support.serving import eventually, request_for


@contextmanager
def broken(
    troubles: Troubles, behaviour: Behaviour = answers
) -> Iterator[tuple[FaultyCalls, ScriptedCloud, pb_grpc.SpilloverStub]]:
    """A cloud, the proxy before it, and a client of the proxy."""
    with ExitStack() as stack:
        cloud = stack.enter_context(scripted_cloud(behaviour))
        calls = stack.enter_context(FaultyCalls(cloud.address, seed=1))
        calls.set(troubles)
        channel = stack.enter_context(grpc.insecure_channel(calls.address))
        yield calls, cloud, pb_grpc.SpilloverStub(channel)


def call(stub: pb_grpc.SpilloverStub, frame_id: str = "f", timeout_s: float = PATIENCE_S) -> str:
    """How one call ends."""
    request = request_for(b"jpeg")
    request.frame_id = frame_id
    try:
        reply = stub.Infer(request, timeout=timeout_s, metadata=(("spillover-device", "dev"),))
    except grpc.RpcError as error:
        return error.code().name
    return reply.frame_id


@pytest.mark.parametrize(
    ("kind", "status", "heard"),
    [
        ("request_lost", "UNAVAILABLE", 0),
        ("reply_lost", "UNAVAILABLE", 1),
        ("repeated", "f", 2),
        ("delayed", "f", 1),
        ("cut", "UNAVAILABLE", 1),
    ],
)
def test_each_trouble_is_what_it_says(kind: str, status: str, heard: int) -> None:
    """What the caller sees of it, and how often the server hears the call."""
    with broken(Troubles(**{kind: 1.0})) as (calls, cloud, stub):
        assert call(stub) == status
        assert eventually(lambda: len(cloud.requests) == heard)
        assert calls.counts == {kind: 1}


def test_a_lost_call_may_end_at_its_deadline_alone() -> None:
    """As on a link that swallows it."""
    with broken(Troubles(reply_lost=1.0, lost_as=None)) as (_, cloud, stub):
        assert call(stub, timeout_s=0.2) == "DEADLINE_EXCEEDED"
        assert len(cloud.requests) == 1


def test_a_reordered_call_arrives_after_later_ones() -> None:
    """The server hears the second call before the first."""
    with broken(Troubles(reordered=1.0)) as (calls, cloud, stub):
        first = threading.Thread(target=call, args=(stub, "first"))
        first.start()
        assert eventually(lambda: calls.counts["reordered"] == 1)
        calls.set(Troubles())
        while first.is_alive():
            assert call(stub, "later") == "later"
        assert "first" in [request.frame_id for request in cloud.requests[1:]]


def test_what_the_server_says_comes_through() -> None:
    """Status, text and hints of the one side, identity and deadline of the other."""
    seen: list[tuple[bool, bool]] = []

    def behave(request: pb.InferRequest, context: grpc.ServicerContext) -> pb.InferReply:
        metadata = dict(context.invocation_metadata())
        seen.append((metadata["spillover-device"] == "dev", context.time_remaining() < 2 * PATIENCE_S))
        hint = (("grpc-retry-pushback-ms", "7"),)
        return refuses(grpc.StatusCode.FAILED_PRECONDITION, "reference: gone", hint)(request, context)

    with broken(Troubles(), behave) as (_, _, stub), pytest.raises(grpc.RpcError) as raised:
        stub.Infer(request_for(b"j"), timeout=PATIENCE_S, metadata=(("spillover-device", "dev"),))
    assert (raised.value.code(), raised.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "reference: gone",
    )
    assert ("grpc-retry-pushback-ms", "7") in list(raised.value.trailing_metadata())
    assert seen == [(True, True)]


def test_calls_go_to_any_of_the_servers() -> None:
    """As behind a balancer, and to others once it is told."""
    with scripted_cloud() as one, scripted_cloud() as two, scripted_cloud() as third:
        with FaultyCalls(one.address, two.address) as calls, grpc.insecure_channel(calls.address) as channel:
            stub = pb_grpc.SpilloverStub(channel)
            assert [call(stub) for _ in range(40)] == ["f"] * 40
            calls.lead_to(third.address)
            assert call(stub) == "f"
        assert len(one.requests) + len(two.requests) == 40
        assert min(len(one.requests), len(two.requests)) > 5
        assert len(third.requests) == 1
