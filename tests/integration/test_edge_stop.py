"""A part that hangs when the daemon is to stop: named, left behind, and nothing lost but what it held."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.errors import SpilloverError
from spillover.common.types import Frame
from spillover.edge.assembly.daemon import assemble
from spillover.edge.camera.camera import Camera
from spillover.edge.camera.source import Picture, Source
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Assemble, Daemon
from spillover.edge.device import Device, Run
from spillover.edge.pipeline import CameraSettings, Looked, Pipeline
from spillover.edge.stream import CameraStream
from spillover.edge.tracking.stage import TrackingCounts
from spillover.edge.uplink.base import Uplink
from spillover.edge.uplink.in_flight import UNTRIED
from spillover.lab.runs.check.cli import waiting_in
from tests.support.models import SIDE, colour_classifier
from tests.support.scripted_cloud import PATIENCE_S, Held, scripted_cloud
from tests.support.stopping import Hang, hurrying, pipe_that_nobody_reads, wait_for_thread

IN_FLIGHT = UNTRIED
"""The cap, which no call that ends lifts here: what comes beyond it gets the local answer at once."""
BEFORE = UNTRIED
"""So many frames pass before a model or a camera hangs."""
MANY = 40
"""More results than the pipe takes."""
CANCELLED = "stopped: before the cloud answered"

Parts = tuple[Device, CameraStream]


class HungPipeline:
    """Passes `BEFORE` frames on to `pipeline`; in the next one it hangs as a model may."""

    def __init__(self, pipeline: Pipeline, hang: Hang) -> None:
        self._pipeline = pipeline
        self._hang = hang
        self._frames = 0

    @property
    def settings(self) -> CameraSettings:
        """Those of the pipeline."""
        return self._pipeline.settings

    @property
    def reused(self) -> int:
        """As the pipeline tells it."""
        return self._pipeline.reused

    @property
    def tracking(self) -> TrackingCounts | None:
        """As the pipeline tells it."""
        return self._pipeline.tracking

    def look(self, frame: Frame) -> Looked:
        """Work, or hang."""
        if self._frames == BEFORE:
            self._hang.wait()
        self._frames += 1
        return self._pipeline.look(frame)

    def conclude(self, looked: Looked) -> None:
        """Work."""
        self._pipeline.conclude(looked)


class HungSource:
    """Gives `BEFORE` pictures of `source` and hangs in the next read; to close it then is an error."""

    live = False

    def __init__(self, source: Source, hang: Hang) -> None:
        self._source = source
        self._hang = hang
        self._pictures = 0
        self.fps = source.fps
        self.rewind = source.rewind

    def read(self) -> Picture | None:
        """Read, or hang."""
        if self._pictures == BEFORE:
            self._hang.wait()
        picture = self._source.read()
        self._pictures += picture is not None
        return picture

    def close(self) -> None:
        """Only where nobody is inside `read`."""
        assert not self._hang.entered.is_set()
        self._source.close()


class HungUplink:
    """Behaves as `uplink`, but its `stop` hangs."""

    def __init__(self, uplink: Uplink, hang: Hang) -> None:
        self._uplink = uplink
        self._hang = hang

    def __getattr__(self, name: str) -> Any:
        return getattr(self._uplink, name)

    def stop(self, deadline_s: float) -> bool:
        """Hang, then stop."""
        self._hang.wait()
        return self._uplink.stop(deadline_s)


class Bench:
    """A daemon whose every frame goes to a cloud that never answers; its spool and its sinks."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.hang = Hang()
        self.results = folder / "out.jsonl"
        self.sinks = [{"kind": "jsonl", "path": str(self.results)}]
        self.spool = folder / "spool.dat"
        self.picture = folder / "grey.png"
        cv2.imwrite(str(self.picture), np.full((SIDE, SIDE, 3), 200, np.uint8))
        self._address = address
        self.build: Assemble = assemble

    def change(self, changed: Callable[[Device, CameraStream], Parts]) -> None:
        """Build the daemon with parts that are made from the usual ones."""

        def build(run: Run) -> tuple[Device, list[CameraStream]]:
            device, [stream] = assemble(run)
            device, stream = changed(device, stream)
            return device, [stream]

        self.build = build

    def config(self, **camera: object) -> EdgeConfig:
        """Every frame is sent, and the cloud's silence outlasts the test."""
        return msgspec.convert(
            {
                "mode": "cloud_only",
                "deadline_s": 10 * PATIENCE_S,
                "stop_timeout_s": 10 * PATIENCE_S,
                "camera": {"source": str(self.picture), "fps": 200, "loop": True, "queue_size": 50} | camera,
                "model": {
                    "folder": str(colour_classifier(self.folder / "models")),
                    "session": {"threads": 1},
                },
                "uplink": {"address": self._address, "max_in_flight": IN_FLIGHT},
                "spool": {"path": str(self.spool), "max_mb": 2.0},
                "sinks": self.sinks,
            },
            EdgeConfig,
        )


