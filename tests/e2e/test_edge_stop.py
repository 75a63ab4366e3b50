"""A daemon in which something truly hangs: the process ends in time, names it, and loses nothing else."""

import signal
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from spillover.lab.records import read_records
from spillover.lab.runs.check.cli import waiting_in
from tests.chaos.edge import Edge, wait_until
from tests.support.models import SIDE, colour_classifier, endless_classifier
from tests.support.processes import LIMIT_S
from tests.support.scripted_cloud import no_server_address
from tests.support.stopping import pipe_that_nobody_reads

RED, GREEN = (0, 0, 255), (0, 255, 0)
QUEUE = 2
LEFT_BEHIND = "left behind: it did not end in time"


class Bench:
    """A daemon's folder: pictures, results, spool, log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "out.jsonl"
        self.spool = folder / "spool.dat"
        (folder / "pictures").mkdir()

    def paint(self, *colours: tuple[int, int, int]) -> None:
        """One picture of each colour, in this order."""
        for number, colour in enumerate(colours):
            cv2.imwrite(
                str(self.folder / "pictures" / f"{number}.png"), np.full((SIDE, SIDE, 3), colour, np.uint8)
            )

    def start(self, model: Path, *more_sinks: Path, stop_timeout_s: float = 12.0) -> Edge:
        """A daemon that works through the pictures again and again; its cloud is down."""
        config = {
            "mode": "cloud_only",
            "stop_timeout_s": stop_timeout_s,
            "camera": {
                "source": str(self.folder / "pictures"),
                "pace": "fast",
                "queue_size": QUEUE,
                "loop": True,
            },
            "model": {"folder": str(model), "session": {"threads": 1}},
            "uplink": {"address": no_server_address()},
            "spool": {"path": str(self.spool), "max_mb": 2.0},
            "sinks": [{"kind": "jsonl", "path": str(path)} for path in (self.results, *more_sinks)],
            "log": {"json": True},
        }
        return Edge(self.folder, "edge", config, {})

    def log(self) -> list[dict[str, object]]:
        """The lines of the log."""
        lines = (self.folder / "edge.log").read_bytes().splitlines()
        return [msgspec.json.decode(line) for line in lines]

    def hung(self) -> list[object]:
        """What the log says hangs, and in the last line what the process has left behind."""
        named = [line["part"] for line in self.log() if line["event"] == LEFT_BEHIND]
        return [*named, self.log()[-1]["left_behind"]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench in a folder of its own."""
    return Bench(tmp_path)


def wait_for(edge: Edge, name: str, value: float) -> None:
    """Wait until this counter of the daemon is there."""
    wait_until(
        lambda: (edge.metrics() or {}).get(f"spillover_edge_{name}_total", 0) >= value,
        edge._process,
        edge._log,
    )


def test_a_model_that_never_returns_from_onnx_runtime(bench: Bench) -> None:
    """SIGTERM while a network runs for ever: code 7, named; the frames before it are spooled and answered."""
    bench.paint(GREEN, GREEN, GREEN, RED)
    edge = bench.start(endless_classifier(bench.folder / "models"))
    # The queue is full, one more frame waits for room in it, and so the pipeline has taken the red one.
    wait_for(edge, "frames_captured", 4 + QUEUE + 1)
    assert edge.stop() == 7
    assert bench.hung() == ["pipeline", ["pipeline"]]
    [position] = [line["at"] for line in bench.log() if line["event"] == LEFT_BEHIND]
    assert str(position).startswith("spillover.common.model.")
    answered = {record.frame_id for record in read_records(bench.results)}
    assert len(answered) == 3
    assert waiting_in(bench.spool) == answered


def test_a_sink_that_nobody_reads(bench: Bench) -> None:
    """SIGTERM while a sink's write hangs: code 7, named; the other sink and the spool have everything."""
    bench.paint(GREEN)
    pipe = bench.folder / "pipe.jsonl"
    with pipe_that_nobody_reads(pipe, 2**16):  # room for what a sink flushes at a time: it has some results
        edge = bench.start(colour_classifier(bench.folder / "models"), pipe)
        wait_for(edge, "frames_captured", 400)
        assert edge.stop() == 7
    assert bench.hung() == ["sink 1:jsonl", ["sinks"]]
    [books] = [line for line in bench.log() if line["event"] == "stopped"]
    records = read_records(bench.results)
    assert len(records) == books["frames[edge_degraded]"]
    accepted = books["spool_frames[accepted]"]
    assert isinstance(accepted, int)
    assert 0 < accepted == len(waiting_in(bench.spool))


def test_a_second_sigterm_ends_the_process_at_once(bench: Bench) -> None:
    """In a stop that would go on for ten minutes a second SIGTERM ends it: code 143, and the log says why."""
    bench.paint(GREEN)
    pipe = bench.folder / "pipe.jsonl"
    with pipe_that_nobody_reads(pipe):
        edge = bench.start(colour_classifier(bench.folder / "models"), pipe, stop_timeout_s=600.0)
        wait_for(edge, "frames_captured", 50)
        edge._process.terminate()
        wait_until(lambda: bench.log()[-1]["event"] == "stopping", edge._process, edge._log)
        edge._process.terminate()
        assert edge._process.wait(LIMIT_S) == 128 + signal.SIGTERM
    assert bench.log()[-1]["event"] == "ended at once by a second signal"
