"""A server process and model folders that would never end loading: refused by name, and it stops in time."""

import signal
from pathlib import Path

import grpc
import pytest

from spillover.common.wire.pb import open_inference_pb2 as oip
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from tests.support.hostile import NAME, endless_loop
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, children_of, cloud_process, wait_until
from tests.support.serving import CALL_S


def load(operator, name):
    """Ask for a load; its call."""
    return operator.RepositoryModelLoad.future(
        oip.RepositoryModelLoadRequest(model_name=name), timeout=CALL_S
    )


def test_a_load_that_never_ends_is_refused_and_the_next_is_good(tmp_path):
    """Eight times, more than there are threads for loading; then a good model loads, and SIGTERM ends it."""
    colour_classifier(tmp_path)
    models = {"repository": str(tmp_path), "load": ["colour"], "load_timeout_s": 1.0}
    with (
        cloud_process(tmp_path, models=models) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        operator = oip_grpc.GRPCInferenceServiceStub(channel)
        endless_loop(tmp_path)
        colour_classifier(tmp_path, "other")
        for _ in range(8):
            with pytest.raises(grpc.RpcError, match=r"hostile/1/model\.onnx: not loaded and run once"):
                load(operator, NAME).result()
        assert not children_of(process.pid)
        load(operator, "other").result()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, log


def test_a_stop_does_not_wait_for_a_load_that_never_ends(tmp_path):
    """It ends within `stop_timeout_s`, with exit code 0: the trial is ended with it."""
    colour_classifier(tmp_path)
    models = {"repository": str(tmp_path), "load": ["colour"]}
    with (
        cloud_process(tmp_path, models=models, stop_timeout_s=2.0) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        endless_loop(tmp_path)
        call = load(oip_grpc.GRPCInferenceServiceStub(channel), NAME)
        wait_until(lambda: bool(children_of(process.pid)), process)
        [child] = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, log
        assert not Path(f"/proc/{child}").exists()
        assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
