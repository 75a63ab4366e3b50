"""The commands that make, list and revoke bearer tokens, for whichever side listens."""

from pathlib import Path

import click

from spillover.common.security.tokens import add_token, read_tokens, revoke_tokens
from spillover.common.security.trail import audit_command

_file_option = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("tokens.yaml"),
    show_default=True,
    help="The file that `security.tokens_file` names.",
)


def token_commands(about: str, role: str, roles: str) -> click.Group:
    """These commands with `about` as help; `role` is the usual one, and `roles` says which there are."""
    group = click.Group(help=about)

    @group.command()
    @click.argument("name")
    @_file_option
    @click.option("--role", default=role, show_default=True, help=roles)
    @click.option(
        "--days", type=click.FloatRange(min=0, min_open=True), help="How long it holds; without, for ever."
    )
    def add(name: str, path: Path, role: str, days: float | None) -> None:
        """Make a token for NAME and print it, once: the file keeps its hash alone."""
        token = add_token(path, name, role, days)
        audit_command(path.parent, "tokens add", file=str(path), name=name, role=role)
        click.echo(token)

    @group.command()
    @click.argument("name")
    @_file_option
    def revoke(name: str, path: Path) -> None:
        """Take back every token of NAME, at once for who reads this file."""
        if not (count := revoke_tokens(path, name)):
            raise click.ClickException(f"{path} has no token of {name}")
        audit_command(path.parent, "tokens revoke", file=str(path), name=name, count=count)
        click.echo(f"revoked {count}")

    @group.command("list")
    @_file_option
    def list_tokens(path: Path) -> None:
        """List whose tokens there are."""
        for token in read_tokens(path):
            click.echo(f"{token.name:<24} {token.role:<12} {token.expires or 'for ever'}")

    return group
