"""The table of loaded models under changes that come at the same time, and its stop."""

import asyncio
import threading
import time

import msgspec
import pytest

from spillover.cloud.config import CloudConfig
from spillover.cloud.models.repository import Repository
from spillover.cloud.security.audit import NOBODY
from spillover.cloud.serving.readiness import Readiness
from spillover.cloud.serving.registry import Registry
from spillover.cloud.serving.workers import Workers
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import ModelError, NotFoundError, UnavailableError
from tests.support.executors import Serving, ToyExecutor, named_repository

A_MINUTE_S = 60.0


def _config(*load: str) -> CloudConfig:
    return msgspec.convert({"models": {"load": load}}, CloudConfig)


def _registry(root, open_model) -> Registry:
    return Registry(Repository(root), _config(), Metrics(), Workers("models", 4), Readiness(), open_model)


def _soon() -> float:
    return time.monotonic() + A_MINUTE_S


@pytest.fixture
def root(tmp_path):
    """Two models on disk."""
    return named_repository(tmp_path, "a", "b")


async def _begun(*work) -> list[asyncio.Task]:
    """Tasks that wait for each other's change, in this order."""
    tasks = [asyncio.ensure_future(one) for one in work]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_a_reload_and_an_unload_of_the_same_model_do_not_collide(root):
    """An operator unloads what a reload is about to unload: it is gone, and neither fails."""

    async def scenario() -> list[str]:
        registry = _registry(root, Serving(a=ToyExecutor(), b=ToyExecutor()))
        await registry.load_all()
        async with registry._changing:  # both come while something else changes
            tasks = await _begun(registry.unload("b", NOBODY), registry.reload(_config("a")))
        await asyncio.gather(*tasks)
        left = [str(model.model_id) for model in registry.models()]
        assert await registry.stop(_soon()) == []
        return left

    assert asyncio.run(scenario()) == ["a@1"]


def test_two_swaps_of_one_model_do_not_collide(root):
    """Both load the newest version; each finds the older one gone or takes it away, and neither fails."""
    named_repository(root, "a2")
    (root / "a2" / "1").rename(root / "a" / "2")

    async def scenario() -> list[str]:
        registry = _registry(root, Serving(a=ToyExecutor(), b=ToyExecutor()))
        await registry.load("a", "1")
        async with registry._changing:
            tasks = await _begun(registry.swap("a", NOBODY), registry.swap("a", NOBODY))
        await asyncio.gather(*tasks)
        left = [str(model.model_id) for model in registry.models()]
        assert await registry.stop(_soon()) == []
        return left

    assert asyncio.run(scenario()) == ["a@2"]


def test_an_unload_of_what_a_reload_took_away_is_an_error_to_its_caller_alone(root):
    """The reload comes first: then the operator is told that the model is not loaded."""

    async def scenario() -> None:
        registry = _registry(root, Serving(a=ToyExecutor(), b=ToyExecutor()))
        await registry.load_all()
        async with registry._changing:
            reloading, unloading = await _begun(registry.reload(_config("a")), registry.unload("b", NOBODY))
        await reloading
        with pytest.raises(NotFoundError, match="model 'b' is not loaded; loaded are a"):
            await unloading
        await registry.stop(_soon())

    asyncio.run(scenario())


def test_an_unloaded_model_frees_its_executor(root):
    """Once its last request is answered."""
    executor = ToyExecutor()

    async def scenario() -> None:
        registry = _registry(root, Serving(a=executor, b=ToyExecutor()))
        await registry.load("a")
        with registry.get("a").in_use():
            await registry.unload("a", NOBODY)
            for _ in range(5):
                await asyncio.sleep(0)
            assert not executor.stopped
        assert await registry.stop(_soon()) == []

    asyncio.run(scenario())
    assert executor.stopped


def test_a_stop_does_not_wait_for_a_load_and_serves_nothing_that_comes_late(root):
    """A load that hangs keeps `stop` from nothing; when it ends after all, its caller hears of the stop."""
    gate, reached = threading.Event(), threading.Event()

    def slowly(entry, load_spec):
        reached.set()
        assert gate.wait(A_MINUTE_S)
        return Serving(a=ToyExecutor())(entry, load_spec)

    async def scenario() -> None:
        registry = _registry(root, slowly)
        loading = asyncio.ensure_future(registry.load("a"))
        assert await asyncio.to_thread(reached.wait, A_MINUTE_S)
        assert await registry.stop(_soon()) == []
        gate.set()
        with pytest.raises(UnavailableError, match="stopping"):
            await loading
        assert registry.models() == []

    asyncio.run(scenario())


def test_a_load_that_fails_is_remembered_with_its_reason(root):
    """For the index of the repository."""

    def broken(entry, load_spec):
        raise ModelError("half a network")

    async def scenario() -> str:
        registry = _registry(root, broken)
        with pytest.raises(ModelError):
            await registry.load("a")
        return registry.reason("a", "1")

    assert asyncio.run(scenario()) == "half a network"
