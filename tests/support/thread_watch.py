"""Which functions ran on which thread: what a server did on its event loop, and what it did elsewhere."""

import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class ThreadWatch:
    """Notes the calls of some functions of Python and of C, with the thread, in every thread begun meanwhile.

    The thread that calls `loop_marker` is the event loop's.
    """

    def __init__(self, loop_marker: Callable[..., object], *functions: Callable[..., object]) -> None:
        self._marker = loop_marker.__code__
        self._codes = {getattr(function, "__code__", function): function for function in functions}
        self._threads: defaultdict[object, set[int]] = defaultdict(set)
        self._loops: set[int] = set()

    def ran_on_loop(self, function: Callable[..., object]) -> bool:
        """Whether the event loop's thread has called it."""
        return bool(self._threads[function] & self._loops)

    def ran_elsewhere(self, function: Callable[..., object]) -> bool:
        """Whether another thread has called it."""
        return bool(self._threads[function] - self._loops)

    def forget(self) -> None:
        """Start anew, with the same event loop."""
        self._threads.clear()

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """For `sys.setprofile`."""
        if event == "call":
            if frame.f_code is self._marker:
                self._loops.add(threading.get_ident())
            called: object = frame.f_code
        elif event == "c_call":
            called = argument
        else:
            return
        try:
            function = self._codes.get(called)
        except TypeError:  # a method of something that has no hash
            return
        if function is not None:
            self._threads[function].add(threading.get_ident())


@contextmanager
def watching(watch: ThreadWatch) -> Iterator[ThreadWatch]:
    """Threads that begin inside are watched; this one is not."""
    threading.setprofile(watch.profile)
    try:
        yield watch
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
