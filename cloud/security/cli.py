"""`spillover cloud certs` and `spillover cloud tokens`."""

import re
from pathlib import Path

import click
from cryptography import x509

from spillover.cloud.security.authority import CA_CERTIFICATE, CA_KEY, CRL, Authority, Issued
from spillover.cloud.security.builders import SERVER, Subject, load_request
from spillover.cloud.security.roles import NAME_PATTERN
from spillover.common.errors import ConfigError
from spillover.common.files import exposure
from spillover.common.net.reload import read_file
from spillover.common.security.cli import token_commands
from spillover.common.security.files import write_private, write_public
from spillover.common.security.trail import audit_command

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("pki"),
    show_default=True,
    help="Where the certificate authority is kept.",
)
days_option = click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    default=365.0,
    show_default=True,
    help="How long it holds.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file whose first line is the passphrase of ca.key; without it you are asked, if there is one.",
)


@click.group()
def certs() -> None:
    """Make certificates of your own for TLS: a private CA, servers, devices, operators.

    \b
    spillover cloud certs init
    spillover cloud certs issue cloud --role server --host cloud.example --host 192.0.2.7
    spillover cloud certs issue camera-1
    spillover cloud certs revoke camera-1
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace


@certs.command()
@folder_option
@click.option(
    "--name", default="Spillover CA", show_default=True, help="What the CA is called in certificates."
)
@click.option("--encrypt", is_flag=True, help="Encrypt ca.key; you are asked for a passphrase.")
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Encrypt ca.key by the first line of this file.",
)
def init(folder: Path, name: str, passphrase_file: Path | None, *, encrypt: bool) -> None:
    """Make the certificate authority. Keep the folder off the network: its ca.key can forge any identity."""
    passphrase = b""
    if passphrase_file:
        passphrase = _read_passphrase(passphrase_file)
    elif encrypt:
        passphrase = _prompt("Passphrase for ca.key", again=True)
    Authority.create(folder, name, passphrase)
    audit_command(folder, "certs init", name=name)
    click.echo(
        f"{folder / CA_CERTIFICATE}: give it to servers (security.tls.client_ca) and devices (uplink.tls.ca)"
    )
    click.echo(f"{folder / CRL}: give it to servers (security.tls.crl), again after each `revoke`")


@certs.command()
@click.argument("name")
@folder_option
@days_option
@click.option(
    "--role", default="device", show_default=True, help="device, operator, server, or one of cloud.yaml."
)
@click.option("--host", "hosts", multiple=True, help="A DNS name or IP address of a server; may be repeated.")
@click.option(
    "--csr",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="A signing request made on the device itself, so that its private key never travels.",
)
@passphrase_option
def issue(
    name: str,
    folder: Path,
    days: float,
    role: str,
    hosts: tuple[str, ...],
    csr: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Issue a certificate for NAME, a device's `device_id`; writes <folder>/NAME.crt and NAME.key."""
    authority = _open(folder, passphrase_file)
    if (role == SERVER) != bool(hosts):
        raise click.UsageError("A server needs --host, and only a server has one.")
    if any(one.subject.name == name and one.is_good for one in authority.issued()):
        raise click.ClickException(f"{name} has a certificate; `certs renew {name}` makes its next one.")
    _issue("certs issue", authority, _subject(name, role, hosts), days, csr)


@certs.command()
@click.argument("name")
@folder_option
@days_option
@click.option("--csr", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="As for `issue`.")
@passphrase_option
def renew(name: str, folder: Path, days: float, csr: Path | None, passphrase_file: Path | None) -> None:
    """Issue the next certificate for NAME, same role and hosts. The old one holds until it ends.

    A name that was revoked is refused: `issue` makes a certificate for the device that takes its place.
    """
    authority = _open(folder, passphrase_file)
    _issue("certs renew", authority, authority.renewable(name).subject, days, csr)


