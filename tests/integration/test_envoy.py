"""Behind Envoy, as deploy/envoy sets it up: what goes through, who is believed, and what is kept away."""

import pytest

from tests.support.envoy import envoy_in_front, socket_folder
from tests.support.models import colour_classifier
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

RED = (0, 0, 255)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One model."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    """A server that Envoy alone can reach."""
    with socket_folder() as folder, serving(cloud_config(repository, listen=f"unix:{folder}/s")) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(server):
    """Envoy in the clear."""
    with envoy_in_front(server.address, None) as running:
        yield running


def test_a_unary_call_goes_through_and_is_logged(envoy):
    """The answer is the server's; the access log has one line of JSON."""
    with stub_of(envoy) as stub:
        assert stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).frame_id == "f1"
    envoy.wait_for(lambda: bool(envoy.access_log()))
    assert envoy.access_log()[0]["method"] == "/spillover.v1.Spillover/Infer"
    assert envoy.access_log()[0]["grpc_status"] == "OK"
