"""The metrics page: open on loopback, and behind the same identities as gRPC where there are any."""

import socket
import ssl
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from spillover.common.security.tokens import add_token
from tests.support.models import colour_classifier
from tests.support.pki import Pki
from tests.support.serving import CALL_S, cloud_config, serving


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, a device, an operator."""
    pki = Pki(tmp_path_factory.mktemp("pki") / "ca")
    pki.issue("camera-1")
    pki.issue("alice", "operator")
    return pki


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One model."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


def page(server, context=None, token=None, path="/metrics"):
    """The page, or the status of its refusal."""
    scheme = "https" if context else "http"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{scheme}://{server.metrics_address}{path}", headers=headers)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=CALL_S) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def client(pki, name=None):
    """What a scraper trusts and shows."""
    context = ssl.create_default_context(cafile=pki.ca)
    if name:
        context.load_cert_chain(pki.certificate(name), pki.key(name))
    return context


def test_without_identities_loopback_is_open(repository):
    """A server for this machine alone shows its metrics to this machine."""
    with serving(cloud_config(repository, metrics="127.0.0.1:0")) as server:
        assert "spillover_loaded_models 1.0" in page(server)


def test_with_tokens_the_page_wants_one_that_may(repository, pki, tmp_path):
    """No token 401, a device's 403, an operator's opens; a role may have metrics and nothing else."""
    tokens = tmp_path / "tokens.yaml"
    device, operator, scraper = (
        add_token(tokens, f"{role}-1", role, None) for role in ("device", "operator", "prometheus")
    )
    security = {
        "tls": pki.server_tls(mutual=False),
        "tokens_file": str(tokens),
        "roles": {
            "device": ["infer"],
            "operator": ["infer", "control", "metrics"],
            "prometheus": ["metrics"],
        },
    }
    context = client(pki)
    with serving(cloud_config(repository, metrics="127.0.0.1:0", security=security)) as server:
        assert page(server, context) == 401
        assert page(server, context, path="/livez") == "ok\n"
        assert page(server, context, path="/readyz") == "ok\n"
        assert page(server, context, path="/other") == 404
        assert page(server, context, f"{device}x") == 401
        assert page(server, context, device) == 403
        assert "spillover_loaded_models" in page(server, context, operator)
        assert "spillover_loaded_models" in page(server, context, scraper)


def test_with_certificates_the_page_wants_one_that_may(repository, pki):
    """No certificate 401 or a probe's page, a device's 403, an operator's opens, a revoked one 401."""
    pki.issue("bob", "operator")
    security = {"tls": pki.server_tls(mutual=True)}
    with serving(cloud_config(repository, metrics="127.0.0.1:0", security=security)) as server:
        assert page(server, client(pki)) == 401
        assert page(server, client(pki), path="/livez") == "ok\n"
        assert page(server, client(pki), path="/readyz") == "ok\n"
        assert page(server, client(pki, "camera-1")) == 403
        assert "spillover_loaded_models" in page(server, client(pki, "alice"))
        assert "spillover_loaded_models" in page(server, client(pki, "bob"))
        pki.authority.revoke("bob")
        assert page(server, client(pki, "bob")) == 401


def test_slow_clients_keep_nobody_out(repository, pki, tmp_path):
    """Strangers who send byte by byte hold what places they can get; each scrape and probe is answered."""
    tokens = tmp_path / "tokens.yaml"
    operator = add_token(tokens, "alice", "operator", None)
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    with serving(cloud_config(repository, metrics="127.0.0.1:0", security=security)) as server:
        host, _, port = server.metrics_address.rpartition(":")
        slow = [socket.create_connection((host, int(port)), timeout=CALL_S) for _ in range(32)]
        for one in slow:
            with suppress(OSError):  # it has had to go already
                one.sendall(b"\x16")
        for _ in range(3):
            assert "spillover_loaded_models" in page(server, client(pki), operator)
            assert page(server, client(pki), path="/livez") == "ok\n"
        for one in slow:
            one.close()
