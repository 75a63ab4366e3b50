"""`spillover doctor`: each check green and red with the real part, and none stops another."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import structlog
from click.testing import CliRunner

from spillover.common.cli import EXIT_CONFIG, EXIT_MODEL, spillover
from spillover.common.security.tokens import add_token
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.doctor import clock
from spillover.edge.doctor.camera import check_camera
from spillover.edge.doctor.case import Case, Check
from spillover.edge.doctor.clock import check_clock
from spillover.edge.doctor.cloud import check_cloud, sees
from spillover.edge.doctor.device import check_disks, check_memory, check_others, check_temperature
from spillover.edge.doctor.evidence import check_evidence
from spillover.edge.doctor.examine import examine
from spillover.edge.doctor.files import check_folders, check_identity, check_payload, time_model
from spillover.edge.doctor.findings import Finding, State, ok
from spillover.edge.doctor.run import Rounds
from spillover.edge.doctor.variants import check_variants
from spillover.edge.health.readings import LadderState
from spillover.lab.files import merged
from tests.support.models import centre_detector, colour_classifier
from tests.support.pki import Pki
from tests.support.processes import LIMIT_S
from tests.support.scripted_cloud import PATIENCE_S, no_server_address
from tests.support.serving import cloud_config, eventually, serving
from tests.support.statuses import status_of

OK, WARNING, FAILED, SKIPPED = State.OK, State.WARNING, State.FAILED, State.SKIPPED


class Site:
    """A device's folder with pictures, models and a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "edge.yaml"
        (folder / "pictures").mkdir()
        for index in range(4):
            picture = np.full((48, 64, 3), 60 * index, np.uint8)
            cv2.imwrite(str(folder / "pictures" / f"{index}.png"), picture)
        self.model = colour_classifier(folder / "edge", name="small")
        label(self.model, "red", "green", "blue")

    def values(self, **sections: object) -> dict[str, object]:
        """A configuration as plain values."""
        base = {
            "device_id": "pole-1",
            "camera": {"source": str(self.folder / "pictures"), "fps": 20, "loop": True},
            "model": {"folder": str(self.model), "session": {"threads": 1}},
            "uplink": {"address": no_server_address()},
            "spool": {"path": str(self.folder / "spool.dat"), "max_mb": 2.0},
            "sinks": [{"kind": "jsonl", "path": str(self.folder / "out.jsonl"), "rotate_mb": 1.0}],
        }
        return dict(merged(base, sections))

    def case(self, **sections: object) -> Case:
        """The same under examination."""
        return Case(msgspec.convert(self.values(**sections), EdgeConfig), self.path)

    def examined(self, *, files_alone: bool = False, **sections: object) -> tuple[int, list[Finding]]:
        """Exit code and findings for the configuration as a file."""
        self.path.write_bytes(msgspec.yaml.encode(self.values(**sections)))
        told: list[str] = []
        code, left_behind = examine(self.path, told.append, as_json=True, files_alone=files_alone)
        assert left_behind == []
        return code, msgspec.convert(json.loads(told[0])["findings"], list[Finding])


def label(model: Path, *names: str) -> None:
    """Give a model folder its labels."""
    (model / "labels.txt").write_text("\n".join(names) + "\n")
    manifest = (model / "model.yaml").read_text()
    (model / "model.yaml").write_text(re.sub(r"(?m)^labels:.*$", "labels: labels.txt", manifest))


@pytest.fixture(autouse=True)
def _log_as_before():
    """The commands set up the log of their process, which here is that of the tests."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    """A site with a state folder of its own."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    return Site(tmp_path)


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    """A CA, a server, three devices: one of them expired, one of a role that may nothing."""
    pki = Pki(tmp_path_factory.mktemp("pki") / "ca")
    pki.issue("pole-1")
    pki.issue("late-1", days=-1)
    pki.issue("soon-1", days=10)
    pki.issue("guest-1", role="guest")
    return pki


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A classifier and a detector."""
    folder = tmp_path_factory.mktemp("cloud")
    colour_classifier(folder, name="big", gain=20.0)
    centre_detector(folder, name="boxes")
    return folder


def models(repository: Path) -> dict[str, object]:
    """The section of the server's configuration."""
    return {"repository": str(repository), "default": "big"}


