"""The private CA by its commands, judged by OpenSSL's rules as `cryptography` applies them."""

import re
import stat
from datetime import timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from spillover.cloud.security.authority import Authority
from spillover.cloud.security.builders import Subject
from spillover.cloud.security.certificates import read_peer, read_revoked
from spillover.cloud.security.cli import certs
from spillover.common.errors import ConfigError, NotFoundError
from spillover.common.net.tls import load_key_pair, utc_now
from spillover.common.security.files import write_private
from spillover.common.security.tokens import Caller


@pytest.fixture
def folder(tmp_path):
    """A fresh CA."""
    folder = tmp_path / "pki"
    assert run("init", folder).exit_code == 0
    return folder


def run(command, folder, *arguments, typed=""):
    """One command; a ConfigError is raised, a usage error is a result."""
    result = CliRunner().invoke(certs, [command, "--folder", str(folder), *arguments], input=typed)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def verifier(folder):
    """Judges by the CA of `folder`."""
    ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    return PolicyBuilder().store(Store([ca]))


def certificate(folder, name):
    """The certificate that was written for `name`."""
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_a_device_gets_an_identity(folder):
    """The certificate is of the device and its role, verifies as a client's, and its key is 0600."""
    assert run("issue", folder, "camera-1").exit_code == 0
    found = certificate(folder, "camera-1")
    assert read_peer((folder / "camera-1.crt").read_bytes()).caller == Caller("camera-1", "device")
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.2"]
    load_key_pair(folder / "camera-1.crt", folder / "camera-1.key", "test")
    for secret in ("camera-1.key", "ca.key"):
        assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600


