"""`spillover cloud --check`: all mistakes at once, by the code of the start, and an exit code."""

import socket

import msgspec
import pytest
import structlog
from click.testing import CliRunner

from spillover.cloud.cli import cloud
from spillover.common.security.tokens import add_token
from tests.support.hostile import manifest_laughs
from tests.support.models import centre_detector, colour_classifier, identity
from tests.support.pki import Pki


@pytest.fixture(autouse=True)
def _log_as_before():
    """The command sets up the log of its process, which here is that of the tests."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def folder(tmp_path):
    """A CA, and a repository of two models."""
    Pki(tmp_path / "pki")
    colour_classifier(tmp_path / "models")
    identity(tmp_path / "models")
    return tmp_path


def every_model(folder):
    """What is loaded where no model is named."""
    return {"repository": str(folder / "models"), "default": "colour"}


def good(folder, **changes):
    """A configuration without a mistake, with `changes`."""
    tls = {"certificate": "cloud.crt", "key": "cloud.key", "client_ca": "ca.crt", "crl": "crl.pem"}
    return {
        "listen": "127.0.0.1:0",
        "metrics": None,
        "models": every_model(folder) | {"load": ["colour"]},
        "session": {"threads": 1},
        "security": {"tls": {key: str(folder / "pki" / name) for key, name in tls.items()}},
    } | changes


def check(folder, config, *options):
    """Exit code, and the lines of what is printed."""
    path = folder / "cloud.yaml"
    path.write_bytes(config if isinstance(config, bytes) else msgspec.yaml.encode(config))
    result = CliRunner().invoke(cloud, ["--check", "-c", str(path), *options])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def test_a_good_configuration_has_no_mistakes(folder):
    """Exit code 0, and what it amounts to: models, the certificate's end, threads, open files, memory."""
    code, output = check(folder, good(folder, models=every_model(folder)))
    assert code == 0, output
    assert output.endswith("no mistakes\n")
    for words in (
        "model colour@1",
        "classification, cpu",
        "tensors, cpu",
        "certificate ends",
        "open files",
        "memory for calls",
        "video",
        "memory for decoding",
    ):
        assert words in output
    assert "mistake:" not in output


def test_a_batch_size_that_does_nothing_is_told_by_model(folder):
    """A network whose file has a batch of one runs one at a time, whatever the configuration says."""
    centre_detector(folder / "models")
    config = good(folder, models=every_model(folder), batching={"max_batch_size": 10})
    code, output = check(folder, config)
    assert code == 0, output
    assert "batching: model centre@1: max_batch_size is 10, but the network takes 1 at a time" in output
    assert "model colour@1: max_batch_size" not in output
    usual = good(folder, models=every_model(folder), batching_of={"centre": {"max_batch_size": 1}})
    assert "max_batch_size is" not in check(folder, usual)[1]


