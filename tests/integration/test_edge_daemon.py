"""The whole daemon over real pictures, a real model and a real server: every frame ends once, as promised."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import grpc
import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.sinks.record import Record, is_event
from spillover.lab.records import read_records
from tests.support.models import SIDE, centre_detector, colour_classifier
from tests.support.processes import SPILLOVER
from tests.support.scripted_cloud import (
    PATIENCE_S,
    Behaviour,
    Held,
    answers,
    classes,
    no_server_address,
    refuses,
    scripted_cloud,
)
from tests.support.stopping import hurrying

BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "grey": (90, 90, 90)}
A_MINUTE_S = 600.0
"""A deadline no test lives to see: what is given before it was given early."""


class Bench:
    """A folder of pictures, a model, and daemons over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        self.output = folder / "out.jsonl"
        self.metrics: Mapping[str, int] = {}
        self.model = colour_classifier(folder / "models")

    def paint(self, *colours: str) -> None:
        """One picture of each colour, in this order."""
        for index, colour in enumerate(colours):
            picture = np.full((2 * SIDE, 2 * SIDE, 3), BGR[colour], np.uint8)
            cv2.imwrite(str(self.pictures / f"{index:03}-{colour}.png"), picture)

    def config(self, **sections: Any) -> dict[str, Any]:
        """A configuration as plain values: fast, one thread, results into `output`."""
        base: dict[str, Any] = {
            "camera": {"source": str(self.pictures), "pace": "fast"},
            "model": {"folder": str(self.model), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(self.output), "decision": "full"}],
            "uplink": {},
            "deadline_s": A_MINUTE_S,
            "stop_timeout_s": PATIENCE_S,
            "mode": "cloud_only",
        }
        for key, value in sections.items():
            base[key] = base[key] | value if isinstance(value, dict) and key in base else value
        return base

    def run(self, no_time_for: Sequence[str] = (), **sections: Any) -> list[Record]:
        """Run a daemon to the end of its source; what came out. The books must balance.

        The stop of the parts in `no_time_for` is not waited for.
        """
        config = msgspec.convert(self.config(**sections), EdgeConfig)
        daemon = Daemon(config, ended_by=hurrying(no_time_for))
        daemon.run()
        assert daemon.left_behind == list(no_time_for)
        self.metrics = daemon.metrics.summary()
        check_books(self.metrics)
        return self.records()

    def records(self) -> list[Record]:
        """The results in `output`; frames in order of capture, the results of one frame as they came."""
        return sorted(read_records(self.output), key=lambda r: r.sequence)


def check_books(summary: Mapping[str, int]) -> None:
    """Captured frames are those with a first result and those dropped, not one more or less."""
    ended = sum(n for key, n in summary.items() if key.startswith(("frames[", "frames_dropped[")))
    assert summary["frames_captured"] == ended


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench in a folder of its own."""
    return Bench(tmp_path)


def test_edge_only_answers_every_frame(bench: Bench) -> None:
    """Mode `edge_only`: each picture has the local model's answer, in order, named by its file."""
    bench.paint("red", "green", "blue")
    records = bench.run(mode="edge_only")
    assert [(r.source, r.answered_by) for r in records] == [
        ("000-red.png", "edge"),
        ("001-green.png", "edge"),
        ("002-blue.png", "edge"),
    ]
    assert [r.classes[0].class_id for r in records if r.classes] == [0, 1, 2]
    assert all(r.timings.infer_s > 0 and r.decision.reason == "mode" for r in records)


def test_cloud_answers_in_time(bench: Bench) -> None:
    """Mode `cloud_only`: the first and only result of each frame is the cloud's, with model and bytes."""
    bench.paint("red", "green")
    with scripted_cloud() as cloud:
        records = bench.run(uplink={"address": cloud.address})
    assert [(r.answered_by, r.revision, str(r.model)) for r in records] == [("cloud", 0, "big@7")] * 2
    sent = {request.frame_id: len(request.image.data) for request in cloud.requests}
    assert {r.frame_id: r.payload_bytes for r in records} == sent
    assert all(r.timings.encode_s > 0 and r.timings.network_s > 0 for r in records)


