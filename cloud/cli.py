"""The command `spillover cloud`."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cloud.config import CloudConfig
from spillover.common.cli import LazyGroup
from spillover.common.config import load_config
from spillover.common.errors import ConfigError
from spillover.common.files import write_atomic
from spillover.common.log import configure_logging, get_logger

if TYPE_CHECKING:
    from spillover.cloud.server import Running

_SWITCH_INTERVAL_S = 0.0005
"""How long the event loop may keep the interpreter from a thread that has a batch's outputs in hand.

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
    epilog="SIGTERM or Ctrl-C drains: no new calls, those in flight are answered within `drain_timeout_s`, "
    "exit code 0. SIGHUP reads the configuration again and loads what changed on disk. "
    "Other exit codes: 1 failed; 2 wrong usage; 3 configuration; 4 model folder.",
)
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The configuration, YAML; examples/cloud.yaml explains every key. Without one, the defaults hold.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the bound address (host:port) here once the server answers; removed when it stops.",
)
@click.pass_context
def cloud(context: click.Context, config_path: Path | None, ready_file: Path | None) -> None:
    """Serve the full-precision models of a folder over gRPC.

    The folder is a tree <name>/<version>/ with model.onnx and model.yaml, as `spillover lab prepare`
    makes it. Health checks and reflection are served beside spillover.v1, and Prometheus metrics over HTTP.
    """
    if context.invoked_subcommand:
        return
    config = load_config(config_path, CloudConfig) if config_path else CloudConfig()
    configure_logging(config.log.level.value, as_json=config.log.json)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    asyncio.run(_serve_until_signalled(config, config_path, ready_file))


async def _serve_until_signalled(
    config: CloudConfig, config_path: Path | None, ready_file: Path | None
) -> None:
    from spillover.cloud.server import Running, serve  # so that --help does not load ONNX Runtime

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly

    def on_ready(server: Running) -> None:
        def reload() -> None:
            task = loop.create_task(_reload(server, config_path))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        get_logger("server").info("serving", address=server.address, metrics=server.metrics_address)
        if ready_file:
            write_atomic(ready_file, server.address.encode())

    try:
        await serve(config, stop, on_ready)
    finally:
        if ready_file:
            ready_file.unlink(missing_ok=True)


async def _reload(server: "Running", config_path: Path | None) -> None:
    """On SIGHUP: a configuration with a fault is logged, and the one in force stays."""
    log = get_logger("server")
    try:
        await server.reload(load_config(config_path, CloudConfig) if config_path else CloudConfig())
    except ConfigError as error:
        log.error("not reloaded", error=str(error))  # noqa: TRY400 - the text says all
    else:
        log.info("reloaded")