def hung_model(bench: Bench) -> str:
    """The model does not return from a frame."""

    def change(device: Device, stream: CameraStream) -> Parts:
        return device, replace(stream, pipeline=HungPipeline(stream.pipeline, bench.hang))

    bench.change(change)
    return "pipeline"


def hung_camera(bench: Bench) -> str:
    """The read of a picture does not return."""

    def change(device: Device, stream: CameraStream) -> Parts:
        source = HungSource(stream.source, bench.hang)
        [config] = bench.config().all_cameras
        camera = Camera(source, config, "boot", device.reporting.events)
        return device, replace(stream, source=source, camera=camera)

    bench.change(change)
    return "camera"


def hung_uplink(bench: Bench) -> str:
    """The calls cannot be ended."""

    def change(device: Device, stream: CameraStream) -> Parts:
        uplink = HungUplink(device.offload.uplink, bench.hang)
        return replace(device, offload=replace(device.offload, uplink=uplink)), stream

    bench.change(change)
    return "uplink"


def hung_sink(bench: Bench) -> str:
    """A second sink is a pipe that nobody reads, smaller than what is to be written."""
    bench.sinks.append({"kind": "jsonl", "path": str(bench.folder / "pipe.jsonl")})
    return "sinks"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose hung parts are let go at the end."""
    with ExitStack() as stack:
        cloud = stack.enter_context(scripted_cloud(Held()))
        bench = Bench(tmp_path, cloud.address)
        stack.enter_context(pipe_that_nobody_reads(tmp_path / "pipe.jsonl"))
        stack.callback(bench.hang.release.set)
        yield bench


@pytest.mark.parametrize("break_part", [hung_model, hung_camera, hung_uplink, hung_sink])
def test_what_hangs_is_left_behind_alone(bench: Bench, break_part: Callable[[Bench], str]) -> None:
    """The stop names it and goes on: spool committed and closed, results out, every frame accounted for."""
    hung = break_part(bench)
    # The cloud never answers: that the time for it is over is no fault of a part.
    daemon = Daemon(bench.config(), build=bench.build, ended_by=hurrying([hung, "answers"]))
    sent = BEFORE if hung in {"pipeline", "camera"} else IN_FLIGHT
    with running(daemon):
        until(lambda: daemon._device.offload.uplink.link().in_flight == sent)
        # More results than the pipe takes, or the frame in which the model or the camera hangs.
        until(lambda: bench.hang.entered.is_set() or daemon.metrics.frames_captured > MANY)
    assert set(daemon.left_behind) - {"answers"} == {hung}

    wait_for_thread("sink 0:jsonl")
    lines = [msgspec.json.decode(line) for line in bench.results.read_bytes().splitlines()]
    assert lines[-1]["event"] == "stopped"
    ended = [line for line in lines if "frame_id" in line and line.get("event") != "spool"]
    in_the_model = hung == "pipeline"
    assert len({line["sequence"] for line in ended}) == len(ended) == lines[-1]["captured"] - in_the_model
    # Calls that were cancelled in the stop itself, so it is the stop that wrote these frames to the disk.
    cancelled = {line["frame_id"] for line in ended if line.get("error") == CANCELLED}
    assert len(cancelled) == (0 if hung == "uplink" else sent)
    forwarder = daemon._device.offload.forwarder
    assert forwarder is not None
    spool = forwarder.state()
    assert spool.error == "closed"
    assert cancelled <= (waiting := waiting_in(bench.spool))
    assert len(waiting) == spool.accepted


def test_a_stop_in_which_nothing_hangs_leaves_nothing_behind(bench: Bench) -> None:
    """Threads of every part have ended when `run` returns."""
    daemon = Daemon(bench.config(), ended_by=hurrying(["answers"]))
    with running(daemon):
        until(lambda: daemon._device.offload.uplink.link().in_flight == IN_FLIGHT)
    assert daemon.left_behind == ["answers"]
    wait_for_thread("answers")
    ours = {
        "camera",
        "pipeline",
        "decisions",
        "deadlines",
        "spool-encode",
        "spool-write",
        "spool-drain",
        "sink 0:jsonl",
    }
    assert ours.isdisjoint(thread.name for thread in threading.enumerate())


def test_a_pipeline_that_waits_for_room_on_the_link_stops(bench: Bench) -> None:
    """At pace `fast` a frame waits for a place in flight, here for ten minutes; a stop ends that wait."""
    daemon = Daemon(bench.config(pace="fast"), ended_by=hurrying(["answers"]))
    with running(daemon):
        until(lambda: daemon._device.offload.uplink.link().in_flight == IN_FLIGHT)
    assert daemon.left_behind == ["answers"]


@contextmanager
def running(daemon: Daemon) -> Iterator[None]:
    """The daemon on a thread of its own, stopped at the end."""

    def run() -> None:
        with suppress(SpilloverError):  # where the pipe that nobody reads has not one result
            daemon.run()

    runner = threading.Thread(target=run)
    runner.start()
    yield
    daemon.stop("seen enough")
    runner.join(PATIENCE_S)
    assert not runner.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Look again and again, within a limit."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 50)):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail("it never came")