def test_hybrid_sends_what_is_doubtful(bench: Bench) -> None:
    """Mode `hybrid`: the picture the model is unsure of goes to the cloud, the others stay."""
    bench.paint("red", "grey", "blue")
    with scripted_cloud() as cloud:
        records = bench.run(mode="hybrid", uplink={"address": cloud.address}, policy={"threshold": 0.5})
    by_source = {r.source: r for r in records}
    assert len(cloud.requests) == 1
    grey = by_source["001-grey.png"]
    assert (grey.answered_by, grey.decision.reason) == ("cloud", "score>=threshold")
    assert grey.decision.expected_gain == pytest.approx(2 / 3, abs=0.01)
    assert by_source["000-red.png"].decision.reason == "confident"


def test_answers_are_carried_to_frames_that_follow(bench: Bench) -> None:
    """The cloud's answer to one frame corrects the next of the same scene, which names the frame."""
    bench.paint("grey", "grey", "red")

    def blue(request: Any, context: grpc.ServicerContext) -> Any:
        del context
        return classes(request, 2, 1, 0)

    temporal = {"max_age_s": A_MINUTE_S, "min_similarity": 0.9, "refresh_s": A_MINUTE_S}
    with scripted_cloud(blue) as cloud:
        first, second, third = bench.run(
            mode="hybrid",
            temporal=temporal,
            policy={"threshold": 1.0, "audit_share": 0.0},
            uplink={"address": cloud.address, "max_in_flight": 1},
        )
    assert (first.answered_by, first.decision.reason, first.carried_from) == ("cloud", "refresh", "")
    assert (second.answered_by, second.decision.reason) == ("edge", "confident")
    assert (second.carried_from, third.carried_from) == (first.frame_id, "")
    assert [record.classes[0].class_id for record in (second, third) if record.classes] == [2, 0]
    assert second.decision.inputs["score"] == pytest.approx(2 / 3, abs=0.01)  # of the edge's own answer


def test_a_detector_that_carries_is_refused(bench: Bench) -> None:
    """`temporal` in the configuration of a detector is an error, before anything starts."""
    bench.model = centre_detector(bench.folder / "models")
    bench.paint("red")
    with pytest.raises(ConfigError, match="temporal: is for classification"):
        Daemon(msgspec.convert(bench.config(temporal={}), EdgeConfig))


def test_late_answer_comes_as_a_revision(bench: Bench) -> None:
    """A cloud that is too slow: the local answer at the deadline, then the cloud's as revision 1."""
    bench.paint("red")

    def after_the_deadline(request: Any, context: grpc.ServicerContext) -> Any:
        # The request says when the frame's deadline is; this outlasts it by construction.
        threading.Event().wait(request.time_left_us / 1e6 + 0.2)
        return classes(request, 2)

    with scripted_cloud(after_the_deadline) as cloud:
        uplink = {"address": cloud.address, "late_answer_window_s": PATIENCE_S}
        records = bench.run(uplink=uplink, deadline_s=1.5)  # time enough to leave, on a busy machine too
    assert [(r.answered_by, r.revision) for r in records] == [("edge_degraded", 0), ("cloud", 1)]
    assert len({r.frame_id for r in records}) == 1
    assert records[0].error == "no answer by the deadline"
    assert records[0].payload_bytes > 0
    assert bench.metrics["revisions"] == 1


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full"), "resource_exhausted: queue full"),
        (lambda request, _: classes(type(request)(frame_id="other"), 1), "bad_reply"),
    ],
)
def test_failure_degrades_at_once(bench: Bench, behaviour: Behaviour, error: str) -> None:
    """A refusal or a reply for another frame gives the local answer long before the deadline, with why."""
    bench.paint("red", "green")
    with scripted_cloud(behaviour) as cloud:
        records = bench.run(uplink={"address": cloud.address})
    assert [r.answered_by for r in records] == ["edge_degraded"] * 2
    assert all(r.error.startswith(error) for r in records)
    assert [r.classes[0].class_id for r in records if r.classes] == [0, 1]


