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
import msgspec
from msgspec.structs import replace

from spillover.common.cli import EXIT_HUNG, exit_code
from spillover.common.config import load_config, naming
from spillover.common.errors import ConfigError
from spillover.common.log import configure_logging, end_process
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
@click.pass_context
def edge(
    context: click.Context,
    config_path: Path | None,
    mode: str | None,
    source: str | None,
    output: str | None,
    record_link: Path | None,
    *,
    require_camera: bool,
) -> None:
    """Run the edge daemon.

    Every frame is answered by the small model on this device. A policy picks the frames that the cloud
    would answer better; those are sent as JPEG, and answered by the deadline even if the cloud is silent.
    Results go out as JSON lines, one per frame; the log goes to standard error.

    \b
    spillover edge -c edge.yaml
    spillover edge -c edge.yaml --source clip.mp4 --output results.jsonl
    spillover edge -c edge.yaml --mode edge_only
    spillover edge -c edge.yaml --mode cloud_only --record-link drive.csv
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    if context.invoked_subcommand is not None:
        return
    if config_path is None:
        raise click.UsageError("Missing option '-c' / '--config'; examples/edge.yaml is a place to start.")
    path = config_path
    elsewhere = [key for key, given in (("camera.source", source), ("sinks", output)) if given is not None]

    @contextmanager
    def read() -> Iterator[EdgeConfig]:
        """The configuration; while inside, errors in its use name the file."""
        with naming(str(path), elsewhere):
            yield with_overrides(load_config(path, EdgeConfig), mode, source, output)

    early: list[str] = []
    with signals_to(_leave), hangups_to(partial(early.append, "SIGHUP"), _leave), read() as config:
        configure_logging(config.log.level, as_json=config.log.json)
        from spillover.edge.daemon import Daemon  # --help need not load a network library or a model runtime

        daemon = Daemon(config, record_link, require_camera=require_camera, read=read)
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
    """While inside, SIGHUP calls `reload`; or `stop` with a reason, if it means that the terminal is gone."""
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
        signal.signal(signal.SIGHUP, previous)


@edge.command()
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The daemon's configuration.",
)
@click.option("--address", help="`host:port` of the metrics endpoint, in place of a configuration's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def status(config_path: Path | None, address: str | None, *, as_json: bool) -> None:
    """Show the counters of a running daemon, and whether their sums hold.

    Needs `metrics_address` in the daemon's configuration. Exit code 1 when no daemon answers there.
    """
    if address is None:
        if config_path is None:
            raise click.UsageError("give -c edge.yaml, or --address host:port")
        address = load_config(config_path, EdgeConfig).metrics_address
    if not address:
        raise click.UsageError(f"{config_path} has no metrics_address: such a daemon cannot be asked")
    from spillover.edge.telemetry.status import read_status, to_text

    found = read_status(address)
    click.echo(msgspec.json.encode(found) if as_json else to_text(found))
