"""What hangs for as long as a test likes, and a stop whose limit passes at once for some parts."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spillover.edge.runtime.parts import EndedBy, Worker
from tests.support.scripted_cloud import PATIENCE_S


class Hang:
    """Holds up whoever calls `wait`, until `release` is set; `entered` tells that somebody is held up."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def wait(self) -> None:
        """Hang."""
        self.entered.set()
        assert self.release.wait(PATIENCE_S), "the test never let go"


def hurrying(names: Sequence[str]) -> EndedBy:
    """In place of `Worker.ended_by`: the time of these parts is over at once, that of the others is not."""

    def ended_by(worker: Worker, deadline_s: float) -> bool:
        del deadline_s
        return worker.name not in names and worker.ended_by(time.monotonic() + PATIENCE_S)

    return ended_by


def wait_for_thread(name: str) -> None:
    """Wait until the thread of that name has ended."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@contextmanager
def pipe_that_nobody_reads(path: Path, takes_bytes: int = 4096) -> Iterator[None]:
    """A FIFO that takes so many bytes and no more; at the end its writer meets a broken pipe."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, takes_bytes)
    try:
        yield
    finally:
        os.close(reader)
