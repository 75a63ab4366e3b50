"""Logging: structlog to standard error, one event per line, for people or machines (`json`); forced exit."""

import logging
import os
import sys
import threading
from typing import NoReturn

import structlog

_LAST_WORDS_S = 1.0
"""How long the last words may take: the program that reads the log may hang as well."""


def configure_logging(level: str = "info", *, as_json: bool = False) -> None:
    """Send every log event of this process to standard error; standard output stays free for results."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if as_json else _printable_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
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


def end_process(code: int, why: str, **fields: object) -> NoReturn:
    """Log `why` and end now: no thread is waited for, nothing is cleaned up. May run in a signal handler."""

    def say() -> None:
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


class _Unlocked:
    """Writes lines where the log goes, without a lock; unconfigured, structlog prints to standard output."""

    def error(self, line: str) -> None:
        """Write one line."""
        os.write(2 if structlog.is_configured() else 1, f"{line}\n".encode())


def _printable_values(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What others wrote must neither end a line nor move the cursor of whoever reads the log."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


_plain_traceback = structlog.dev.plain_traceback
