"""An edge whose cloud is a server of the Open Inference Protocol: whole daemons, real gRPC, real networks."""

import threading
import time

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.common.images import EncodedImage
from spillover.common.security.tokens import add_token
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.sinks.record import Record
from spillover.edge.spool.arena import Arena
from spillover.edge.spool.frames import SpooledFrame
from spillover.lab.records import read_records
from tests.support.models import SIDE, centre_detector, colour_classifier
from tests.support.pki import Pki
from tests.support.scripted_cloud import PATIENCE_S, no_server_address
from tests.support.scripted_oip import RefusedError, gives, logits, scripted_oip
from tests.support.serving import cloud_config, serving

BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


class Bench:
    """Pictures of one colour each, a model on both sides, and daemons over them."""

    def __init__(self, folder, model=colour_classifier, outputs=("logits",)):
        self.folder = folder
        self.output = folder / "out.jsonl"
        self.models = folder / "models"
        self.model = model(self.models)
        self.oip = {"manifest": str(self.model), "input": "image", "outputs": list(outputs)}
        self.pictures = folder / "pictures"
        self.pictures.mkdir()

    def paint(self, *colours, size=(2 * SIDE, 3 * SIDE)):
        """One picture of each colour; `size` is (height, width)."""
        for index, colour in enumerate(colours):
            cv2.imwrite(str(self.pictures / f"{index}.png"), np.full((*size, 3), BGR[colour], np.uint8))

    def daemon(self, address, uplink=None, **sections) -> Daemon:
        """A daemon in mode `cloud_only`."""
        base = {
            "mode": "cloud_only",
            "camera": {"source": str(self.pictures), "pace": "fast"},
            "model": {"folder": str(self.model), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(self.output), "decision": "full"}],
            "uplink": {"address": address, "protocol": "oip", "oip": self.oip} | (uplink or {}),
            "deadline_s": PATIENCE_S,
            "stop_timeout_s": PATIENCE_S,
        }
        return Daemon(msgspec.convert(base | sections, EdgeConfig))

    def run(self, address, uplink=None, **sections) -> list[Record]:
        """Run one to the end of its pictures: the results in order."""
        self.daemon(address, uplink, **sections).run()
        return sorted(read_records(self.output), key=lambda record: record.sequence)


@pytest.fixture
def bench(tmp_path):
    """A bench of classifiers."""
    return Bench(tmp_path)


def test_our_own_cloud_answers_tensors(bench):
    """Each frame is answered by the server's network: class, model, and the bytes that really left."""
    bench.paint("red", "green", "blue")
    with serving(cloud_config(bench.models)) as server:
        records = bench.run(server.address, {"max_classes": 2})
    assert [(r.answered_by, str(r.model), r.revision) for r in records] == [("cloud", "colour@1", 0)] * 3
    assert [r.classes[0].class_id for r in records if r.classes] == [0, 1, 2]
    assert {len(r.classes or ()) for r in records} == {2}
    assert {r.payload_bytes for r in records} == {4 * 3 * SIDE * SIDE}
    assert all(r.timings.encode_s > 0 and r.timings.network_s > 0 for r in records)


def test_boxes_are_in_pixels_of_the_frame(tmp_path):
    """The same boxes as through our own protocol, for a frame four times as large as the input."""
    bench = Bench(tmp_path, centre_detector, ("rows",))
    bench.paint("red", size=(4 * SIDE, 6 * SIDE))
    with serving(cloud_config(bench.models)) as server:
        bench.run(server.address)
        records = bench.run(server.address, {"protocol": "spillover", "oip": None})
    by_tensor, by_picture = (
        record.boxes for record in sorted(records, key=lambda r: r.payload_bytes, reverse=True)
    )
    np.testing.assert_allclose(by_tensor[0].xyxy, [1.5 * SIDE, SIDE, 4.5 * SIDE, 3 * SIDE], atol=0.01)
    np.testing.assert_allclose(by_tensor[0].xyxy, by_picture[0].xyxy, atol=0.01)
    assert by_tensor[0].confidence == pytest.approx(by_picture[0].confidence, abs=0.01)


def test_a_device_is_known_by_certificate_and_token(bench):
    """TLS and the token of `uplink` hold for this protocol as for our own; without the token nothing goes."""
    bench.paint("green")
    pki = Pki(bench.folder / "pki")
    tokens, token_file = bench.folder / "tokens.yaml", bench.folder / "token"
    token_file.write_text(add_token(tokens, "edge", "device", None))
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    tls = {"tls": {"ca": str(pki.ca)}}
    with serving(cloud_config(bench.models, security=security)) as server:
        [refused] = bench.run(server.address, tls, device_id="edge")
        bench.output.unlink()
        [answered] = bench.run(server.address, tls | {"token_file": str(token_file)}, device_id="edge")
    assert (refused.answered_by, refused.error.partition(":")[0]) == ("edge_degraded", "unauthenticated")
    assert answered.answered_by == "cloud"


