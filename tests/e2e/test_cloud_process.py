"""`spillover cloud` as a process: ready when it says so, drained on SIGTERM, and honest in its exit codes."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import grpc
import pytest

from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, cloud_process, wait_until
from tests.support.serving import CALL_S, jpeg_of, request_for


def test_sigterm_answers_what_is_in_flight_and_exits_with_0(tmp_path):
    """A request that waits for its batch when SIGTERM comes is answered; then the process exits with 0."""
    colour_classifier(tmp_path)
    batching = {"max_queue_delay_s": 1.0, "max_batch_size": 8}
    with (
        cloud_process(tmp_path, metrics="127.0.0.1:0", batching=batching) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        lines = iter(process.stderr.readline, "")
        metrics = next(found[1] for line in lines if (found := re.search(r"metrics=(\S+)", line)))

        def is_in_flight() -> bool:
            with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=CALL_S) as page:
                return b"spillover_in_flight 1.0" in page.read()

        answer = pb_grpc.SpilloverStub(channel).Infer.future(
            request_for(jpeg_of((0, 0, 255))), timeout=CALL_S
        )
        wait_until(is_in_flight, process)
        process.send_signal(signal.SIGTERM)
        assert answer.result(CALL_S).classification.class_id[0] == 0
        _, log = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
        assert re.search(r"stopped .*dropped=0", log)
        assert not (tmp_path / "ready").exists()


def test_sigint_stops_an_idle_server_at_once(tmp_path):
    """Ctrl-C on an idle server ends it with exit code 0."""
    colour_classifier(tmp_path)
    with cloud_process(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("listn: x", 3, "listn"),
        ("listen: 127.0.0.1:0\nmodels: {repository: /nowhere}", 3, "/nowhere"),
        ("listen: 127.0.0.1:0\nmodels: {load: [nobody]}", 3, "nobody"),
        ("listen: 192.0.2.1:1", 3, "192.0.2.1:1"),
    ],
)
def test_a_wrong_configuration_exits_with_3_and_names_the_fault(tmp_path, text, code, says):
    """One line on standard error, no traceback, and the exit code for configuration."""
    colour_classifier(tmp_path / "models")
    (tmp_path / "cloud.yaml").write_text(f"metrics: null\n{text}\n")
    done = subprocess.run(
        [sys.executable, "-m", "spillover.common.cli", "cloud", "-c", tmp_path / "cloud.yaml"],
        check=False, capture_output=True, text=True, timeout=LIMIT_S,
        env=os.environ | {"SPILLOVER_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_model_exits_with_4(tmp_path):
    """A network whose bytes are not those that model.yaml names is refused at the start."""
    folder = colour_classifier(tmp_path / "models")
    (folder / "model.onnx").write_bytes(b"not a network")
    # Another server of this machine may have the usual ports.
    (tmp_path / "cloud.yaml").write_text("metrics: null\nlisten: 127.0.0.1:0\n")
    done = subprocess.run(
        [sys.executable, "-m", "spillover.common.cli", "cloud", "-c", tmp_path / "cloud.yaml"],
        check=False, capture_output=True, text=True, timeout=LIMIT_S,
        env=os.environ | {"SPILLOVER_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "sha256" in done.stderr