@pytest.fixture(scope="module")
def server(repository, pki):
    """A server that asks for client certificates."""
    security = {"tls": pki.server_tls(mutual=True), "roles": {"device": ["infer"], "guest": []}}
    with serving(cloud_config(repository, models=models(repository), security=security)) as running:
        yield running


def tls(pki: Pki, name: str = "pole-1") -> dict[str, str]:
    """`uplink.tls` of a device."""
    return {"ca": str(pki.ca), "certificate": str(pki.certificate(name)), "key": str(pki.key(name))}


def camera_of(case: Case) -> Iterator[Finding]:
    """The check of the one camera."""
    (camera,) = case.config.all_cameras
    return check_camera(camera, case)


def found(look, case: Case) -> dict[str, Finding]:
    """What one check finds, by its line of the table."""
    return {finding.check: finding for finding in look(case)}


def states(findings: dict[str, Finding]) -> dict[str, State]:
    """The states alone."""
    return {check: finding.state for check, finding in findings.items()}


# The whole.


def test_a_healthy_site_has_no_red_line(site, server, pki):
    """With a real cloud and its certificates: every check is there, and none has failed. Exit code 0."""
    code, findings = site.examined(uplink={"address": server.address, "tls": tls(pki)})
    assert [finding for finding in findings if finding.state is FAILED] == []
    assert code == 0
    assert [finding.check for finding in findings] == [
        "configuration", "model", "labels", "policy", "certificate", "key", "folders", "camera camera",
        "model time", "cloud", "cloud model", "link", "clock", "disk", "memory", "temperature",
        "other programs",
    ]  # fmt: skip


def test_each_red_line_has_a_cure_and_none_stops_the_others(site, tmp_path):
    """Camera, cloud, folder and labels wrong at once: all are told, with exit code 1."""
    code, findings = site.examined(
        camera={"source": str(tmp_path / "nothing.mp4"), "fps": None},
        sinks=[{"kind": "jsonl", "path": str(tmp_path / "nowhere" / "out.jsonl")}],
    )
    red = [finding for finding in findings if finding.state is FAILED]
    assert code == 1
    assert [finding.check for finding in red] == ["folders", "camera camera", "cloud"]
    assert all(finding.cure for finding in findings if finding.state in {FAILED, WARNING})
    assert findings[-1].check == "other programs"


def test_mistakes_in_the_file_are_told_all_at_once(site):
    """With file, line and key; nothing else can be checked."""
    site.path.write_text("camra: {}\nmode: hybird\nmodel: {folder: x}\n")
    shown = CliRunner().invoke(spillover, ["doctor", "-c", str(site.path)])
    assert shown.exit_code == 1
    assert "edge.yaml:1" in shown.output
    assert "edge.yaml:2" in shown.output
    assert shown.output.splitlines()[-1] == "1 failed"


def test_the_table_names_state_figure_and_cure(site):
    """One line a finding, and its cure below."""
    site.path.write_bytes(msgspec.yaml.encode(site.values(mode="edge_only")))
    shown = CliRunner().invoke(spillover, ["doctor", "-c", str(site.path)])
    assert "configuration  ok       " in shown.output
    assert "cloud          skipped  mode edge_only: nothing is sent" in shown.output
    assert shown.exit_code == 0


def test_a_check_that_hangs_is_left_and_the_next_one_runs(site):
    """It is told as failed; one that raises is told too."""
    hangs = threading.Event()

    def hang(_case: Case) -> Iterator[Finding]:
        yield ok("slow", "this much is known")
        hangs.wait(LIMIT_S)

    def break_down(_case: Case) -> Iterator[Finding]:
        yield ok("broken", "so far")
        raise KeyError("oops")

    rounds = Rounds(site.case())
    checks = [
        Check("slow", hang, 0.05),
        Check("broken", break_down),
        Check("good", lambda _: iter([ok("good", "")])),
    ]
    told = [(finding.check, finding.state) for finding in rounds.findings(checks)]
    hangs.set()
    assert told == [("slow", OK), ("slow", FAILED), ("broken", OK), ("broken", FAILED), ("good", OK)]
    assert rounds.left_behind == ["slow"]


