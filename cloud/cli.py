"""The command `spillover cloud`."""

import asyncio
import dataclasses
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from spillover.cloud.config import CloudConfig
from spillover.cloud.security.audit import SIGHUP, audit
from spillover.common.allocator import keep_few_arenas, keep_picture_memory
from spillover.common.cli import EXIT_HUNG, LazyGroup
from spillover.common.config import ConfigFile, no_file, read_config
from spillover.common.errors import ConfigError, SpilloverError
from spillover.common.files import write_atomic
from spillover.common.log import configure_logging, end_process, get_logger
from spillover.common.native_lines import native_lines_logged
from spillover.common.systemd import Notifier

if TYPE_CHECKING:
    from spillover.cloud.server import Running

Read = Callable[[], ConfigFile[CloudConfig]]
"""Reads the configuration as it is now. Raises ConfigError."""

SWITCH_INTERVAL_S = 0.0005
"""How long the event loop may keep the interpreter from a thread that waits with a batch's outputs.

Python's 5 ms are as long as a whole batch. On the weight-bound network of `make bench-cloud` a tenth of it
gave 1.1 to 1.5 times the rate at 4 to 64 connections, side by side.
"""


@click.group(
    name="cloud",
    cls=LazyGroup,
    package="spillover.cloud",
    commands_at={
        "certs": ("security.cli:certs", "A private CA: certificates for servers, devices, operators."),
        "tokens": ("security.cli:tokens", "Bearer tokens, for callers without certificates."),
    },
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="SIGTERM or Ctrl-C drains: no new calls, those in flight are answered, and the process ends "
    "within `stop_timeout_s` with exit code 0; a second one ends it at once. SIGHUP reads the configuration "
    "again and loads what changed. Other exit codes: 1 failed; 2 wrong usage; 3 configuration; 4 model "
    "folder; 7 left behind what hung; 130 or 143 a second signal.",
)
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The configuration, YAML; examples/cloud.yaml explains every key. Without one, the defaults hold.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="In place of `models.load`: `name` or `name@version`, once for each; the first is the default.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the bound address (host:port) here once the server answers; removed when it stops.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Start nothing: tell all mistakes in the configuration, its files and models, and what follows.",
)
@click.pass_context
def cloud(
    context: click.Context,
    config_path: Path | None,
    models: tuple[str, ...],
    ready_file: Path | None,
    *,
    check: bool,
) -> None:
    """Serve the full-precision models of a folder over gRPC.

    The folder is a tree <name>/<version>/ with model.onnx and model.yaml, as `spillover lab prepare`
    makes it. Health checks and reflection are served beside spillover.v1, and Prometheus metrics over HTTP.
    """
    if context.invoked_subcommand:
        return
    require_runtime(platform.machine(), installed=find_spec("onnxruntime") is not None)
    if check:
        from spillover.cloud.check import check_all

        configure_logging("warning")
        sys.exit(check_all(config_path, models, click.echo))
    read = partial(_read_config, config_path, models)
    file = read()
    config = file.config
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_few_arenas()
    keep_picture_memory()
    with native_lines_logged():
        configure_logging(config.log.level.value, as_json=config.log.json)
        with file.naming(_elsewhere(models)):
            asyncio.run(_serve_until_signalled(config, read, ready_file, _elsewhere(models)))


def require_runtime(machine: str, *, installed: bool) -> None:
    """Refuse a server without ONNX Runtime where the extra `cloud-gpu` brings none: on aarch64.

    Raises:
        ConfigError: that is so; the text says what to install.
    """
    if not installed and machine == "aarch64":
        raise ConfigError(
            "onnxruntime is not installed: the extra cloud-gpu brings none on aarch64, because "
            "onnxruntime-gpu is not published for it. Install the onnxruntime-gpu that NVIDIA or your vendor "
            "builds for this machine, or spillover[cloud] in place of cloud-gpu to compute on the CPU"
        )


