"""Answers that are held while a server stops."""

import asyncio

import pytest

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.call_wrapper import CallWrapper, nobody_proven
from spillover.cloud.rpc.connections.keeper import Connections
from spillover.cloud.serving.admission import Call
from spillover.cloud.telemetry.metrics import Metrics


class _Context:
    """What the boundary asks of a call that ends well."""

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def set_trailing_metadata(self, trailing: object) -> None:
        self.trailing = trailing


@pytest.fixture
def wrapper():
    """A boundary where nobody proves anything."""
    metrics = Metrics()
    connections = Connections(LimitsConfig(), metrics, anybody=True)
    return CallWrapper(metrics, lambda: 0.0, nobody_proven, connections)


def test_held_answers_are_worked_on_and_leave_at_the_end(wrapper):
    """While answers are held, a call is counted and worked on; its answer leaves when they are let go."""

    async def run() -> None:
        worked = asyncio.Event()

        async def work(_: Call) -> str:
            worked.set()
            return "done"

        with wrapper.holding_answers():
            answer = asyncio.ensure_future(wrapper.handle(_Context(), "Infer", work))
            await worked.wait()
            for _ in range(100):  # let everything run that can
                await asyncio.sleep(0)
            assert not answer.done()
            assert wrapper.calls == 1
        assert await answer == "done"

    asyncio.run(run())
