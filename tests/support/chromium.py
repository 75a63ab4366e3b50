"""A browser without a window, driven through its DevTools protocol over two pipes."""

import base64
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.common.processes import bound
from tests.support.tools import tool

LIMIT_S = 60.0
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and writes answers to 4, each ended by NUL."""
_COMPLAINTS = {"Runtime.exceptionThrown", "Log.entryAdded"}


@dataclass
class _Pipes:
    """The way to one browser and back, which all its pages use."""

    commands: int
    answers: int
    read: bytes = b""
    number: int = 0


class Page:
    """One tab. `complaints` are the errors of its console and of the browser about it."""

    def __init__(self, pipes: _Pipes, *, alone: bool = False) -> None:
        self._pipes = pipes
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []
        place = (
            {"browserContextId": self._ask("Target.createBrowserContext")["browserContextId"]}
            if alone
            else {}
        )
        target = self._ask("Target.createTarget", url="about:blank", **place)["targetId"]
        self._target = target
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def beside(self) -> "Page":
        """A tab with cookies and connections of its own, as if in another browser."""
        return Page(self._pipes, alone=True)

    def close(self) -> None:
        """Close the tab."""
        self._ask("Target.closeTarget", targetId=self._target)

    def open(self, url: str, width: int = 1300, height: int = 800, ends_at: str = "") -> None:
        """Go to a page, in a window of this size; does not wait for its end, which a live picture has not.

        `ends_at` is where it leads, if elsewhere.
        """
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._ask("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(ends_at or url)} && document.readyState !== 'loading'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, a promise's value too."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """The value of an expression as soon as it is true, within a limit."""
        end_s = time.monotonic() + LIMIT_S
        while not (found := self.value(expression)):
            assert time.monotonic() < end_s, f"it never came: {expression}; {self.complaints}"
            time.sleep(0.05)
        return found

    def screenshot(self, form: str = "png", quality: int | None = None, *, whole: bool = False) -> bytes:
        """What the window shows, or the page in its whole height."""
        more = {} if quality is None else {"quality": quality}
        shot = self._ask("Page.captureScreenshot", format=form, captureBeyondViewport=whole, **more)
        return base64.b64decode(shot["data"])

    def paper(self, width_px: int) -> None:
        """Lay the page out as it is printed, on paper of this width without its margins."""
        self._ask("Emulation.setEmulatedMedia", media="print")
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=700,
            deviceScaleFactor=1,
            mobile=False,
        )

    def _ask(self, method: str, **parameters: object) -> dict[str, Any]:
        self._pipes.number += 1
        command = {"id": self._pipes.number, "method": method, "params": parameters, **self._session}
        os.write(self._pipes.commands, json.dumps(command).encode() + b"\0")
        end_s = time.monotonic() + LIMIT_S
        while True:
            message = self._next(end_s)
            if message.get("id") == self._pipes.number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _next(self, end_s: float) -> dict[str, Any]:
        while b"\0" not in self._pipes.read:
            ready, _, _ = select.select([self._pipes.answers], [], [], max(0.0, end_s - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._pipes.answers, 1 << 20)
            assert part, "the browser has ended"
            self._pipes.read += part
        line, _, self._pipes.read = self._pipes.read.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        said, what = message.get("method"), message.get("params", {})
        is_error = said == "Runtime.consoleAPICalled" and what["type"] in {"error", "warning"}
        if is_error or said in _COMPLAINTS:
            self.complaints.append(json.dumps(what))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with an empty profile in `folder`; the test skips where there is none."""
    program = tool("chromium", "chromium")
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    options = [
        "--headless",
        "--no-sandbox",  # root, as in a container, has none
        "--disable-gpu",
        "--ignore-certificate-errors",  # a CA of the tests signs them
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder / 'chromium'}",
    ]
    start = [sys.executable, "-c", _START, str(command_read), str(answer_write), program, *options]
    process = subprocess.Popen(
        bound(start, signal.SIGKILL),
        pass_fds=(command_read, answer_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(command_read)
    os.close(answer_write)
    try:
        yield Page(_Pipes(command_write, answer_read))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(command_write)
        os.close(answer_read)