def test_a_server_is_verified_by_its_names(folder):
    """A server's certificate verifies for each of its hosts, and for no other."""
    hosts = ("cloud.example", "192.0.2.7")
    run("issue", folder, "cloud", "--role", "server", *(f"--host={host}" for host in hosts))
    builder = verifier(folder)
    subject = x509.DNSName("cloud.example")
    builder.build_server_verifier(subject).verify(certificate(folder, "cloud"), [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(certificate(folder, "cloud"), [])
    run("issue", folder, "camera-1")
    with pytest.raises(VerificationError):
        builder.build_server_verifier(subject).verify(certificate(folder, "camera-1"), [])


def test_a_certificate_begins_before_it_was_made(folder):
    """A device whose clock stands months behind still takes it; the CA begins no later than what it signs."""
    run("issue", folder, "camera-1")
    for name in ("ca", "camera-1"):
        assert certificate(folder, name).not_valid_before_utc < utc_now() - timedelta(days=300)


def test_no_certificate_outlives_its_authority(folder):
    """Asked for longer than the CA lasts, the certificate ends with the CA."""
    run("issue", folder, "camera-1", "--days", "36500")
    ends = certificate(folder, "camera-1").not_valid_after_utc
    assert ends == certificate(folder, "ca").not_valid_after_utc


def test_renewal_keeps_role_and_hosts(folder):
    """`renew` makes a new key for the same subject; the old certificate is not revoked by it."""
    run("issue", folder, "cloud", "--role", "server", "--host", "cloud.example", "--days", "3")
    old = certificate(folder, "cloud")
    assert "cloud" in run("list", folder, "--within", "7").output
    assert run("issue", folder, "cloud", "--role", "server", "--host", "cloud.example").exit_code == 1
    assert run("renew", folder, "cloud").exit_code == 0
    new = certificate(folder, "cloud")
    assert new.subject == old.subject
    assert new.public_key() != old.public_key()
    verifier(folder).build_server_verifier(x509.DNSName("cloud.example")).verify(new, [])
    assert read_revoked(folder / "crl.pem", folder / "ca.crt") == frozenset()


def test_a_revoked_name_is_not_renewed(folder):
    """Nor by an older certificate that has merely expired; a good one beside the revoked may be renewed."""
    run("issue", folder, "camera-1", "--days", "30")
    run("revoke", folder, "camera-1")
    with pytest.raises(ConfigError, match=r"'camera-1' was revoked .*`certs issue`"):
        run("renew", folder, "camera-1")
    Authority(folder).issue(Subject("camera-1", "device"), -1)
    with pytest.raises(ConfigError, match="was revoked"):
        run("renew", folder, "camera-1")
    assert run("issue", folder, "camera-1", "--days", "3").exit_code == 0  # ends before the revoked one would
    assert run("renew", folder, "camera-1").exit_code == 0
    assert read_peer((folder / "camera-1.crt").read_bytes()).caller == Caller("camera-1", "device")


PASSPHRASE = "correct horse battery"


def test_the_key_is_encrypted_on_request(tmp_path):
    """Every command that signs takes the passphrase, from a file or as it is typed; `list` needs none."""
    folder, file = tmp_path / "pki", tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    file.chmod(0o600)
    option = f"--passphrase-file={file}"
    assert run("init", folder, option).exit_code == 0
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (folder / "ca.key").read_bytes()
    assert run("issue", folder, "camera-1", option).exit_code == 0
    assert run("renew", folder, "camera-1", typed=PASSPHRASE).exit_code == 0
    assert run("revoke", folder, "camera-1", option).exit_code == 0
    assert run("list", folder).output.count("revoked") == 2
    load_key_pair(folder / "camera-1.crt", folder / "camera-1.key", "test")  # which a daemon has to read


def test_a_typed_passphrase_is_asked_twice(tmp_path):
    """So that a slip of the finger does not lose the authority."""
    folder = tmp_path / "pki"
    result = run(
        "init", folder, "--encrypt", typed=f"{PASSPHRASE}\n{PASSPHRASE}x\n{PASSPHRASE}\n{PASSPHRASE}"
    )
    assert result.exit_code == 0
    assert run("issue", folder, "camera-1", typed=PASSPHRASE).exit_code == 0
    assert PASSPHRASE not in result.output


@pytest.mark.parametrize(
    ("typed", "says"),
    [("wrong", r"ca\.key: wrong passphrase"), ("", r"ca\.key: none was given; --passphrase-file")],
)
def test_without_the_passphrase_nothing_is_signed(tmp_path, typed, says):
    """The error names the key, and the way to give a passphrase."""
    folder = tmp_path / "pki"
    Authority.create(folder, "CA", PASSPHRASE.encode())
    for command in ("issue", "revoke", "renew"):
        with pytest.raises((ConfigError, NotFoundError)) as caught:
            run(command, folder, "camera-1", typed=typed)
        assert command != "issue" or re.search(says, str(caught.value))
    assert not (folder / "issued").exists()


@pytest.mark.parametrize(("text", "says"), [("short", "fewer than 16"), ("\n", "is empty")])
def test_a_passphrase_that_protects_nothing_is_refused(tmp_path, text, says):
    """And no authority is made."""
    file = tmp_path / "passphrase"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        run("init", tmp_path / "pki", f"--passphrase-file={file}")
    assert not (tmp_path / "pki").exists()


def test_a_key_that_all_can_read_is_warned_of(folder):
    """By every command that opens the authority."""
    (folder / "ca.key").chmod(0o644)
    assert "ca.key can be read by all users" in run("issue", folder, "camera-1").stderr


def test_revocation_adds_up(folder):
    """Each `revoke` signs a list that still has those before; `--serial` takes one and leaves the rest."""
    for name in ("a", "b"):
        run("issue", folder, name)
    first = certificate(folder, "a")
    run("renew", folder, "a")
    second = certificate(folder, "a")
    run("revoke", folder, "a", "--serial", f"{first.serial_number:x}")
    assert revoked(folder) == {first.serial_number}
    run("revoke", folder, "b")
    run("revoke", folder, "a")
    assert revoked(folder) == {
        first.serial_number,
        second.serial_number,
        certificate(folder, "b").serial_number,
    }
    assert "revoked" in run("list", folder).output


def revoked(folder):
    """Serial numbers on the list, as a server reads it."""
    return {serial for _, serial in read_revoked(folder / "crl.pem", folder / "ca.crt")}


def test_a_request_made_on_the_device_needs_no_key_to_travel(folder, tmp_path):
    """With --csr the public key is taken, the name is not, and no private key is written."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_request(tmp_path / "device.csr", key, "the-operator")
    assert run("issue", folder, "camera-1", "--csr", str(tmp_path / "device.csr")).exit_code == 0
    found = certificate(folder, "camera-1")
    assert found.public_key() == key.public_key()
    assert read_peer((folder / "camera-1.crt").read_bytes()).caller.name == "camera-1"
    assert not (folder / "camera-1.key").exists()


def test_a_request_of_another_kind_is_refused(folder, tmp_path):
    """A key that TLS here could not use, or bytes that are no request, are named."""
    write_request(tmp_path / "device.csr", ed25519.Ed25519PrivateKey.generate(), "camera-1", None)
    with pytest.raises(ConfigError, match=r"device\.csr"):
        run("issue", folder, "camera-1", "--csr", str(tmp_path / "device.csr"))
    (tmp_path / "device.csr").write_bytes(b"-")
    with pytest.raises(ConfigError, match=r"device\.csr"):
        run("issue", folder, "camera-1", "--csr", str(tmp_path / "device.csr"))


def write_request(path, key, name, digest=hashes.SHA256()):  # noqa: B008 - a value without state
    """A signing request."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, digest)
    path.write_bytes(request.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    "arguments",
    [
        ("cloud", "--role", "server"),
        ("camera-1", "--host", "cloud.example"),
        ("ca",),
        ("../camera-1",),
        ("camera 1",),
        ("camera-1", "--role", "a/b"),
        ("camera-1", "--days", "0"),
    ],
)
def test_wrong_use_is_explained(folder, arguments):
    """A server without a host, a name that is a path, no days at all: usage errors, and nothing is issued."""
    result = run("issue", folder, *arguments)
    assert result.exit_code == 2
    assert not run("list", folder).output


def test_an_authority_is_never_overwritten(folder):
    """A second `init` is refused and leaves the key as it is."""
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(ConfigError, match="not overwritten"):
        run("init", folder)
    assert (folder / "ca.key").read_bytes() == before


def test_without_an_authority_there_is_nothing_to_issue_from(tmp_path):
    """The error says how to make one."""
    with pytest.raises(ConfigError, match="certs init"):
        Authority(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    """A secret that cannot be put in place leaves the old file and nothing beside it."""
    target = tmp_path / "secret"
    target.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(ConfigError, match="secret"):
        write_private(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_pair_that_does_not_fit_is_named(folder):
    """Certificate and key of different people: the error has the key's path in the configuration."""
    run("issue", folder, "a")
    run("issue", folder, "b")
    with pytest.raises(ConfigError, match=r"uplink\.tls\.key"):
        load_key_pair(folder / "a.crt", folder / "b.key", "uplink.tls")


def test_a_folder_that_cannot_be_used_is_named(folder, tmp_path):
    """A file in a folder's place, and a damaged certificate among those issued: ConfigError, no traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        Authority.create(tmp_path / "file" / "pki", "CA")
    (folder / "issued").mkdir()
    (folder / "issued" / "1.crt").write_text("-")
    with pytest.raises(ConfigError, match=r"1\.crt"):
        run("list", folder)
