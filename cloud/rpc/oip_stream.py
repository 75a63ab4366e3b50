"""ModelStreamInfer: requests of one stream run side by side, their answers leave in order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from spillover.cloud.rpc.receiving import Incoming
from spillover.common.errors import SpilloverError, UnavailableError
from spillover.common.wire.pb import open_inference_pb2 as pb

FINAL = "triton_final_response"

Infer = Callable[[Incoming], Awaitable[pb.ModelInferResponse]]


async def answer_stream(
    requests: AsyncIterator[Incoming], infer: Infer, max_in_flight: int, draining: asyncio.Event
) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
    """Yield one response for each request; one that fails is answered with its error text.

    At most `max_in_flight` run; then the stream is read no further, and gRPC's flow control holds the sender.

    Raises:
        MalformedError: a message is none; those before it are answered first.
        UnavailableError: `draining` was set; what had been read by then is answered.
    """
    places = asyncio.Semaphore(max_in_flight)
    running: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue()

    async def read() -> None:
        try:
            await places.acquire()
            async for request in requests:
                running.put_nowait(asyncio.create_task(_answer_one(request, infer)))
                await places.acquire()
        finally:
            running.put_nowait(None)

    async def stop_reading() -> None:
        await draining.wait()
        reader.cancel()

    reader = asyncio.create_task(read())
    stopper = asyncio.create_task(stop_reading())
    try:
        while (task := await running.get()) is not None:
            yield await task
            places.release()
        if draining.is_set() and reader.cancelled():
            raise UnavailableError("the server is stopping")
        await reader
    finally:
        stopper.cancel()
        reader.cancel()
        while not running.empty():
            if (left := running.get_nowait()) is not None:
                left.cancel()


async def _answer_one(incoming: Incoming, infer: Infer) -> pb.ModelStreamInferResponse:
    try:
        response = await infer(incoming)
    except SpilloverError as error:
        request = incoming.request or pb.ModelInferRequest()  # none where its bytes were not looked at
        failed = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        return pb.ModelStreamInferResponse(error_message=str(error), infer_response=failed)
    # Every request has exactly one response here, so each is its request's last. Clients that ask for an
    # empty final response (`triton_enable_empty_final_response`) look for this mark.
    response.parameters[FINAL].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=response)
