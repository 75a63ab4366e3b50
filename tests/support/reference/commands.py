"""Every command, its arguments and options, from click's own tables."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from spillover.common import cli
from spillover.lab.loadtest.cli import EXIT_GOAL_MISSED
from tests.support.reference.docstrings import first_paragraph
from tests.support.reference.markdown import alternatives, prose, table

_PLAIN = {"integer range": "integer", "float range": "number", "float": "number", "filename": "file"}


def walk(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for `command` and for each command below it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None, f"{name} {inner}"
            yield from walk(found, inner, context)


def all_commands() -> str:
    """A section for each command."""
    return "\n\n".join(_section(context) for context in walk(cli.spillover, "spillover"))


def without_help() -> list[str]:
    """Options that say nothing of themselves."""
    return [
        f"{context.command_path} {option.opts[0]}"
        for context in walk(cli.spillover, "spillover")
        for option in _options(context.command)
        if not option.help
    ]


def exit_codes() -> str:
    """A table of exit codes: those of the errors that have one, then the rest."""
    errors = {code: first_paragraph(error) for error, code in cli._EXIT_CODES.items()}
    known = {
        0: "Done: the command has finished, the source has ended, or SIGTERM was obeyed.",
        cli.EXIT_FAILED: "Failed for another reason, which the last line on standard error says.",
        cli.EXIT_USAGE: "Wrong usage: an unknown command, option or argument.",
        cli.EXIT_HUNG: "Stopped, but a part hung and was left behind; the log names it.",
        cli.EXIT_LOST: "`spillover edge status`: the daemon answers, and something was lost.",
        EXIT_GOAL_MISSED: "`spillover lab loadtest --strict`: a goal was missed, or a figure got worse.",
    }
    named = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    codes = known | errors
    assert named <= codes.keys(), "an exit code has no text"
    return table(("code", "meaning"), ((str(code), codes[code]) for code in sorted(codes)))


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", _help(command), f"    {usage}"]
    if rows := [_row(option) for option in _options(command)]:
        parts.append(table(("option", "value", "meaning"), rows))
    return "\n\n".join(parts)


def _help(command: click.Command) -> str:
    """The command's text; a paragraph that click does not fill becomes code."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        "\n".join(f"    {line}" for line in paragraph.splitlines()[1:])
        if paragraph.startswith("\b")
        else prose(" ".join(paragraph.split()))
        for paragraph in paragraphs
    )


def _options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def _row(option: click.Option) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    text = prose(option.help or "")
    default = option.default
    if option.show_default and not option.is_flag and isinstance(default, str | int | float | Path):
        text += f" Default: `{default}`."
    required = "required: " if option.required else ""
    return names, required + ("" if option.is_flag else _value(option)), text


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return alternatives([f"`{choice}`" for choice in option.type.choices])
    kind = option.type
    name = _PLAIN.get(kind.name, kind.name)
    if isinstance(kind, click.IntRange | click.FloatRange) and kind.min is not None:
        name += f" {'>' if kind.min_open else '>='} {kind.min:g}"
    if isinstance(kind, click.IntRange | click.FloatRange) and kind.max is not None:
        name += f", {'<' if kind.max_open else '<='} {kind.max:g}"
    return f"{name}{', repeatable' if option.multiple else ''}"