def _read_config(path: Path | None, models: tuple[str, ...]) -> ConfigFile[CloudConfig]:
    """The configuration as it is now, with `--model` in place of `models.load`. Raises ConfigError."""
    file = read_config(path, CloudConfig) if path else no_file(CloudConfig())
    if not models:
        return file
    chosen = replace(file.config, models=replace(file.config.models, load=models))
    return dataclasses.replace(file, config=chosen)


def _elsewhere(models: tuple[str, ...]) -> tuple[str, ...]:
    """The keys whose values come from the command line."""
    return ("models.load",) if models else ()


async def _serve_until_signalled(
    config: CloudConfig, read: Read, ready_file: Path | None, elsewhere: Sequence[str]
) -> None:
    # Here, so that --help loads neither.
    import cv2

    from spillover.cloud.server import LAST_RESORT_S, Running, serve

    cv2.setNumThreads(1)  # a decode thread is one thread, so that a caller's share of them is what it may use
    notifier = Notifier(os.environ)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    servers: list[Running] = []
    reloads: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly

    def reload() -> None:
        for server in servers:
            task = loop.create_task(_reload(server, read, notifier, elsewhere))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

    def on_ready(server: Running) -> None:
        servers.append(server)
        get_logger("server").info("serving", address=server.address, metrics=server.metrics_address)
        if ready_file:
            write_atomic(ready_file, server.address.encode())

    signals = Signals(
        lambda: loop.call_soon_threadsafe(stop.set),
        lambda: loop.call_soon_threadsafe(reload),
        config.stop_timeout_s + LAST_RESORT_S,
    )
    signals.start()
    try:
        left_behind = await serve(config, stop, on_ready, notifier=notifier)
    finally:
        if ready_file:
            ready_file.unlink(missing_ok=True)
    if left_behind:
        end_process(EXIT_HUNG, "ended", left_behind=left_behind)


class Signals:
    """Takes signals on a thread, so that a process whose event loop hangs ends too.

    `limit_s` after SIGTERM or SIGINT, the thread ends the process if that has not ended by itself; a second
    one ends it at once.
    """

    def __init__(self, stop: Callable[[], object], reload: Callable[[], object], limit_s: float) -> None:
        self._stop = stop
        self._reload = reload
        self._limit_s = limit_s
        self._reader, self._writer = socket.socketpair()

    def start(self) -> None:
        """Begin. Only on the main thread."""
        # Python runs handlers between two bytecodes of the main thread; the wake-up socket gets the signal's
        # number at once, whatever that thread does.
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._take, name="signals", daemon=True).start()

    def _take(self) -> None:
        while self._reader.recv(1)[0] == signal.SIGHUP:
            self._reload()
        end_s = time.monotonic() + self._limit_s
        with suppress(RuntimeError):  # the loop is closed: the process is ending anyway
            self._stop()
        while (left_s := end_s - time.monotonic()) > 0:
            self._reader.settimeout(left_s)
            with suppress(TimeoutError):
                again = signal.Signals(self._reader.recv(1)[0])
                if again is not signal.SIGHUP:
                    end_process(128 + again, "ended at once by a second signal", signal=again.name)
        end_process(EXIT_HUNG, f"not ended {self._limit_s:g} s after the stop began: the event loop hangs")


async def _reload(server: "Running", read: Read, notifier: Notifier, elsewhere: Sequence[str]) -> None:
    """On SIGHUP: a configuration with a fault is logged, and the one in force stays."""
    log = get_logger("server")
    notifier.reloading()
    try:
        file = read()
        with file.naming(elsewhere):
            await server.reload(file.config)
    except SpilloverError as error:
        log.error("not reloaded", error=str(error))  # noqa: TRY400 - the text says all
        audit("reload failed", SIGHUP, because=str(error))
        notifier.ready(f"not reloaded: {error}")
    else:
        log.info("reloaded")
        audit("reload", SIGHUP)
        notifier.ready("; ".join(server.readiness.reasons) or "reloaded")
