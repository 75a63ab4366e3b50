"""Reloads of a running daemon: asked for by a signal, done one at a time, told to log and systemd."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from spillover.common.errors import SpilloverError
from spillover.common.log import configure_logging, get_logger
from spillover.common.systemd import Notifier
from spillover.edge.config import EdgeConfig
from spillover.edge.config.reloading import changed, changed_for_a_restart, followed
from spillover.edge.runtime.parts import Ended, OnEnd, Worker

_log = get_logger("edge")
_operator = get_logger("edge", always=True)
"""What somebody asked for is answered, whatever the level is or becomes."""

_THREAD = "reload"
_WANTED = Ended("reload wanted")

Read = Callable[[], AbstractContextManager[EdgeConfig]]
"""Reads the configuration; errors that show while it is in use are named by it, too."""
TakeOver = Callable[[EdgeConfig, EdgeConfig], bool]
"""Makes the parts go on with the second in place of the first; false: too late. Raises SpilloverError."""


class Reloads:
    """Keeps the configuration that is in force. `events` leads to the thread that calls `takes`.

    `status` gives the line that systemd shows.

    A reload runs on a thread, because files may hang: the watchdog is fed meanwhile, and a stop is not held
    up. What is asked for during a reload is one more after it, however often it was asked for.
    """

    def __init__(
        self,
        config: EdgeConfig,
        read: Read,
        take_over: TakeOver,
        events: OnEnd,
        notifier: Notifier,
        status: Callable[[], str],
    ) -> None:
        self.config = config
        self.note = ""
        """What became of the last reload, where somebody has to do something about it."""
        self._read = read
        self._take_over = take_over
        self._events = events
        self._notifier = notifier
        self._status = status
        self._wanted = 0

    def ask(self) -> None:
        """One more is wanted; may be called in a signal handler."""
        self._events(_WANTED)

    def takes(self, event: Ended) -> bool:
        """Whether the event is about reloads; then one that is due is started."""
        if event is _WANTED:
            self._wanted = min(2, self._wanted + 1)
            is_due = self._wanted == 1
        elif event.name == _THREAD:
            if event.error is not None:
                self._failed(repr(event.error))
            self._wanted -= 1
            is_due = self._wanted > 0
        else:
            return False
        if is_due:
            Worker(_THREAD, self._reload, self._events).start()
        return True

    def _reload(self) -> None:
        """Read the configuration and go on with it, as far as a running daemon can."""
        self._notifier.reloading()
        running, self.note = self.config, ""
        try:
            with self._read() as wanted:
                config = followed(running, wanted)
                if not self._take_over(running, config):
                    return
        except SpilloverError as error:
            self._failed(str(error))
            return
        if config.log != running.log:
            configure_logging(config.log.level, as_json=config.log.json)
        self.config = config
        _operator.info("reloaded", changed=changed(running, config))
        if restart := changed_for_a_restart(running, wanted):
            _log.warning("changed, but in force only after a restart", keys=restart)
            self.note = f"restart for {', '.join(restart)}"
        self._notifier.ready(self._status())

    def _failed(self, why: str) -> None:
        """Tell log and systemd, which waits for the end of each reload, however that came."""
        _log.error("not reloaded; what was in force stays", error=why)
        self.note = f"not reloaded: {why}"
        self._notifier.ready(self._status())
