"""Command lines checked against click's own parsers, without running anything."""

import shlex

import click


def check_command(command: click.Command, arguments: list[str], *, complete: bool) -> None:
    """Parse `arguments`, down to the last command named.

    Options must exist, and choices must be among theirs. With `complete` what is required must be there, and
    each option have its value. Types are not converted, since the files need not exist.

    Raises:
        click.UsageError: the line would be refused.
    """
    context = click.Context(command, info_name=command.name)
    parser = command.make_parser(context)
    parser.ignore_unknown_options = False
    parser.allow_interspersed_args = not isinstance(command, click.Group)
    try:
        given, rest, _ = parser.parse_args(list(arguments))
    except click.BadOptionUsage:  # an option at the end without its value
        if complete:
            raise
        return
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        if inner is None:
            raise click.UsageError(f"{command.name} has no command {rest[0]}")
        check_command(inner, rest[1:], complete=complete)
        return
    if rest:
        raise click.UsageError(f"{command.name} takes no argument {rest[0]}")
    for param in command.params:
        value = given.get(param.name or "")
        if complete and param.required and not value:
            raise click.UsageError(f"{command.name} needs {param.name}")
        if (
            isinstance(param.type, click.Choice)
            and isinstance(value, str)
            and value not in param.type.choices
        ):
            raise click.UsageError(f"{command.name}: {param.name} cannot be {value}")


def words_after(line: str, program: str) -> list[str] | None:
    """The arguments of `program` in a line of shell, up to a pipe or the like; None if it is not there."""
    if program not in line:
        return None
    found = shlex.split(line, comments=True)
    parts = program.split()
    for start in range(len(found)):
        if found[start : start + len(parts)] == parts:
            words = found[start + len(parts) :]
            ends = [index for index, word in enumerate(words) if word in {"|", ">", "&&", ";"}]
            return words[: ends[0]] if ends else words
    return None