def test_a_check_that_hangs_does_not_keep_the_process():
    """It ends by force, with the exit code of what was found."""
    code = (
        "import threading; from spillover.edge.doctor.cli import leave; "
        "threading.Thread(target=threading.Event().wait).start(); leave(1, ['camera'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert b"left_behind=['camera']" in done.stdout


def test_each_of_several_cameras_has_its_line(site, tmp_path):
    """One that is not there does not hide the other; both rates count for the model's time."""
    good = {"source": str(site.folder / "pictures"), "fps": 20, "loop": True, "camera_id": "front"}
    bad = {"source": str(tmp_path / "nothing.mp4"), "camera_id": "back"}
    values = {key: value for key, value in site.values().items() if key != "camera"}
    site.path.write_bytes(msgspec.yaml.encode(values | {"cameras": [bad, good]}))
    told: list[str] = []
    examine(site.path, told.append, as_json=True)
    findings = msgspec.convert(json.loads(told[0])["findings"], list[Finding])
    cameras = {one.check: one.state for one in findings if one.check.startswith("camera ")}
    assert cameras == {"camera back": FAILED, "camera front": OK}
    (missing,) = (one.figure for one in findings if one.check == "camera back")
    assert re.match(r".*edge\.yaml:\d+: cameras\[0\]\.source: no such file", missing), missing


# The first half: `spillover edge --check`.

PAGES = {"metrics_address": "127.0.0.1:9464"}
JSONL = {"kind": "jsonl", "path": "-"}
WEBHOOK = {
    "kind": "webhook",
    "url": "https://example.org/hook",
    "secret_file": "/nowhere/secret",
    "results": True,
}


@pytest.mark.parametrize(
    ("sections", "check", "code"),
    [
        ({"model": {"folder": "nothing"}}, "model", EXIT_MODEL),
        ({"sinks": [{"kind": "sqlite", "path": "/nowhere/at/all.db"}]}, "folders", EXIT_CONFIG),
        ({"policy": {"kind": "near_threshold"}}, "policy", EXIT_CONFIG),
        ({"redaction": {"classes": ["person"]}}, "policy", EXIT_CONFIG),
        ({"camera": {"source": "0", "policy": {"threshold": 5}}}, "policy", EXIT_CONFIG),
        ({"camera": {"source": "0", "redaction": {"classes": ["person"]}}}, "policy", EXIT_CONFIG),
        ({"spool": {"path": "/usr"}}, "folders", EXIT_CONFIG),
        ({"uplink": {"tls": {"ca": "/nowhere/ca.crt"}}}, "certificate", EXIT_CONFIG),
        ({"uplink": {"token_file": "/nowhere/token"}}, "certificate", EXIT_CONFIG),
        ({"sinks": [JSONL, WEBHOOK]}, "sink secrets", EXIT_CONFIG),
        (
            {"sinks": [{"kind": "mqtt", "host": "x", "username": "u", "password_file": "/nowhere"}]},
            "sink secrets",
            EXIT_CONFIG,
        ),
        (PAGES | {"security": {"tokens_file": "/nowhere/tokens.yaml"}}, "pages", EXIT_CONFIG),
        (PAGES | {"security": {"tls": {"certificate": "/nowhere", "key": "/nowhere"}}}, "pages", EXIT_CONFIG),
    ],
)
def test_edge_check_ends_as_the_start_would(site, sections, check, code):
    """The line is red, and the exit code is that of the daemon."""
    got, findings = site.examined(files_alone=True, **sections)
    assert [finding.check for finding in findings if finding.state is FAILED] == [check]
    assert got == code


def test_edge_check_touches_neither_device_nor_network(site, tmp_path, monkeypatch):
    """No camera, no call, no question to a daemon, and nothing is written."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("touched")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(cv2, "VideoCapture", refuse)
    site.path.write_bytes(msgspec.yaml.encode(site.values(camera={"source": "/dev/video0"})))
    shown = CliRunner().invoke(spillover, ["edge", "--check", "-c", str(site.path)])
    assert shown.exit_code == 0, shown.output
    assert "camera" not in shown.output
    assert set(tmp_path.rglob("*")) - set(before) == {site.path}


def test_edge_check_takes_what_the_command_line_says(site, tmp_path):
    """--output in place of sinks that could not be written."""
    values = site.values(sinks=[{"kind": "jsonl", "path": "/nowhere/out.jsonl"}])
    site.path.write_bytes(msgspec.yaml.encode(values))
    command = ["edge", "--check", "-c", str(site.path)]
    assert CliRunner().invoke(spillover, command).exit_code == EXIT_CONFIG
    good = CliRunner().invoke(spillover, [*command, "--output", str(tmp_path / "good.jsonl")])
    assert good.exit_code == 0, good.output


# Certificate and token.


def test_a_certificate_for_another_name_is_red(site, pki):
    """The server would refuse; the cure names the device_id that fits."""
    told = found(check_identity, site.case(device_id="pole-2", uplink={"tls": tls(pki)}))
    lines = list(check_identity(site.case(device_id="pole-2", uplink={"tls": tls(pki)})))
    assert lines[0].state is FAILED
    assert "set device_id: pole-1" in lines[0].cure
    assert told["key"].state is OK


@pytest.mark.parametrize(("name", "state"), [("pole-1", OK), ("soon-1", WARNING), ("late-1", FAILED)])
def test_the_end_of_a_certificate_is_told(site, pki, name, state):
    """Days left, or since when it is over."""
    told = found(check_identity, site.case(device_id=name, uplink={"tls": tls(pki, name)}))
    assert told["certificate"].state is state
    assert name in told["certificate"].figure


def test_a_key_that_others_can_read_is_a_warning(site, pki, tmp_path):
    """The cure is a command."""
    key = tmp_path / "open.key"
    key.write_bytes(pki.key("pole-1").read_bytes())
    key.chmod(0o644)
    told = found(check_identity, site.case(uplink={"tls": tls(pki) | {"key": str(key)}}))
    assert (told["key"].state, told["key"].cure) == (WARNING, f"chmod o-r {key}")


def test_a_token_is_read(site, tmp_path):
    """An empty file is none."""
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    case = site.case(uplink={"token_file": str(token)})
    assert found(check_identity, case)["token"].state is OK
    token.write_text("\n")
    assert found(check_identity, case)["token"].state is FAILED


# The cloud.


def test_the_cloud_is_measured(site, server, pki):
    """Round trip and rate, with the model that would answer."""
    case = site.case(uplink={"address": server.address, "tls": tls(pki)})
    told = found(check_cloud, case)
    assert states(told) == {"cloud": OK, "cloud model": OK, "link": OK}
    assert "big@1, classification" in told["cloud model"].figure
    assert "round trip" in told["link"].figure


@pytest.mark.parametrize(("stream_bytes", "state"), [(1 << 28, OK), (0, WARNING)])
def test_whether_the_server_takes_video_is_told(site, repository, stream_bytes, state):
    """Where it has no room, JPEG goes."""
    changes = {"models": models(repository), "limits": {"stream_bytes": stream_bytes}}
    with serving(cloud_config(repository, **changes)) as server:
        told = found(check_cloud, site.case(uplink={"address": server.address, "payload": "video"}))
    assert states(told)["video"] == state
    assert ("limits.stream_bytes" in told["video"].cure) == (state is WARNING)


def test_no_server_is_red(site):
    """Nobody listens there."""
    told = found(check_cloud, site.case())
    assert states(told) == {"cloud": FAILED}
    assert "Connection refused" in told["cloud"].figure


def test_a_server_without_tls_is_told_as_such(site, repository, pki):
    """The device wants TLS, the server does not speak it."""
    with serving(cloud_config(repository, models=models(repository))) as plain:
        told = found(check_cloud, site.case(uplink={"address": plain.address, "tls": {"ca": str(pki.ca)}}))
    assert "the server does not speak TLS" in told["cloud"].figure


def test_another_ca_is_told_as_such(site, server, pki, tmp_path):
    """The server's certificate is not signed by the CA that the device trusts."""
    other = Pki(tmp_path / "other")
    told = found(
        check_cloud, site.case(uplink={"address": server.address, "tls": tls(pki) | {"ca": str(other.ca)}})
    )
    assert "no CA in uplink.tls.ca has signed" in told["cloud"].figure


def test_a_role_that_may_not_is_red(site, server, pki):
    """The certificate is good, its role is not."""
    case = site.case(device_id="guest-1", uplink={"address": server.address, "tls": tls(pki, "guest-1")})
    told = found(check_cloud, case)
    assert states(told) == {"cloud": FAILED}
    assert "does not permit this device" in told["cloud"].figure
    assert "role" in told["cloud"].cure


def test_another_name_than_the_certificates_is_red(site, server, pki):
    """The server compares device_id with the proof."""
    case = site.case(device_id="pole-9", uplink={"address": server.address, "tls": tls(pki)})
    told = found(check_cloud, case)
    assert FAILED in states(told).values()
    assert any("pole-9" in finding.figure for finding in told.values())


def test_a_token_that_the_server_does_not_know_is_red(site, repository, pki, tmp_path):
    """And one that it knows is accepted."""
    tokens, mine = tmp_path / "tokens.yaml", tmp_path / "token"
    mine.write_text(add_token(tokens, "pole-1", "device", days=1.0))
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    with serving(cloud_config(repository, models=models(repository), security=security)) as running:
        uplink = {"address": running.address, "tls": {"ca": str(pki.ca)}, "token_file": str(mine)}
        assert found(check_cloud, site.case(uplink=uplink))["cloud"].state is OK
        mine.write_text("another")
        told = found(check_cloud, site.case(uplink=uplink))["cloud"]
    assert told.state is FAILED
    assert "does not know who this is" in told.figure


@pytest.mark.parametrize(
    ("name", "text"),
    [("nope", "nope is not loaded; loaded are: big@1, boxes@1"), ("boxes", "boxes@1 is for detection")],
)
def test_a_model_that_cannot_answer_is_red(site, server, pki, name, text):
    """An unknown one, and one of another task than the edge's."""
    case = site.case(uplink={"address": server.address, "tls": tls(pki), "model_name": name})
    list(load(case))
    told = found(check_cloud, case)
    assert states(told) == {"cloud": OK, "cloud model": FAILED}
    assert text in told["cloud model"].figure


@pytest.mark.parametrize(
    ("side", "uplink", "warned"),
    [(640, {}, True), (416, {}, False), (0, {}, False), (640, {"variants": []}, False)],
)
def test_pictures_smaller_than_what_the_model_sees_are_told(site, tmp_path, side, uplink, warned):
    """Where nobody has named their size; the cure can be pasted."""
    site.model = centre_detector(tmp_path / "detector")
    case = site.case(uplink=uplink)
    list(load(case))
    seen = pb.ModelInfo(
        model=pb.ModelRef(name="boxes", version="1"),
        is_default=True,
        input_width=side,
        input_height=side // 2,
    )
    told = list(sees(case, pb.ListModelsReply(models=[seen])))
    assert [finding.state for finding in told] == [WARNING] * warned
    if warned:
        assert "640 x 320" in told[0].figure
        named = msgspec.yaml.decode(told[0].cure.removeprefix("set uplink.variants to "))
        assert list(sees(site.case(uplink={"variants": named}), pb.ListModelsReply(models=[seen]))) == []


@pytest.mark.parametrize(
    ("side", "video", "warned"), [(640, {}, True), (416, {}, False), (640, {"crf": 20}, True)]
)
def test_video_smaller_than_what_the_model_sees_is_told(site, side, video, warned):
    """Until somebody names another size."""
    seen = pb.ModelInfo(is_default=True, input_width=side, input_height=side // 2)
    reply = pb.ListModelsReply(models=[seen])
    told = list(sees(site.case(uplink={"payload": "video", "video": video}), reply))
    assert [finding.state for finding in told] == [WARNING] * warned
    named = {"payload": "video", "video": {"longest_side": 320}}
    assert list(sees(site.case(uplink=named), reply)) == []


@pytest.mark.parametrize(
    ("is_there", "mode", "state"),
    [(True, "hybrid", [OK]), (False, "hybrid", [WARNING]), (False, "edge_only", [])],
)
def test_a_codec_that_is_not_there_is_a_warning(site, monkeypatch, is_there, mode, state):
    """With the command that installs it; nobody who sends pictures is told."""
    if not is_there:
        monkeypatch.setitem(sys.modules, "av", None)
    told = list(check_payload(site.case(mode=mode, uplink={"payload": "video"})))
    assert [finding.state for finding in told] == state
    if not is_there and told:
        assert "needs `av`" in told[0].figure
        assert re.search(r"install .*\[video\]", told[0].cure)
    assert list(check_payload(site.case(mode=mode))) == []


def test_with_a_byte_budget_no_picture_is_sent(site, server, pki):
    """The check is not paid for; so it only asks."""
    policy = {"budget": {"bytes": 10**8}}
    told = found(check_cloud, site.case(uplink={"address": server.address, "tls": tls(pki)}, policy=policy))
    assert states(told) == {"cloud": OK, "cloud model": OK, "link": SKIPPED}


def test_a_server_of_the_open_inference_protocol_is_asked_for_its_tensors(site, repository):
    """Names that the server has are green, others red."""
    oip = {"manifest": str(repository / "big" / "1"), "input": "image", "outputs": ["logits"]}
    with serving(cloud_config(repository, models=models(repository))) as plain:
        uplink = {"address": plain.address, "protocol": "oip", "oip": oip}
        case = site.case(uplink=uplink)
        list(load(case))
        assert states(found(check_cloud, case)) == {"cloud": OK, "cloud model": OK}
        case = site.case(uplink=merged(uplink, {"oip": {"outputs": ["scores"]}}))
        list(load(case))
        told = found(check_cloud, case)
    assert "has no scores; inputs: image; outputs: logits" in told["cloud model"].figure


# Camera and model.


def load(case: Case) -> Iterator[Finding]:
    """The check that puts the model into the case."""
    from spillover.edge.doctor.files import load_model

    yield from load_model(case)


def test_a_file_is_opened_and_its_rate_told(site, tmp_path):
    """A video of 25 frames a second."""
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    for _ in range(10):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    case = site.case(camera={"source": str(video), "fps": None})
    told = found(camera_of, case)["camera camera"]
    assert told.state is OK
    assert "64x48 pixels, 25.0 frames/s" in told.figure
    assert case.camera_fps == {"camera": 25.0}


@pytest.mark.parametrize("source", ["/nowhere/clip.mp4", "/dev/video99", "rtsp://127.0.0.1:1/cam"])
def test_a_camera_that_cannot_be_opened_is_red(site, source):
    """The text says which, and has a cure."""
    told = found(camera_of, site.case(camera={"source": source}))["camera camera"]
    assert told.state is FAILED
    assert told.cure


def test_a_folder_of_broken_pictures_is_red(site, tmp_path):
    """It opens, and none can be decoded."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.png").write_bytes(b"no picture")
    told = found(camera_of, site.case(camera={"source": str(broken)}))["camera camera"]
    assert told.state is FAILED
    assert "can be decoded" in told.figure


def test_a_camera_that_a_daemon_holds_is_not_opened(site):
    """The daemon tells its rate, or what is wrong with it."""
    case = site.case(camera={"source": "rtsp://127.0.0.1:1/cam"})
    case.running = status_of()
    told = found(camera_of, case)["camera camera"]
    assert (told.state, "9.5 frames/s" in told.figure) == (OK, True)
    lost = msgspec.structs.replace(case.running.cameras[0], state="lost", detail="the stream ended")
    case.running = status_of(cameras=(lost,))
    told = found(camera_of, case)["camera camera"]
    assert told.state is FAILED
    assert "lost the stream ended" in told.figure


@pytest.mark.parametrize(
    ("sections", "fps", "state"),
    [
        ({}, 20.0, OK),
        ({"camera": {"fps": None}}, 1e9, WARNING),
        ({"deadline_s": 1e-6, "deadline_margin_s": 0.0}, 20.0, FAILED),
    ],
)
def test_the_models_time_is_judged_by_deadline_and_camera(site, sections, fps, state):
    """In time and fast enough; slower than the camera; slower than the deadline."""
    case = site.case(**sections)
    list(load(case))
    case.camera_fps["camera"] = fps
    told = found(time_model, case)["model time"]
    assert told.state is state
    assert "ms a frame" in told.figure


def test_smaller_models_are_judged(site, tmp_path):
    """Loaded and timed beside the model; refused by key where they do not fit, with the start's exit code."""
    assert found_variants(site, str(tmp_path / "none"))["model"].state is FAILED
    small = colour_classifier(tmp_path / "small", version="2")
    label(small, *(site.model / "labels.txt").read_text().split())
    told = found_variants(site, str(small))["variants"]
    assert told.state in {OK, WARNING}  # which of two equals is quicker is chance
    assert "@2" in told.figure
    label(small, "x", "y", "z")
    told = found_variants(site, str(small))["variants"]
    assert told.state is FAILED
    assert "model.variants[0].folder" in told.figure


def found_variants(site, folder: str) -> dict[str, Finding]:
    """What is found of one smaller model."""
    case = site.case(model={"variants": [{"folder": folder}]})
    list(load(case))
    return found(check_variants, case)


# The device.


def test_folders_that_cannot_be_written_are_red(site, tmp_path):
    """One that is a file, too."""
    (tmp_path / "file").write_text("")
    told = list(check_folders(site.case(spool={"path": str(tmp_path / "file" / "spool.dat")})))
    assert [finding.state for finding in told] == [FAILED]
    assert "spool.path" in told[0].figure


def test_a_disk_without_room_for_the_bounds_is_red(site):
    """More than any disk has; and one that has room."""
    assert states(found(check_disks, site.case()))["disk"] is OK
    told = found(check_disks, site.case(spool={"max_mb": 1e12}))["disk"]
    assert told.state is FAILED
    assert "spool.path" in told.figure


def test_a_file_without_a_bound_is_a_warning(site, tmp_path):
    """It would fill the disk."""
    told = list(
        check_disks(site.case(sinks=[{"kind": "jsonl", "path": str(tmp_path / "o"), "rotate_mb": 0.0}]))
    )
    assert [finding.state for finding in told] == [OK, WARNING]


def test_what_is_on_the_disk_already_is_not_needed_again(site, tmp_path):
    """The spool's file has its full size from the start."""
    (tmp_path / "spool.dat").write_bytes(bytes(2_000_000))
    told = found(check_disks, site.case(sinks=[{"kind": "jsonl", "path": "/dev/null"}]))["disk"]
    assert "0.0 kB more" in told.figure


@pytest.mark.parametrize(("available_kb", "state"), [(10_000, FAILED), (100_000, WARNING), (900_000, OK)])
def test_memory_that_is_left_is_judged(site, tmp_path, available_kb, state):
    """By MemAvailable."""
    case = site.case()
    case.root = tmp_path / "root"
    (case.root / "proc").mkdir(parents=True)
    (case.root / "proc" / "meminfo").write_text(f"MemAvailable: {available_kb} kB\n")
    assert found(check_memory, case)["memory"].state is state


@pytest.mark.parametrize(
    ("degrees", "word", "state"),
    [
        ("55000", "0", OK),
        ("85000", "0", WARNING),
        ("60000", "50000", WARNING),
        ("82000", "4", FAILED),
        ("40000", "1", FAILED),
    ],
)
def test_heat_and_throttling_are_judged(site, tmp_path, degrees, word, state):
    """Hot, held back once, held back now, and a weak power supply."""
    case = site.case()
    case.root = tmp_path / "root"
    zone = case.root / "sys/class/thermal/thermal_zone0"
    firmware = case.root / "sys/devices/platform/soc/soc:firmware"
    zone.mkdir(parents=True)
    firmware.mkdir(parents=True)
    (zone / "temp").write_text(degrees)
    (firmware / "get_throttled").write_text(word)
    told = found(check_temperature, case)["temperature"]
    assert told.state is state
    if word in {"1", "50000"}:
        assert "power supply" in told.cure


def test_a_device_that_does_less_is_told(site, tmp_path):
    """By the daemon that runs: its step, and why."""
    case = site.case()
    case.root = tmp_path / "root"
    zone = case.root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("76000")
    state = LadderState(step=3, does="half the frame rate", cause="heat", reason="78.0 °C", age_s=90.0)
    case.running = status_of(ladder=state)
    told = found(check_temperature, case)["temperature"]
    assert told.state is WARNING
    assert "76 °C; step 3 of 6, half the frame rate, for 1.5 min because of heat: 78.0 °C" in told.figure


def test_a_machine_without_sensors_is_skipped(site, tmp_path):
    """No reading is no fault."""
    case = site.case()
    case.root = tmp_path / "root"
    assert found(check_temperature, case)["temperature"].state is SKIPPED
    assert found(check_memory, case)["memory"].state is SKIPPED


def test_a_clock_before_its_own_files_is_red(site):
    """As after a start without a battery-backed clock."""
    site.path.write_text("")
    told = found(lambda case: check_clock(case, 1.6e9), site.case())["clock"]
    assert told.state is FAILED
    assert "2020-09-13" in told.figure


@pytest.mark.parametrize(("kept", "state"), [(True, OK), (False, WARNING), (None, OK)])
def test_a_clock_that_nothing_keeps_is_a_warning(site, monkeypatch, kept, state):
    """What the kernel says, and where it says nothing."""
    monkeypatch.setattr(clock, "is_kept", lambda _root: kept)
    assert found(check_clock, site.case())["clock"].state is state


def test_the_kernel_is_asked_about_its_clock(tmp_path):
    """It gives one of the three answers; systemd's word comes first."""
    assert clock.is_kept(tmp_path) in {True, False, None}
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert clock.is_kept(tmp_path) is True


# Others.


def test_another_program_on_the_same_file_is_red(site, tmp_path):
    """A real process that has the JSON lines open."""
    (tmp_path / "out.jsonl").touch()
    assert found(check_others, site.case())["other programs"].state is OK
    holder = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(tmp_path / 'out.jsonl')!r}, 'a'); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout
        holder.stdout.readline()
        told = found(check_others, site.case())["other programs"]
    finally:
        holder.communicate(b"\n", timeout=LIMIT_S)
    assert told.state is FAILED
    assert f"process {holder.pid} uses {tmp_path / 'out.jsonl'}" in told.figure