def test_what_is_hidden_is_hidden_in_the_tensor(tmp_path):
    """Redaction comes before the tensor is made: inside the box it is black, outside it is the picture."""
    bench = Bench(tmp_path, centre_detector, ("rows",))
    cv2.imwrite(str(bench.pictures / "0.png"), np.full((64, 64, 3), 255, np.uint8))
    with scripted_oip(gives({"rows": np.zeros((1, 5, 1), np.float32)})) as cloud:
        bench.run(cloud.address, redaction={"classes": [0], "style": "fill", "margin": 0.0})
    [request] = cloud.requests
    tensor = request.inputs["image"][0]
    assert (tensor[:, 5:11, 5:11] == 0).all()
    assert (tensor[:, :3] == 1).all()


def test_the_request_says_what_the_configuration_says(bench):
    """Names of model, version, input and outputs are the configured ones; the id is the frame's."""
    bench.paint("red")
    oip = bench.oip | {"input": "pixels", "outputs": ["logits"], "datatype": "FP16"}
    with scripted_oip(gives(logits(1, 3, 2))) as cloud:
        [record] = bench.run(cloud.address, {"model_name": "m", "model_version": "4", "oip": oip})
    [request] = cloud.requests
    assert (request.model_name, request.model_version, request.outputs) == ("m", "4", ("logits",))
    assert request.request_id == record.frame_id
    assert request.inputs["pixels"].dtype == np.float16
    assert record.payload_bytes == 2 * 3 * SIDE * SIDE
    assert (str(record.model), record.classes[0].class_id) == ("big@7", 1)


@pytest.mark.parametrize(
    ("behaviour", "because"),
    [
        (gives(logits(1, 2, 3), request_id="somebody-else"), "it is for frame 'somebody-else'"),
        (gives({"other": np.zeros((1, 3), np.float32)}), "reply has no output 'logits'"),
        (gives({"logits": np.zeros((2, 3), np.float32)}), "not one row"),
        (gives({"logits": np.array([[b"a"]], np.object_)}), "not one row"),
        (gives({"logits": np.array([[1, np.nan]], np.float32)}), "not a number"),
        (gives({"logits": np.zeros((1, 0), np.float32)}), "empty"),
    ],
)
def test_an_answer_that_is_none_is_not_believed(bench, behaviour, because):
    """Whatever a server says, the frame has its local answer, and the reason names what was wrong."""
    bench.paint("blue")
    with scripted_oip(behaviour) as cloud:
        [record] = bench.run(cloud.address)
    assert (record.answered_by, record.classes[0].class_id) == ("edge_degraded", 2)
    assert record.error.startswith("bad_reply: ")
    assert because in record.error


def test_frames_that_wait_are_small_and_are_sent_as_tensors(bench):
    """Without a link a JPEG waits on the disk; when the server is back it gets a tensor of it."""
    bench.paint("red", "blue")
    spool = {"path": str(bench.folder / "spool.dat"), "max_mb": 2.0}
    bench.run(no_server_address(), spool=spool)
    arena = Arena(bench.folder / "spool.dat", 2_000_000)
    waiting = [
        SpooledFrame(arena.read(header.record_id) or b"").encoded_frame for header, _ in arena.places()
    ]
    arena.close()
    assert [type(encoded_frame.payload) for encoded_frame in waiting] == [EncodedImage, EncodedImage]
    for path in bench.pictures.iterdir():
        path.unlink()
    bench.paint("green")
    camera = {"source": str(bench.pictures), "loop": True, "fps": 20}
    with serving(cloud_config(bench.models)) as server:
        daemon = bench.daemon(server.address, spool=spool, camera=camera)
        runner = threading.Thread(target=daemon.run)
        runner.start()
        give_up_s = time.monotonic() + PATIENCE_S
        while daemon.metrics.summary().get("spool_frames[answered]", 0) < 2:
            assert time.monotonic() < give_up_s
            threading.Event().wait(0.02)
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
    late = [record for record in read_records(bench.output) if record.revision]
    assert sorted(record.classes[0].class_id for record in late) == [0, 2]
    assert {record.payload_bytes for record in late} == {4 * 3 * SIDE * SIDE}
    assert daemon.metrics.summary()["uplink_payload_bytes[late]"] == 2 * 4 * 3 * SIDE * SIDE


def test_nobody_there_opens_the_breaker(bench):
    """The breaker guards this protocol too: after some failures nothing is sent, and all are answered."""
    bench.paint(*["red"] * 12)
    records = bench.run(no_server_address(), {"breaker_failures": 2, "breaker_pause_max_s": 60.0})
    assert {record.answered_by for record in records} == {"edge_degraded"}
    assert len(records) == 12
    assert {record.error.partition(":")[0] for record in records} == {"unavailable", "breaker open"}


def test_a_manifest_of_another_task_stops_the_daemon_at_once(tmp_path):
    """A classifier here and a detector there: the error names the key."""
    bench = Bench(tmp_path)
    bench.paint("red")
    detector = {"manifest": str(centre_detector(bench.models)), "input": "image", "outputs": ["rows"]}
    with pytest.raises(ConfigError, match=r"uplink\.oip\.manifest"):
        bench.daemon(no_server_address(), {"oip": detector})


def test_a_refusal_ends_the_frame(bench):
    """FAILED_PRECONDITION means other things here than in our own protocol: nothing is sent a second time."""
    bench.paint("green")

    def refuse(request):
        raise RefusedError

    with scripted_oip(refuse) as cloud:
        [record] = bench.run(cloud.address)
    assert len(cloud.requests) == 1
    assert record.answered_by == "edge_degraded"
    assert record.error.startswith("failed_precondition")
