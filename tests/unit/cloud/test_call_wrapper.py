"""Answers that are held while a server stops."""

import asyncio

from google.protobuf.empty_pb2 import Empty

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.call import NOBODY
from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.connections.keeper import Connections
from spillover.cloud.rpc.gate import Gate
from spillover.cloud.rpc.methods import Method
from spillover.cloud.rpc.parsing import Parser
from spillover.cloud.rpc.receiving import Receiver
from spillover.cloud.rpc.writing import Writes
from spillover.cloud.serving.admission import RateLimiter
from spillover.cloud.serving.room import room_for
from spillover.cloud.serving.trimming import Trimmer
from spillover.cloud.serving.workers import Workers
from spillover.cloud.telemetry.metrics import Metrics


class _Context:
    """What the wrapper asks of a call that ends well."""

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, trailing: object) -> None:
        self.trailing = trailing


def test_held_answers_are_worked_on_and_leave_at_the_end():
    """While answers are held, a call is counted and worked on; its answer leaves when they are let go."""

    async def run() -> None:
        limits = LimitsConfig()
        room = room_for(limits, 0)
        workers = Workers("test", 1)
        parser = Parser(limits, workers)
        receiver = Receiver(room, parser, RateLimiter(limits), 1.0)
        gate = Gate(lambda *_: NOBODY, None)
        connections = Connections(limits, Metrics(), anybody=True)
        wrapper = CallWrapper(
            gate, receiver, room, Writes(60.0), Trimmer(workers), connections, lambda: 0.0, lambda _: None
        )
        worked = asyncio.Event()

        async def work(*_: object) -> Empty:
            worked.set()
            return Empty()

        wrapper.serve([Method("/a/B", "B", Empty, Empty, work, has_no_body=True)])
        call = wrapper._handlers["/a/B"].stream_unary
        with wrapper.holding_answers():
            answer = asyncio.ensure_future(call(None, _Context()))
            await worked.wait()
            for _ in range(100):  # let everything run that can
                await asyncio.sleep(0)
            assert not answer.done()
            assert wrapper.calls == 1
        assert await answer == b""

    asyncio.run(run())