def test_no_cloud_at_all(bench: Bench) -> None:
    """With nobody listening every frame has the local answer at once, marked, never an empty one."""
    bench.paint("red", "green", "blue")
    records = bench.run(uplink={"address": no_server_address()})
    assert [r.answered_by for r in records] == ["edge_degraded"] * 3
    assert all(r.error.startswith("unavailable") and r.classes for r in records)


def test_cap_and_stop(bench: Bench) -> None:
    """At the in-flight cap frames are answered here at once; what is in flight at the stop is given up."""
    bench.paint(*["red"] * 5)
    with scripted_cloud(Held()) as cloud:
        records = bench.run(
            no_time_for=["answers"],
            uplink={"address": cloud.address, "max_in_flight": 1},
            camera={"pace": "realtime", "fps": 1000, "queue_size": 5},
        )
    assert Counter((r.answered_by, r.error) for r in records) == {
        ("edge_degraded", "in-flight cap"): 4,
        ("edge_degraded", "stopped: before the cloud answered"): 1,
    }


def test_pushback_silences_the_uplink(bench: Bench) -> None:
    """After a pushback not one more frame is sent until its time is over; those frames say so."""
    bench.paint(*["red"] * 5)
    pushback = (("grpc-retry-pushback-ms", "59000"),)
    with scripted_cloud(refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", pushback)) as cloud:
        records = bench.run(uplink={"address": cloud.address, "max_in_flight": 1}, deadline_s=1.0)
        assert len(cloud.requests) == 1
    reasons = [r.decision.reason for r in records]
    known_from = reasons.index("pushback")  # a frame may be decided on before the refusal has come back
    assert set(reasons[known_from:]) == {"pushback"}
    assert {r.answered_by for r in records} == {"edge_degraded"}


def test_fast_pace_waits_for_room(bench: Bench) -> None:
    """Offline work is not degraded by its own speed: one call at a time, the cloud answers every frame."""
    bench.paint(*["red"] * 12)
    with scripted_cloud() as cloud:
        records = bench.run(uplink={"address": cloud.address, "max_in_flight": 1})
    assert [r.answered_by for r in records] == ["cloud"] * 12


def test_detector_reports_above_its_threshold(bench: Bench) -> None:
    """Boxes below the report threshold are not reported; the frame counts as empty and may be audited."""
    bench.model = centre_detector(bench.folder / "models")
    bench.paint("grey")  # one box of confidence 90/255
    model = {"folder": str(bench.model), "report_threshold": 0.6}
    with scripted_cloud(refuses(grpc.StatusCode.NOT_FOUND)) as cloud:
        policy = {"empty_audit_share": 1.0, "band": 0.1}
        [record] = bench.run(mode="hybrid", model=model, policy=policy, uplink={"address": cloud.address})
    assert record.boxes == []
    assert (record.decision.reason, record.answered_by) == ("empty-audit", "edge_degraded")


def test_a_model_brings_its_own_report_threshold(bench: Bench) -> None:
    """What model.yaml says holds where edge.yaml says nothing; the policy still sees the box."""
    bench.model = centre_detector(bench.folder / "models")
    described = open_model_folder(bench.model).manifest
    output = msgspec.structs.replace(described.output, report_threshold=0.6)
    write_manifest(bench.model, msgspec.structs.replace(described, output=output))
    bench.paint("grey")  # one box of confidence 90/255
    [record] = bench.run(mode="edge_only")
    assert record.boxes == []


def test_the_networks_digest_is_in_the_log_and_the_metrics(bench: Bench) -> None:
    """Two devices with one name and version may run different networks: each says which."""
    manifest = open_model_folder(bench.model).manifest
    write_manifest(bench.model, msgspec.structs.replace(manifest, made_on="aarch64, onnxruntime 1.32.0"))
    bench.paint("red")
    with capture_logs() as log:
        daemon = Daemon(msgspec.convert(bench.config(mode="edge_only"), EdgeConfig))
        daemon.run()
    [line] = [line for line in log if line["event"] == "model"]
    assert (line["model"], line["sha256"]) == ("colour@1", manifest.sha256[:12])
    assert line["made_on"] == "aarch64, onnxruntime 1.32.0"
    page = generate_latest(daemon.metrics.registry).decode()
    assert f'sha256="{manifest.sha256}"' in page


Start = Callable[..., subprocess.Popen[bytes]]


def start(config_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`spillover edge` as a process of its own."""
    command = [*SPILLOVER, "edge", "-c", str(config_path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def write(path: Path, config: object) -> Path:
    """A configuration file (JSON is YAML)."""
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_cleanly(bench: Bench, number: signal.Signals) -> None:
    """A signal ends an endless run with code 0: results flushed, every frame in the last line's books."""
    bench.paint("red", "green")
    config = bench.config(
        mode="edge_only",
        camera={"pace": "realtime", "fps": 200, "loop": True},
        log={"json": True},
    )
    with start(write(bench.folder / "edge.yaml", config), "--output", "-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while is_event(first := process.stdout.readline()):
            pass
        process.send_signal(number)
        # Not `communicate`, which would pass over what `readline` has buffered.
        rest, log = process.stdout.read(), process.stderr.read()
        process.wait(PATIENCE_S)
    assert process.returncode == 0, log
    events = [json.loads(line) for line in log.splitlines()]
    assert events[-2]["because"] == number.name
    books = events[-1]
    check_books({key: value for key, value in books.items() if key.startswith("frames")})
    lines = [line for line in [first, *rest.splitlines()] if not is_event(line)]
    records = [msgspec.json.decode(line, type=Record) for line in lines]
    assert books["frames[edge]"] == len(records) == len({r.frame_id for r in records})


def test_sigterm_drains_what_is_under_way(bench: Bench) -> None:
    """On SIGTERM a frame that is with the cloud still gets the cloud's answer."""
    bench.paint("red")
    held = Held(answers)
    with scripted_cloud(held) as cloud:
        config = bench.config(
            uplink={"address": cloud.address, "max_in_flight": 1},
            camera={"pace": "realtime", "fps": 0.001, "loop": True},
            log={"json": True},
        )
        with start(write(bench.folder / "edge.yaml", config)) as process:
            assert process.stderr is not None
            held.arrived.get(timeout=PATIENCE_S)
            process.terminate()
            while b"SIGTERM" not in process.stderr.readline():
                pass
            held.release.set()
            process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert [(r.answered_by, r.revision) for r in bench.records()] == [("cloud", 0)]


@pytest.mark.parametrize(
    ("sections", "code", "word"),
    [
        ({"policy": {"kind": "mean_score"}, "mode": "hybrid"}, 3, b"policy.kind"),
        ({"model": {"folder": "/no/such/model"}}, 4, b"/no/such/model"),
        ({"camera": {"source": "/no/such/clip.mp4"}}, 5, b"clip.mp4"),
        ({"sinks": [{"kind": "jsonl", "path": "/dev/full"}], "mode": "edge_only"}, 1, b"not one result"),
    ],
)
def test_exit_codes(bench: Bench, sections: dict[str, Any], code: int, word: bytes) -> None:
    """What is wrong with configuration, model, camera or sinks is one line at the end and an exit code."""
    bench.paint("red")
    with start(write(bench.folder / "edge.yaml", bench.config(**sections))) as process:
        _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert word in log.splitlines()[-1]
    assert b"Traceback" not in log


def test_edge_only_carries_no_grpc(bench: Bench) -> None:
    """Mode `edge_only` loads neither gRPC nor protobuf: a device without a cloud does not pay for one."""
    bench.paint("red")
    path = write(bench.folder / "edge.yaml", bench.config(mode="edge_only"))
    script = (
        f"import sys; from spillover.edge.cli import edge;"
        f"edge(['-c', {str(path)!r}], standalone_mode=False);"
        "print([m for m in ('grpc', 'google.protobuf', 'onnx', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=PATIENCE_S, check=True)
    assert run.stdout.splitlines()[-1] == b"[]"
