"""A server without a free descriptor can still be asked how it is, and serves again when there are some."""

import re
import resource
import socket
import sys
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier
from tests.support.processes import cloud_process, wait_until
from tests.support.serving import CALL_S

SPARE = 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process")
def test_probes_and_metrics_answer_while_strangers_hold_every_descriptor(tmp_path):
    """More connections than the process may open files: each page answers, and calls do once they leave."""
    colour_classifier(tmp_path)
    with cloud_process(tmp_path, metrics="127.0.0.1:0") as (process, address):
        lines = iter(process.stderr.readline, "")
        page = next(found[1] for line in lines if (found := re.search(r"serving .*metrics=(\S+)", line)))
        descriptors = Path(f"/proc/{process.pid}/fd")

        def used() -> int:
            return len(list(descriptors.iterdir()))

        limit = used() + SPARE
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        host, _, port = address.rpartition(":")
        with ExitStack() as stack:
            for _ in range(2 * SPARE):
                stranger = stack.enter_context(socket.socket())
                stranger.settimeout(CALL_S)
                with suppress(TimeoutError):
                    stranger.connect((host, int(port)))
            wait_until(lambda: used() >= limit, process)
            for path in ("/livez", "/readyz", "/metrics") * 5:
                with urllib.request.urlopen(f"http://{page}{path}", timeout=CALL_S) as answer:
                    assert answer.status == 200
        with grpc.insecure_channel(address) as channel:
            models = pb_grpc.SpilloverStub(channel).ListModels(
                pb.ListModelsRequest(), timeout=CALL_S, wait_for_ready=True
            )
            assert [one.model.name for one in models.models] == ["colour"]