def test_a_lock_that_another_holds_is_red(site, tmp_path):
    """A real process that has locked the spool's file, which it has not even made yet."""
    code = (
        "from pathlib import Path; from spillover.common.files import lock_file; "
        f"held = lock_file(Path({str(tmp_path / 'spool.dat')!r}), 'spool.path'); print(flush=True); input()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        holder.stdout.readline()
        told = found(check_others, site.case())["other programs"]
    finally:
        holder.communicate(b"\n", timeout=LIMIT_S)
    assert told.state is FAILED
    assert told.figure == f"spool.path: process {holder.pid} uses {tmp_path / 'spool.dat'}"
    assert found(check_others, site.case())["other programs"].state is OK


def test_the_state_folder_need_not_be_there_yet(site, tmp_path):
    """The daemon makes it for the balance of its byte budget."""
    case = site.case(policy={"budget": {"bytes": 10**8}})
    assert found(check_folders, case)["folders"].state is OK
    assert not (tmp_path / "home").exists()


@contextmanager
def daemon_of(site: Site, **sections: object) -> Iterator[Daemon]:
    """A running daemon with the site's file."""
    site.path.write_bytes(msgspec.yaml.encode(site.values(**sections)))
    config = msgspec.convert(site.values(**sections), EdgeConfig)
    daemon = Daemon(config, config_path=site.path)

    def run() -> None:
        with suppress(Exception):
            daemon.run()

    runner = threading.Thread(target=run)
    runner.start()
    try:
        assert eventually(lambda: daemon.status().frames.captured > 2)
        yield daemon
    finally:
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)