def test_all_mistakes_are_told_at_once(folder):
    """Unknown keys, bad values, files, what keys say together, models: each on a line, with its key."""
    manifest_laughs(folder / "models")
    (folder / "pki" / "cloud.key").unlink()
    other = Pki(folder / "other")
    config = good(
        folder,
        listen="0.0.0.0:0",
        metrics="127.0.0.1:99999",
        limits={"max_pixels": -1, "max_streems": 3},
        batching_of={"colour": {"max_batch_size": 0}, "identity": {"instances": "two"}},
        lisen="x",
        models=every_model(folder),
    )
    config["security"]["tls"]["crl"] = str(other.crl)
    code, output = check(folder, config)
    assert code == 3
    for words in (
        ": lisen: there is no such key; did you mean listen?",
        ": limits.max_streems: there is no such key; did you mean limits.max_streams?",
        ": limits.max_pixels: must be a whole number above 0, not -1",
        ": batching_of.colour.max_batch_size: must be",
        ": batching_of.identity.instances: must be",
        "a port is at most 65535",
        f"security.tls.key: cannot read {folder}/pki/cloud.key",
        f"security.tls.crl: {other.crl} is not signed by a CA in",
        "hostile/1/model.yaml:1: not valid YAML: anchors",
    ):
        assert words in output
    assert output.endswith("9 mistakes\n"), output


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"listen": "0.0.0.0:0", "security": {}, "limits": {"max_streams": 0}}, "listen: 0.0.0.0:0 can be"),
        ({"listen": "192.0.2.1:1024", "security": {"allow_plaintext_network": True}}, "listen: "),
        ({"models": {"repository": "/nowhere"}}, "models.repository: /nowhere has no <name>/<version>"),
        ({"models": {"repository": "{models}", "load": ["colour@9", "x"]}}, "models.load: no version '9'"),
        ({"models": {"repository": "{models}", "default": "x"}}, "models.default: 'x' is not among"),
        ({"listen": "127.0.0.1:999", "metrics": "127.0.0.1:999"}, "metrics: 127.0.0.1:999 is the address"),
        ({"security": {"tokens_file": "{folder}/none.yaml"}}, "security.tokens_file: cannot read"),
        ({"security": {"tokens_file": "{folder}/cloud.yaml"}}, "cloud.yaml:1: listen: there is no such key"),
        ({"listen": "unix:/nowhere/s"}, "listen: /nowhere is no folder"),
        ({"listen": "unix:{folder}/cloud.yaml"}, "cloud.yaml exists and is no socket"),
        (
            {"listen": "unix:/tmp/s", "security": {"forwarded": {"client_ca": "{folder}/none.crt"}}},
            "security.forwarded.client_ca: cannot read",
        ),
    ],
)
def test_a_mistake_names_key_and_file(folder, config, says):
    """Whether in a value, in what it names, or in what two keys say together; exit code 3."""
    text = msgspec.yaml.encode(good(folder, **config)).decode()
    text = text.replace("{models}", str(folder / "models")).replace("{folder}", str(folder))
    code, output = check(folder, text.encode())
    assert code == 3, output
    assert says in output


@pytest.mark.parametrize("text", [b"a: [", b"- 1", b"\xff"])
def test_a_file_that_is_no_configuration_is_one_mistake(folder, text):
    """Named, with exit code 3 and no traceback."""
    code, output = check(folder, text)
    assert code == 3
    assert "mistake: " in output
    assert "cloud.yaml:" in output


def test_a_model_that_does_not_load_is_exit_code_4(folder):
    """As at the start; the others are loaded all the same."""
    manifest_laughs(folder / "models")
    code, output = check(folder, good(folder, models=every_model(folder)))
    assert code == 4
    assert f": models.repository: {folder}/models: not a model folder: hostile/1/model.yaml" in output
    assert "model colour@1" in output
    assert "model identity@1" in output
    assert check(folder, good(folder, models=every_model(folder)), "--model", "colour")[0] == 0


def test_a_certificate_that_has_ended_is_a_mistake(folder):
    """The server's; nobody could connect."""
    pki = Pki(folder / "old")
    pki.issue("cloud", "server", ("localhost",), days=-1)
    code, output = check(folder, good(folder, security={"tls": pki.server_tls(mutual=False)}))
    assert code == 3
    assert ": security.tls.certificate: " in output
    assert " ended on " in output


def test_what_is_worth_a_look_is_no_mistake(folder):
    """Readable secrets, a taken port, expired tokens and tokens of no role: warnings, exit code 0."""
    tokens = folder / "tokens.yaml"
    add_token(tokens, "camera-1", "device", -1)
    add_token(tokens, "alice", "queen", None)
    tokens.chmod(0o666)
    (folder / "pki" / "cloud.key").chmod(0o644)
    tls = {"certificate": str(folder / "pki" / "cloud.crt"), "key": str(folder / "pki" / "cloud.key")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        security = {"tls": tls, "tokens_file": str(tokens)}
        code, output = check(folder, good(folder, listen=address, security=security))
    assert code == 0, output
    for words in (
        f"security.tls.key: {folder}/pki/cloud.key can be read by all users",
        f"security.tokens_file: {tokens} can be changed by all users",
        "the token of 'camera-1' has expired",
        "'alice' has the role 'queen'",
        f"listen: cannot listen on {address}: Address already in use",
    ):
        assert words in output
