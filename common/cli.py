"""The command `spillover`: edge, cloud, lab. It imports a side's code only when its command runs."""

import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

from spillover.common.errors import ConfigError, InUseError, ModelError, SourceError, SpilloverError
from spillover.common.extras import PROJECT, missing_extra

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_MODEL = 4
EXIT_SOURCE = 5
EXIT_HUNG = 7
"""Exit code after a stop in which a part hung and was abandoned; the log names it."""

EXIT_LOST = 8
"""Exit code of `spillover edge status` when the daemon answers, and something was lost."""

_EXIT_CODES: Mapping[type[BaseException], int] = {
    ConfigError: EXIT_CONFIG,
    InUseError: EXIT_CONFIG,
    ModelError: EXIT_MODEL,
    SourceError: EXIT_SOURCE,
}


class LazyGroup(click.Group):
    """A group whose commands are named by dotted strings and imported on first use.

    `commands_at` maps a command's name to `(module:attribute, one line of help)`; modules are named from
    `package` down. So `spillover --help` loads nothing, and the edge never loads the workbench's libraries.

    A command that lacks a library is a ConfigError that says how to install it. The extra that brings it
    is called like the package that the command lives in: `edge`, `cloud` or `lab`.
    """

    def __init__(
        self,
        *args: object,
        commands_at: Mapping[str, tuple[str, str]],
        package: str = PROJECT,
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.commands_at = commands_at
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        del ctx
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command. Raises ConfigError when a library that it needs is missing."""
        if cmd_name not in self.commands_at:
            return None
        module, attribute = self._place_of(cmd_name).split(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise self._missing(error, ctx, cmd_name) from error
        assert isinstance(command, click.Command)  # noqa: S101 - a mistake in the table, not in the input
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Raises ConfigError when a library is missing that it loads on the way."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (name := ctx.invoked_subcommand) is None or name not in self.commands_at:
                raise
            raise self._missing(error, ctx, name) from error

    def _missing(self, error: ModuleNotFoundError, ctx: click.Context, cmd_name: str) -> ConfigError:
        """What to install; raises `error` itself where no extra brings it."""
        project, extra, *_ = self._place_of(cmd_name).split(".")
        if project != PROJECT:
            raise error
        return missing_extra(error, extra, f"`{ctx.command_path} {cmd_name}`")

    def _place_of(self, cmd_name: str) -> str:
        return f"{self.package}.{self.commands_at[cmd_name][0]}"

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the name that was meant beside one that does not exist."""
        if not ctx.resilient_parsing and args[0] not in self.commands_at:
            for near in difflib.get_close_matches(args[0], self.commands_at, 1):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {near!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.commands_at.items()])


@click.group(
    cls=LazyGroup,
    commands_at={
        "edge": ("edge.cli:edge", "Run the edge daemon: camera, small model, policy, uplink, sink."),
        "cloud": ("cloud.cli:cloud", "Run the cloud server: the full-precision model over gRPC."),
        "doctor": (
            "edge.doctor.cli:doctor",
            "Check a device: configuration, camera, model, cloud, disks ...",
        ),
        "lab": ("lab.cli:lab", "The workbench: prepare, quantize, evaluate, demo, load test."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 failed; 2 wrong usage; 3 configuration; 4 model folder; 5 camera or input; "
    "7 stopped, but a part hung.",
)
@click.version_option(package_name="spillover")
def spillover() -> None:
    """Edge-cloud inference: a small model answers on the device, unsure frames spill over to the cloud."""


def exit_code(error: BaseException) -> int:
    """The exit code of a process that ends with `error`."""
    return _EXIT_CODES.get(type(error), EXIT_FAILED)


def run(command: click.Command, prog_name: str) -> None:
    """Run `command`; the project's and the system's errors become a line for each fault and an exit code."""
    with errors_told(prog_name):
        command.main(prog_name=prog_name)


@contextmanager
def errors_told(prog_name: str) -> Iterator[None]:
    """The project's and the system's errors within the block end the process: a line a fault, and a code."""
    try:
        yield
    except (SpilloverError, OSError) as error:
        # Of an OSError, such as a full disk, the system's sentence says enough.
        for line in str(error).splitlines():
            click.echo(f"{prog_name}: {line}", err=True)
        sys.exit(exit_code(error))


def require_64_bit(largest_index: int) -> None:
    """Refuse an interpreter of 32 bits, for which some libraries are not published, and others fail late.

    Raises:
        SpilloverError: `sys.maxsize` of the interpreter is that of 32 bits.
    """
    if largest_index < 2**32:
        raise SpilloverError(
            f"needs a 64-bit Python; {sys.executable} is a 32-bit one. On a Raspberry Pi install the 64-bit "
            "Raspberry Pi OS: a 64-bit kernel under a 32-bit system is not enough"
        )


def main() -> None:
    """Entry point of the command `spillover`."""
    with errors_told("spillover"):
        require_64_bit(sys.maxsize)
        spillover.main(prog_name="spillover")


if __name__ == "__main__":
    main()
