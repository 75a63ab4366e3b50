"""The command `spillover edge`."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from spillover.common.cli import EXIT_HUNG, exit_code
from spillover.common.config import load_config, read_config
from spillover.common.errors import ConfigError
from spillover.common.log import configure_logging, end_process
from spillover.common.security.cli import token_commands
from spillover.edge.config import EdgeConfig, JsonLinesConfig, Mode
from spillover.edge.runtime.process import EXIT_LIMIT_S, end_process_after

if TYPE_CHECKING:
    from spillover.edge.daemon import Daemon


@click.group(
    invoke_without_command=True,
    epilog="SIGTERM or Ctrl-C stops within `stop_timeout_s`; a second one ends at once. SIGHUP reads the "
    "configuration again and opens the files of the sinks anew. "
    "Exit codes: 0 the source ended, or a signal; 1 failed; 2 wrong usage; 3 configuration; 4 model folder; "
    "5 camera or input; 7 stopped, but a part hung: the log names it; 130 or 143 a second signal.",
)
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What to run; examples/edge.yaml explains every key.",
)
@click.option("--mode", type=click.Choice([m.value for m in Mode]), help="In place of `mode`: who answers.")
@click.option(
    "--source",
    help="In place of `camera.source`: a video, an image, a folder of images, an rtsp:// URL, /dev/video0.",
)
@click.option(
    "--output",
    help="In place of `sinks`: a file that results are appended to as JSON lines, or - for standard output.",
)
@click.option(
    "--require-camera",
    is_flag=True,
    help="End with code 5 when a live camera is not there at the start, in place of waiting for it.",
)
@click.option(
    "--record-link",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what calls tell of the link to this CSV, for `spillover lab replay --link`.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Only tell every mistake in the configuration, its files and its model. No device is touched and "
    "nobody asked; `spillover doctor` does that too.",
)
@click.pass_context
def edge(
    context: click.Context,
    config_path: Path | None,
    mode: str | None,
    source: str | None,
    output: str | None,
    record_link: Path | None,
    *,
    check: bool,
    require_camera: bool,
) -> None:
    """Run the edge daemon.

    Every frame is answered by the small model on this device. A policy picks the frames that the cloud
    would answer better; those are sent as JPEG, and answered by the deadline even if the cloud is silent.
    Results go out as JSON lines, one per frame; the log goes to standard error.

    \b
    spillover edge -c edge.yaml
    spillover edge -c edge.yaml --source clip.mp4 --output results.jsonl
    spillover edge -c edge.yaml --check
    spillover edge -c edge.yaml --mode edge_only
    spillover edge -c edge.yaml --mode cloud_only --record-link drive.csv
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    if context.invoked_subcommand is not None:
        return
    if config_path is None:
        raise click.UsageError("Missing option '-c' / '--config'; examples/edge.yaml is a place to start.")
    if check:
        from spillover.edge.doctor.cli import leave
        from spillover.edge.doctor.examine import examine

        configure_logging("error")
        override = partial(with_overrides, mode=mode, source=source, output=output)
        leave(*examine(config_path, click.echo, files_alone=True, override=override))
    path = config_path
    elsewhere = [key for key, given in (("camera.source", source), ("sinks", output)) if given is not None]

    @contextmanager
    def read() -> Iterator[EdgeConfig]:
        """The configuration; while inside, errors in its use name the file."""
        from spillover.edge.config.paths import check_written  # as below

        file = read_config(path, EdgeConfig)
        with file.naming(elsewhere):
            config = with_overrides(file.config, mode, source, output)
            check_written(config, path)
            yield config

    early: list[str] = []
    with signals_to(_leave), hangups_to(partial(early.append, "SIGHUP"), _leave), read() as config:
        configure_logging(config.log.level, as_json=config.log.json)
        from spillover.edge.daemon import Daemon  # --help need not load a network library or a model runtime

        daemon = Daemon(config, record_link, config_path=path, require_camera=require_camera, read=read)
        with hangups_to(daemon.reload, daemon.stop):
            if early:  # what was read may be older than what the signal was about
                daemon.reload()
            _run(daemon, config.stop_timeout_s)


