"""Logging: structlog to standard error, one event per line, for people or machines (`json`); forced exit.

What strangers can cause is logged through `Throttled`: one line a cause and second.
"""

import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import NoReturn

import structlog

NATIVE_LINES = "native-lines"
"""The name of the thread that logs what C++ libraries write."""
_INTERVAL_S = 1.0
_MAX_CAUSES = 64
_OTHERS = "others"
_PRIORITIES = MappingProxyType({"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7})
_LAST_WORDS_S = 1.0
"""How long the last words may take: the program that reads the log may hang as well."""


def configure_logging(level: str = "info", *, as_json: bool = False) -> None:
    """Send every log event of this process to standard error; standard output stays free for results.

    Events of libraries that use Python's `logging` come along, from level warning on. Where standard error is
    the journal, lines for people have no time, since the journal has it, and each line begins with its
    priority (sd-daemon(3)), which the journal takes off.
    """
    to_journal = _is_journal(os.environ.get("JOURNAL_STREAM", ""))
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([] if to_journal and not as_json else [structlog.processors.TimeStamper(fmt="iso", utc=True)]),
            structlog.processors.format_exc_info if as_json else _printable_values,
            _Prioritised(renderer) if to_journal else renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # A cached logger would keep the level that it met first, beyond a reload. It would save 2 us a line.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [*(one for one in root.handlers if not isinstance(one, _Bridge)), _Bridge()]


def _is_journal(stream: str) -> bool:
    """Whether standard error is the stream of `$JOURNAL_STREAM` (systemd.exec(5)), a device and an inode."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # it is closed, or a test's
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class _Prioritised:
    """Renders with `render`, and puts the level's priority of syslog(3) before each line."""

    def __init__(self, render: structlog.typing.Processor) -> None:
        self._render = render

    def __call__(
        self,
        logger: structlog.typing.WrappedLogger,
        method: str,
        event: structlog.typing.EventDict,
    ) -> str:
        """One event; a traceback has several lines."""
        priority = _PRIORITIES.get(str(event.get("level")), 6)
        return "\n".join(
            f"<{priority}>{line}" for line in str(self._render(logger, method, event)).split("\n")
        )


def get_logger(name: str, *, always: bool = False) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry `component=name`; `always`: whatever the level that is configured."""
    unfiltered = structlog.make_filtering_bound_logger(logging.NOTSET) if always else None
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        None, wrapper_class=unfiltered, component=name
    )
    return logger


def printable(text: str, limit: int | None = None) -> str:
    """`text` in one line, control characters escaped, and cut to `limit` characters before that."""
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 3]}..."
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


class Throttle:
    """Lets one line of each cause through in `interval_s` seconds, and counts the others.

    Several threads may use it. `clock` gives monotonic seconds. Beyond 64 causes at a time all further ones
    are one cause.
    """

    def __init__(self, interval_s: float = _INTERVAL_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._causes: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Until when a cause is silent, the earliest first; and how many lines it has left out."""

    def passes(self, cause: str) -> int | None:
        """How many lines of `cause` were left out since the last one; None: leave this one out too."""
        now_s = self._clock()
        with self._lock:
            self._forget(now_s)
            if cause not in self._causes and len(self._causes) >= _MAX_CAUSES:
                cause = _OTHERS
            until_s, left_out = self._causes.get(cause, (now_s, 0))
            if now_s < until_s:
                self._causes[cause] = (until_s, left_out + 1)
                return None
            self._causes[cause] = (now_s + self._interval_s, 0)
            self._causes.move_to_end(cause)
            return left_out

    def overdue(self, *, at_once: bool = False) -> list[tuple[str, int]]:
        """Causes that left lines out and whose time is over, with the number of those lines; counts anew.

        `at_once`: whether their time is over or not.
        """
        now_s = self._clock()
        with self._lock:
            items = self._causes.items()
            over = [(cause, n) for cause, (until_s, n) in items if n and (at_once or until_s <= now_s)]
            for cause, _ in over:
                self._causes[cause] = (now_s + self._interval_s, 0)
                self._causes.move_to_end(cause)
        return over

    @property
    def leaves_out(self) -> bool:
        """Whether there are lines left out that nobody has been told of."""
        with self._lock:
            return any(left_out for _, left_out in self._causes.values())

    def _forget(self, now_s: float) -> None:
        """Drop causes whose time is over; those that left lines out only where there is no room."""
        for cause, (until_s, left_out) in list(self._causes.items()):
            if until_s > now_s:
                break
            if not left_out or len(self._causes) >= _MAX_CAUSES:
                del self._causes[cause]


class Throttled:
    """A logger of one line a cause and second; the next of that cause says how many were left out."""

    def __init__(self, name: str, throttle: Throttle | None = None) -> None:
        self._log = get_logger(name)
        self._throttle = throttle or Throttle()

    def warning(self, event: str, *, cause: str, **fields: object) -> None:
        """Log a warning."""
        self._write(logging.WARNING, event, cause, fields)

    def error(self, event: str, *, cause: str, **fields: object) -> None:
        """Log an error."""
        self._write(logging.ERROR, event, cause, fields)

    def _write(self, level: int, event: str, cause: str, fields: dict[str, object]) -> None:
        left_out = self._throttle.passes(cause)
        if left_out is not None:
            self._log.log(level, event, **fields, **({"left_out": left_out} if left_out else {}))


class _Bridge(logging.Handler):
    """Events of Python's `logging`, as asyncio's and gRPC's Python parts write them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._throttle = Throttle()

    def emit(self, record: logging.LogRecord) -> None:
        """Log it under the name of its library, one a second from each place."""
        at = f"{record.filename}:{record.lineno}"
        if (left_out := self._throttle.passes(f"{record.name} {at}")) is None:
            return
        fields: dict[str, object] = {"left_out": left_out} if left_out else {}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        get_logger(record.name.partition(".")[0]).log(record.levelno, record.getMessage(), at=at, **fields)


def end_process(code: int, why: str, **fields: object) -> NoReturn:
    """Log `why` and end now: no thread is waited for, nothing is cleaned up. May run in a signal handler."""

    def say() -> None:
        _end_native_lines()
        config = structlog.get_config()
        logger = structlog.wrap_logger(
            _Unlocked(), processors=config["processors"], wrapper_class=config["wrapper_class"]
        )
        logger.error(why, component="process", exit_code=code, **fields)

    # On a thread, as the program that reads the log may hang; and without the log's lock, as the thread that
    # a signal interrupted may hold it.
    last_words = threading.Thread(target=say, daemon=True)
    last_words.start()
    last_words.join(_LAST_WORDS_S)
    os._exit(code)


def _end_native_lines() -> None:
    """Where `common.native_lines` reads descriptor 2: end its pipe, and let it log what is in there."""
    for thread in threading.enumerate():
        if thread.name == NATIVE_LINES:
            os.dup2(sys.stderr.fileno(), 2)
            thread.join(_LAST_WORDS_S / 2)


class _Unlocked:
    """Writes lines where the log goes, without a lock; unconfigured, structlog prints to standard output."""

    def error(self, line: str) -> None:
        """Write one line."""
        descriptor = sys.stderr.fileno() if structlog.is_configured() else 1
        os.write(descriptor, f"{line}\n".encode())


def _printable_values(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What others wrote must neither end a line nor move the cursor of whoever reads the log."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


_plain_traceback = structlog.dev.plain_traceback