def test_a_daemon_that_runs_is_left_alone(site):
    """It is found, its own files are no conflict, and the check costs it no frame and no spooled record."""
    with daemon_of(site) as daemon:
        code, findings = site.examined()
        status = daemon.status()
    by_check = {finding.check: finding for finding in findings}
    assert f"the daemon of this file runs (process {os.getpid()})" in by_check["other programs"].figure
    assert "the daemon that runs" in by_check["memory"].figure
    assert [finding.check for finding in findings if finding.state is FAILED] == ["cloud"]
    assert code == 1
    assert (status.spool.error, status.spool.refused, status.frames.dropped) == ("", {}, {})


def test_a_daemon_of_the_same_name_and_another_file_is_told(site, tmp_path):
    """Two files with one device_id."""
    with daemon_of(site):
        site.path = tmp_path / "copy.yaml"
        _, findings = site.examined()
    (told,) = [finding for finding in findings if finding.check == "other programs" and finding.cure]
    assert told.state is WARNING
    assert "same device_id" in told.figure


def test_evidence_is_told_what_never_happens_and_what_makes_clips(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Occasions that this configuration does not have; a clip that was made, and none without PyAV."""
    evidence = {"folder": str(site.folder), "clip": {}}
    kept, told = check_evidence(site.case(mode="edge_only", evidence=evidence, events={"classes": [0]}))
    assert (kept.state, told.state) == (WARNING, OK)
    assert "no disagreements" in kept.figure
    assert "no events" not in kept.figure
    assert "a clip of one picture has" in told.figure
    monkeypatch.setattr("spillover.edge.assembly.evidence.find_spec", lambda _: None)
    *_, missing = check_evidence(site.case(evidence=evidence, events={"classes": [0]}))
    assert missing.state is FAILED
    assert "[video]" in missing.cure
    assert list(check_evidence(site.case())) == []