def _run(daemon: "Daemon", stop_timeout_s: float) -> None:
    """Run it to its end, and let nothing that hangs keep the process beyond the limit."""
    limit_s = stop_timeout_s + EXIT_LIMIT_S
    guard = partial(end_process_after, limit_s, EXIT_HUNG, f"not ended {limit_s:g} s after the stop began")
    with signals_to(daemon.stop, _end_at_once):
        try:
            daemon.run(on_stopping=guard)
        finally:
            if daemon.left_behind:
                error = sys.exception()
                code = exit_code(error) if error else EXIT_HUNG
                end_process(code, "ended", left_behind=daemon.left_behind, error=repr(error))


def _end_at_once(name: str) -> None:
    """End the process at once, because a second signal has arrived."""
    end_process(128 + signal.Signals[name], "ended at once by a second signal", signal=name)


def with_overrides(
    config: EdgeConfig, mode: str | None = None, source: str | None = None, output: str | None = None
) -> EdgeConfig:
    """`config` with what the command line says in its place. Raises ConfigError."""
    if mode is not None:
        config = replace(config, mode=Mode(mode))
    if source is not None:
        if config.camera is None:
            raise ConfigError("cameras: --source stands in place of camera.source, and there are several")
        config = replace(config, camera=replace(config.camera, source=source))
    if output is not None:
        config = replace(config, sinks=(JsonLinesConfig(path=output),))
    return config


def _leave(_reason: str) -> None:
    """What a signal does while the daemon is built: nothing runs yet that would have to be ended."""
    raise SystemExit(0)


@contextmanager
def signals_to(stop: Callable[[str], None], again: Callable[[str], None] | None = None) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT call `stop` with their name, from the second on `again`, if any."""
    actions = chain([stop], repeat(again or stop))

    def handle(number: int, _frame: FrameType | None) -> None:
        next(actions)(signal.Signals(number).name)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def hangups_to(reload: Callable[[], None], stop: Callable[[str], None]) -> Iterator[None]:
    """While inside, SIGHUP calls `reload`; or `stop` with a reason, if it means that the terminal is gone.

    Afterwards it does what it did before, but kills no process: it would come to one that is about to end.
    """
    had_terminal = os.isatty(2)

    def handle(_number: int, _frame: FrameType | None) -> None:
        if had_terminal and not os.isatty(2):
            stop("SIGHUP: the terminal is gone")
        else:
            reload()

    previous = signal.signal(signal.SIGHUP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if previous is signal.SIG_DFL else previous)


@edge.command(
    epilog="Exit codes: 0 all is well; 1 no daemon answers, or another program does; 2 wrong usage; "
    "3 configuration; 8 the daemon answers, and results were lost, are about to be, or its sums do not hold."
)
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The daemon's configuration: asks the daemon of this machine that runs it.",
)
@click.option("--device", "device_id", help="Asks the daemon of this machine with this `device_id`.")
@click.option("--address", help="Asks a daemon of any machine: its `metrics_address`, host:port.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --address: a file with the token that the daemon's `security` wants.",
)
@click.option(
    "--ca",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --address: ask over TLS, and trust certificates of the CA in this PEM file.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.option("--watch", "watches", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
def status(
    config_path: Path | None,
    device_id: str | None,
    address: str | None,
    token_file: Path | None,
    ca: Path | None,
    *,
    as_json: bool,
    watches: bool,
) -> None:
    """Show what a running daemon does, and whether anything was lost.

    The daemon listens on a socket in its state folder, so it needs no `metrics_address`. Give one of -c,
    --device and --address.

    \b
    spillover edge status -c edge.yaml
    spillover edge status -c edge.yaml --watch
    spillover edge status --device camera-1 --json
    """  # noqa: D301 - as above
    if sum(given is not None for given in (config_path, device_id, address)) != 1:
        raise click.UsageError("give one of -c edge.yaml, --device NAME and --address host:port")
    if address is None and (token_file or ca):
        raise click.UsageError("--token-file and --ca go with --address; the socket wants neither")
    from spillover.edge.status.ask import ask, ask_device, show

    if address is not None:
        question = partial(ask, address, token_file, ca)
    elif config_path is not None:
        config = load_config(config_path, EdgeConfig)
        question = partial(ask_device, config.device_id, str(config_path.resolve()))
    else:
        question = partial(ask_device, device_id or "")
    sys.exit(show(question, click.echo, as_json=as_json, watches=watches))


edge.add_command(
    token_commands(
        "Make and revoke the tokens with which people and programs see the pages at `metrics_address`.",
        role="viewer",
        roles="viewer: every page; metrics: /metrics and /status alone.",
    ),
    "token",
)