@certs.command()
@click.argument("name")
@folder_option
@click.option("--serial", help="Only this one of its certificates, as `list` shows it.")
@passphrase_option
def revoke(name: str, folder: Path, serial: str | None, passphrase_file: Path | None) -> None:
    """Take back every certificate of NAME. Servers refuse it once they have the new crl.pem."""
    number = None if serial is None else _serial(serial)
    for one in _open(folder, passphrase_file).revoke(name, number):
        audit_command(folder, "certs revoke", name=name, serial=f"{one.certificate.serial_number:x}")
        click.echo(f"revoked {_line(one)}")
    click.echo(f"copy {folder / CRL} to each server, over the file that security.tls.crl names")


@certs.command("list")
@folder_option
@click.option("--within", type=float, help="Only good ones that end within so many days: those to renew.")
def list_issued(folder: Path, within: float | None) -> None:
    """List every certificate that was issued."""
    for one in Authority(folder).issued():
        if within is None or (one.is_good and one.days_left <= within):
            click.echo(_line(one))


tokens = token_commands(
    "Make and revoke bearer tokens, for callers without certificates of their own.",
    role="device",
    roles="device, operator, or one of cloud.yaml.",
)


def _open(folder: Path, passphrase_file: Path | None) -> Authority:
    """The authority; its passphrase comes from the file, else from whoever sits there."""
    key = folder / CA_KEY
    if exposed := exposure(key):
        click.echo(f"{key} {exposed}", err=True)

    def ask() -> bytes:
        return _read_passphrase(passphrase_file) if passphrase_file else _prompt(f"Passphrase of {key}")

    return Authority(folder, ask)


def _read_passphrase(path: Path) -> bytes:
    """The first line of the file. Raises ConfigError."""
    if exposed := exposure(path):
        click.echo(f"{path} {exposed}", err=True)
    lines = read_file(path, "--passphrase-file").splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"--passphrase-file: the first line of {path} is empty")
    return lines[0]


def _prompt(text: str, *, again: bool = False) -> bytes:
    """What is typed, unseen. Raises ConfigError when nobody can be asked."""
    try:
        return str(click.prompt(text, hide_input=True, confirmation_prompt=again, err=True)).encode()
    except click.Abort as error:
        raise ConfigError(f"{text}: none was given; --passphrase-file names a file that has it") from error


def _issue(action: str, authority: Authority, subject: Subject, days: float, csr: Path | None) -> None:
    certificate, key = authority.issue(subject, days, load_request(csr) if csr else None)
    serial = f"{x509.load_pem_x509_certificate(certificate).serial_number:x}"
    audit_command(authority.folder, action, name=subject.name, role=subject.role, serial=serial)
    key_path, path = (authority.folder / f"{subject.name}.{ending}" for ending in ("key", "crt"))
    if key:
        write_private(key_path, key)
        click.echo(f"{key_path}: the private key; move it to where it is used, and keep no copy")
    write_public(path, certificate)
    click.echo(f"{path}: the certificate of {subject.name} ({subject.role}), for {days:g} days")


def _subject(name: str, role: str, hosts: tuple[str, ...]) -> Subject:
    for what in (name, role):
        if not _is_name(what):
            raise click.UsageError(
                f"{what!r} cannot be a name: letters, digits, . _ - and at most 64 of them."
            )
    if name == Path(CA_CERTIFICATE).stem:
        raise click.UsageError(f"{name!r} is the CA's own name here.")
    return Subject(name, role, hosts)


def _is_name(text: str) -> bool:
    return re.fullmatch(NAME_PATTERN, text) is not None


def _serial(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no hexadecimal number", param_hint="--serial") from None


def _line(one: Issued) -> str:
    ends = f"{one.certificate.not_valid_after_utc:%Y-%m-%d}"
    state = (
        "revoked" if one.revoked else "expired" if one.days_left <= 0 else f"{one.days_left:.0f} days left"
    )
    return (
        f"{one.subject.name:<24} {one.subject.role:<12} {ends}  {state:<16} {one.certificate.serial_number:x}"
    )
