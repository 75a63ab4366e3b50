"""ModelStreamInfer's order and bound."""

import asyncio

import pytest

from spillover.cloud.rpc.oip_stream import answer_stream
from spillover.cloud.rpc.receiving import Incoming
from spillover.cloud.serving.memory import Memory
from spillover.common.errors import InvalidInputError, UnavailableError
from spillover.common.wire.pb import open_inference_pb2 as pb

BOUND = 3


async def _requests(count: int):
    memory = Memory(1000, 100)
    for number in range(count):
        yield Incoming(pb.ModelInferRequest(id=str(number)), 1, memory.lease("", is_proven=False))


def test_a_stream_is_read_no_further_than_its_bound():
    """While the first request is not answered, as many as the bound run, and no more."""

    async def run() -> None:
        begun: list[str] = []
        go = asyncio.Event()

        async def infer(incoming: Incoming) -> pb.ModelInferResponse:
            begun.append(incoming.request.id)
            await go.wait()
            return pb.ModelInferResponse(id=incoming.request.id)

        answers = answer_stream(_requests(20), infer, BOUND, asyncio.Event())
        first = asyncio.ensure_future(anext(answers))
        for _ in range(100):  # let everything run that can
            await asyncio.sleep(0)
        assert len(begun) == BOUND
        go.set()
        ids = [(await first).infer_response.id] + [one.infer_response.id async for one in answers]
        assert ids == [str(number) for number in range(20)]

    asyncio.run(run())


def test_an_error_has_its_place_in_the_order():
    """One failed request is answered with its text, at its turn; those after it are answered too."""

    async def run() -> list[str]:
        async def infer(incoming: Incoming) -> pb.ModelInferResponse:
            if incoming.request.id == "1":
                raise InvalidInputError("no")
            return pb.ModelInferResponse(id=incoming.request.id)

        return [one.error_message async for one in answer_stream(_requests(3), infer, BOUND, asyncio.Event())]

    assert asyncio.run(run()) == ["", "no", ""]


@pytest.mark.parametrize("taken", [0, 1])
def test_a_stream_that_is_left_cancels_what_runs(taken):
    """When the caller goes, nothing of the stream runs on."""

    async def run() -> None:
        go = asyncio.Event()
        ended: list[str] = []

        async def infer(incoming: Incoming) -> pb.ModelInferResponse:
            try:
                if int(incoming.request.id) >= taken:
                    await go.wait()
            finally:
                ended.append(incoming.request.id)
            return pb.ModelInferResponse(id=incoming.request.id)

        answers = answer_stream(_requests(5), infer, BOUND, asyncio.Event())
        for _ in range(taken):
            await anext(answers)
        waiting = asyncio.ensure_future(anext(answers))
        for _ in range(100):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await answers.aclose()
        for _ in range(100):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_stream_that_is_drained_answers_what_it_has_read():
    """A server that stops reads no more of an open stream, answers what it has, and says why it ends."""

    async def run() -> None:
        draining = asyncio.Event()
        more = asyncio.Event()

        async def requests():
            async for request in _requests(2):
                yield request
            await more.wait()

        async def infer(incoming: Incoming) -> pb.ModelInferResponse:
            await draining.wait()
            return pb.ModelInferResponse(id=incoming.request.id)

        answers = answer_stream(requests(), infer, BOUND, draining)
        first = asyncio.ensure_future(anext(answers))
        for _ in range(100):  # until both requests are read
            await asyncio.sleep(0)
        draining.set()
        assert [(await first).infer_response.id, (await anext(answers)).infer_response.id] == ["0", "1"]
        with pytest.raises(UnavailableError):
            await anext(answers)

    asyncio.run(run())
