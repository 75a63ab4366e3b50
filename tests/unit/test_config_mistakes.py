"""Mistakes that people make in edge.yaml and cloud.yaml: each is told with file, line, key and cure."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from spillover.cloud.cli import cloud
from spillover.common.cli import exit_code
from spillover.common.errors import SpilloverError
from spillover.edge.cli import edge
from tests.support.models import centre_detector, colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER

CAMERA, MODEL = "camera: {source: PICTURES}\n", "model: {folder: COLOUR}\n"
DETECTOR = "model: {folder: CENTRE}\n"
GOOD = CAMERA + MODEL
"""Two lines; what a row adds begins in line 3."""


@dataclass(frozen=True)
class Row:
    """A file with a mistake, and what is said of it."""

    text: str
    line: int | None
    """None: no line is to blame."""
    key: str
    words: tuple[str, ...]
    code: int = 3
    base: str | None = None
    """In place of the lines that are good."""


EDGE = {
    # Keys
    "unknown key": Row("camra: {fps: 3}", 3, "camra", ("there is no such key", "did you mean camera?")),
    "unknown key in a section": Row(
        "policy:\n  threshhold: 0.4", 4, "policy.threshhold", ("did you mean policy.threshold?",)
    ),
    "unknown key in a list": Row(
        "sinks:\n  - kind: jsonl\n    paht: x", 5, "sinks[0].paht", ("did you mean sinks[0].path?",)
    ),
    "key of another section": Row(
        "jpeg_quality: 80", 3, "jpeg_quality", ("did you mean uplink.jpeg_quality",)
    ),
    "key of nothing": Row("log: {colour: red}", 3, "log.colour", ("possible are level, json",)),
    "required key is missing": Row(
        "", 1, "camera.source", ("is missing; must be text",), base="camera: {fps: 3}\n" + MODEL
    ),
    "required section is missing": Row("", None, "model", ("is missing", "among them folder"), base=CAMERA),
    "key twice": Row("mode: edge_only\nmode: hybrid", 3, "mode", ("twice", "lines 3 and 4")),
    "section twice": Row("camera: {source: x}", 1, "camera", ("twice", "lines 1 and 3")),
    "no yaml": Row("log: {level: info", 4, "", ("not valid YAML", "column")),
    "indented by a tab": Row("log:\n\tlevel: info", 4, "", ("indent with spaces, not with tabs",)),
    "a list": Row(
        "- camera",
        None,
        "",
        (
            "must be keys and values",
            "not a list",
        ),
        base="",
    ),
    "an anchor": Row("log: &here {level: info}", 3, "", ("anchors and aliases are not read",)),
    "empty section": Row("uplink:", 3, "uplink", ("must be keys and values, not empty",)),
    # Values
    "mode": Row(
        "mode: cloud-only", 3, "mode", ("edge_only, cloud_only or hybrid", "did you mean cloud_only?")
    ),
    "log level": Row("log: {level: verbose}", 3, "log.level", ("debug, error, info or warning", "'verbose'")),
    "pace": Row(
        "", 1, "camera.pace", ("realtime or fast",), base="camera: {source: x, pace: slow}\n" + MODEL
    ),
    "kind of sink": Row("sinks: [{kind: carrier}]", 3, "sinks[0].kind", ("sqlite", "'carrier'")),
    "sink without kind": Row("sinks: [{path: x}]", 3, "sinks[0].kind", ("is missing", "jsonl, mqtt")),
    "device name": Row("device_id: pi 1", 3, "device_id", ("letters, digits", "'pi 1'")),
    "device name of a shell": Row("device_id: $HOSTNAME", 3, "device_id", ("letters, digits", "'$HOSTNAME'")),
    "camera's name": Row(
        "", 1, "camera.camera_id", ("letters, digits",), base="camera: {source: x, camera_id: a/b}\n" + MODEL
    ),
    "deadline of nothing": Row("deadline_s: 0", 3, "deadline_s", ("a number above 0, not 0",)),
    "deadline in words": Row("deadline_s: 500ms", 3, "deadline_s", ("a number above 0, not '500ms'",)),
    "number in quotes": Row('deadline_s: "0.5"', 3, "deadline_s", ("leave the quotes away",)),
    "number for text": Row("uplink: {model_version: 1}", 3, "uplink.model_version", ("put it in quotes",)),
    "device number for text": Row(
        "", 1, "camera.source", ("put it in quotes",), base="camera: {source: 0}\n" + MODEL
    ),
    "not a number": Row("policy: {threshold: .nan}", 3, "policy.threshold", ("a finite number",)),
    "quality": Row("uplink: {jpeg_quality: 120}", 3, "uplink.jpeg_quality", ("from 1 to 100, not 120",)),
    "share in per cent": Row("policy: {audit_share: 5}", 3, "policy.audit_share", ("from 0 to 1, not 5",)),
    "port": Row(
        "sinks: [{kind: mqtt, host: b, port: 99999}]", 3, "sinks[0].port", ("below 65536, not 99999",)
    ),
    "truth": Row("log: {json: 1}", 3, "log.json", ("true or false, not 1",)),
    "topic with a wildcard": Row(
        "sinks: [{kind: mqtt, host: b, topic: a/#}]", 3, "sinks[0].topic", ("text without + and #",)
    ),
    "period": Row(
        "policy: {budget: {bytes: 5000, per: week}}", 3, "policy.budget.per", ("minute, hour, day or month",)
    ),
    "redaction of nothing": Row("redaction: {classes: []}", 3, "redaction.classes", ("something to hide",)),
    "mask that crosses itself": Row(
        "redaction:\n  masks: [[[0, 0], [1, 1], [1, 0], [0, 1]]]", 4, "redaction.masks[0]", ("cross itself",)
    ),
    "zone that crosses itself": Row(
        "events:\n  zones:\n    - {name: a, polygon: [[0, 0], [1, 1], [1, 0], [0, 1]]}",
        5,
        "events.zones[0].polygon",
        ("must not cross itself",),
    ),
    "zone outside the frame": Row(
        "events:\n  zones:\n    - {name: a, polygon: [[0, 0], [1, 1], [64, 0]]}",
        5,
        "events.zones[0].polygon[2]",
        ("a number from 0 to 1",),
    ),
    "line named twice": Row(
        "events:\n  lines:\n    - {name: a, points: [[0, 0], [1, 1]]}\n"
        "    - {name: a, points: [[0, 1], [1, 1]]}",
        6,
        "events.lines[1].name",
        ("the name of another one",),
    ),
    "classes of a classifier": Row(
        "", 2, "model.classes", ("for detectors",), 3, CAMERA + "model: {folder: COLOUR, classes: [0]}\n"
    ),
    "events without tracks": Row("tracking: null\nevents: {}", 3, "tracking", ("what tracked objects do",)),
    "events of a classifier": Row("events: {}", 3, "events", ("gives no boxes",)),
    # What keys say together
    "address without a port": Row("uplink: {address: cloud.local}", 3, "uplink.address", ("not host:port",)),
    "plaintext network": Row(
        "uplink:\n  address: 192.0.2.1:50051",
        4,
        "uplink.address",
        ("set uplink.tls", "allow_plaintext_network"),
    ),
    "certificate without key": Row(
        "uplink: {tls: {ca: x, certificate: y}}", 3, "uplink.tls.certificate", ("needs key beside it",)
    ),
    "margin beyond the deadline": Row(
        "deadline_s: 0.5\ndeadline_margin_s: 0.6",
        4,
        "deadline_margin_s",
        ("less than deadline_s, which is 0.5",),
    ),
    "bucket": Row(
        "policy:\n  budget:\n    bytes: 5000\n    bucket_bytes: 4000",
        6,
        "policy.budget.bucket_bytes",
        ("half of bytes",),
    ),
    "two writers of one file": Row(
        "sinks:\n  - {kind: jsonl, path: a}\n  - {kind: sqlite, path: ./a}",
        5,
        "sinks[1].path",
        ("sinks[0].path too",),
    ),
    "two sinks of one device file": Row(
        "sinks: [{kind: jsonl, path: /dev/null}, {kind: jsonl, path: /dev/null}]",
        3,
        "sinks[1].path",
        ("sinks[0].path too",),
    ),
    "two sinks of one topic": Row(
        "sinks:\n  - {kind: mqtt, host: b}\n  - {kind: mqtt, host: b, topic: spillover, decision: full}",
        5,
        "sinks[1].topic",
        ("that of sinks[0] too", "name another topic"),
    ),
    "no sinks": Row("sinks: []", 3, "sinks", ("results would go nowhere", "/dev/null")),
    "host is a URL": Row(
        "sinks: [{kind: mqtt, host: 'mqtt://u:s3cret@b:1883'}]",
        3,
        "sinks[0].host",
        ("no URL", "keys of their own"),
    ),
    "features without a head": Row(
        "uplink: {payload: features}", 3, "uplink.payload", ("needs the section uplink.split",)
    ),
    "tensors without a manifest": Row(
        "uplink: {protocol: oip}", 3, "uplink.protocol", ("needs the section uplink.oip",)
    ),
    "variable that is not set": Row(
        "uplink:\n  token: ${NO_SUCH_TOKEN}",
        4,
        "uplink.token",
        ("the environment variable NO_SUCH_TOKEN is not set",),
    ),
    "password without a user": Row(
        "",
        1,
        "camera.password_file",
        ("rtsp://admin@",),
        base="camera: {source: 'rtsp://h/x', password_file: p}\n" + MODEL,
    ),
    # What files, the model and this machine say
    "model folder": Row(
        "",
        2,
        "model.folder",
        ("no/model", "relative paths begin at the working folder", "lab import"),
        4,
        CAMERA + "model: {folder: no/model}\n",
    ),
    "execution provider": Row(
        "",
        2,
        "model.session.providers[0]",
        ("CUDAExecutionProvidr", "CPUExecutionProvider", "[auto]"),
        3,
        CAMERA + "model: {folder: COLOUR, session: {providers: [CUDAExecutionProvidr]}}\n",
    ),
    "score": Row("policy: {kind: mean_score}", 3, "policy.kind", ("max_softmax", "'mean_score'")),
    "score of nothing": Row("policy: {kind: margn}", 3, "policy.kind", ("did you mean margin?",)),
    "threshold out of reach": Row(
        "policy: {threshold: 30}",
        3,
        "policy.threshold",
        ("30 is never reached", "max_softmax goes from 0 to 1"),
    ),
    "threshold out of a detector's reach": Row(
        "policy: {threshold: 30}",
        3,
        "policy.threshold",
        ("30 is never reached", "near_threshold goes from 0 to 1"),
        base=CAMERA + DETECTOR,
    ),
    "threshold of one camera": Row(
        "  - {camera_id: a, source: PICTURES, policy: {threshold: 5}}\n  - {camera_id: b, source: PICTURES}",
        3,
        "cameras[0].policy.threshold",
        ("5 is never reached",),
        base=DETECTOR + "cameras:\n",
    ),
    "redaction of one camera": Row(
        "  - {camera_id: a, source: PICTURES, redaction: {classes: [dog]}}\n  - {camera_id: b, source: x}",
        3,
        "cameras[0].redaction.classes",
        ("no class 'dog'",),
        base=DETECTOR + "cameras:\n",
    ),
    "redaction of the one camera": Row(
        "",
        1,
        "camera.redaction.classes",
        ("no class 'x' (it has numbers, no names)",),
        base="camera: {source: PICTURES, redaction: {classes: [x]}}\n" + DETECTOR,
    ),
    "redaction of several": Row(
        "redaction: {classes: [cat, 0, 7]}",
        3,
        "redaction.classes",
        ("no class 'cat'", ", no 7 (it has 0 to 0)"),
        base=CAMERA + DETECTOR,
    ),
    "results into the configuration": Row(
        "sinks: [{kind: jsonl, path: edge.yaml}]", 3, "sinks[0].path", ("would overwrite this configuration",)
    ),
    "results into the model": Row(
        "sinks: [{kind: sqlite, path: models/colour/1/model.onnx}]",
        3,
        "sinks[0].path",
        ("would overwrite model.onnx of model.folder",),
    ),
    "spool in place of a key": Row(
        "uplink: {token_file: token}\nspool: {path: ./token}",
        4,
        "spool.path",
        ("would overwrite uplink.token_file",),
    ),
    "source of one of several": Row(
        "  - {camera_id: a, source: no.mp4}\n  - {camera_id: b, source: 'rtsp://h'}",
        3,
        "cameras[0].source",
        ("no such file, folder or device: no.mp4",),
        5,
        MODEL + "cameras:\n",
    ),
    "spool into a folder": Row("spool: {path: models}", 3, "spool.path", ("models is a folder",)),
    "gain file": Row(
        "policy: {kind: expected_gain, gain_file: no.json}",
        3,
        "policy.gain_file",
        ("no.json: cannot be read",),
    ),
    "redaction of a classifier": Row(
        "redaction: {classes: [0]}", 3, "redaction.classes", ("gives no boxes", "masks")
    ),
    "token file": Row(
        "uplink: {token_file: no/token}", 3, "uplink.token_file", ("cannot read no/token: No such file",)
    ),
    "certificate of the CA": Row(
        "uplink: {tls: {ca: no.crt}}", 3, "uplink.tls.ca", ("cannot read no.crt: No such file",)
    ),
    "password file of the broker": Row(
        "sinks: [{kind: mqtt, host: b, username: u, password_file: no.txt}]",
        3,
        "sinks[0]",
        ("password_file: cannot read no.txt",),
    ),
    "results into a folder": Row(
        "sinks: [{kind: jsonl, path: models}]", 3, "sinks[0].path", ("models is a folder",)
    ),
    "source": Row(
        "",
        1,
        "camera.source",
        ("no such file, folder or device: no.mp4",),
        5,
        "camera: {source: no.mp4}\n" + MODEL,
    ),
}


REPOSITORY = "models: {repository: MODELS}\n"
CLOUD = {
    "unknown key": Row("lisen: x", 2, "lisen", ("did you mean listen?",)),
    "unknown key in a section": Row(
        "limits:\n  max_streems: 3", 3, "limits.max_streems", ("limits.max_streams?",)
    ),
    "key of another section": Row("max_pixels: 3", 2, "max_pixels", ("did you mean limits.max_pixels",)),
    "key twice": Row("metrics: null\nmetrics: null", 2, "metrics", ("twice", "lines 2 and 3")),
    "address": Row("listen: nowhere", 2, "listen", ("host:port or unix:/path", "'nowhere'")),
    "port": Row("listen: 127.0.0.1:65536", 2, "listen", ("a port is at most 65535",)),
    "log level": Row("log: {level: loud}", 2, "log.level", ("debug, info, warning or error",)),
    "pixels": Row("limits: {max_pixels: -1}", 2, "limits.max_pixels", ("a whole number above 0, not -1",)),
    "rows of one model": Row(
        "batching_of:\n  colour: {max_batch_size: two}",
        3,
        "batching_of.colour.max_batch_size",
        ("a whole number above 0",),
    ),
    "permission": Row(
        "security: {roles: {device: [infr]}}",
        2,
        "security.roles.device[0]",
        ("infer, control or metrics", "did you mean infer?"),
    ),
    "seconds in words": Row("stop_timeout_s: 15s", 2, "stop_timeout_s", ("a number above 0, not '15s'",)),
    "open to the network": Row(
        "metrics: null\nlisten: 0.0.0.0:0\nsecurity: {allow_anonymous_network: true}",
        3,
        "listen",
        ("set security.tls",),
    ),
    "open to everybody": Row(
        "metrics: null\nlisten: 0.0.0.0:0\nsecurity: {allow_plaintext_network: true}",
        3,
        "listen",
        ("security.tokens_file",),
    ),
    "two proofs": Row(
        "security:\n  tokens_file: t\n  forwarded: {client_ca: x}",
        3,
        "security.tokens_file",
        ("set one of them",),
    ),
    "list of revoked certificates alone": Row(
        "security: {tls: {certificate: a, key: b, crl: c}}",
        2,
        "security.tls.crl",
        ("no use without client_ca",),
    ),
    "tokens file": Row(
        "security: {tokens_file: no.yaml}", 2, "security.tokens_file", ("cannot read no.yaml",)
    ),
    "repository": Row(
        "models: {repository: nowhere}", 1, "models.repository", ("nowhere has no <name>/<version>",), base=""
    ),
    "model": Row(
        "models: {repository: MODELS, load: [color]}",
        1,
        "models.load",
        ("no model 'color'", "it has colour"),
        base="",
    ),
    "version": Row(
        "models: {repository: MODELS, load: [colour@9]}", 1, "models.load", ("no version '9'",), base=""
    ),
    "default": Row(
        "models: {repository: MODELS, default: colours}",
        1,
        "models.default",
        ("'colours'", "the loaded ['colour']"),
        base="",
    ),
    "execution provider": Row(
        "session: {providers: [CPUExecutionProvidr]}",
        2,
        "session.providers[0]",
        ("did you mean CPUExecutionProvider?",),
    ),
    "variable that is not set": Row(
        "security:\n  tokens_file: ${NO_SUCH_FOLDER}/t.yaml",
        3,
        "security.tokens_file",
        ("NO_SUCH_FOLDER is not set",),
    ),
}


LOOKED_AT = {"tokens file", "repository", "model", "version", "default", "execution provider"}
"""Mistakes that only show when what the file names is looked at."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a model and a picture; the log of the tests comes back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    colour_classifier(tmp_path / "models")
    centre_detector(tmp_path / "detectors")
    yield tmp_path
    structlog.reset_defaults()


def write(row: Row, path: Path, good: str) -> None:
    """Write the file, with the names of this folder."""
    folder = path.parent
    text = ((good if row.base is None else row.base) + row.text).replace(
        "COLOUR", f"{folder}/models/colour/1"
    )
    text = text.replace("CENTRE", f"{folder}/detectors/centre/1")
    path.write_text(text.replace("PICTURES", str(folder)).replace("MODELS", f"{folder}/models"))


def told(row: Row, path: Path, lines: list[str]) -> None:
    """One line, about the place, the key and the words, and no secret."""
    place = f"{path}:{row.line}: " if row.line else f"{path}: "
    assert len(lines) == 1, lines
    begins = f"{place}{row.key}: " if row.key else place
    assert lines[0].startswith(begins), lines[0]
    for word in row.words:
        assert word in lines[0], lines[0]
    assert "s3cret" not in lines[0]
    assert not re.search(r"\^|\\|\$[.)`]|\$$", lines[0]), "a pattern or a path for machines"


@pytest.mark.parametrize("name", EDGE)
def test_a_mistake_in_edge_yaml(place, name):
    """In process, from the file to the parts that are built from it."""
    row, path = EDGE[name], place / "edge.yaml"
    write(row, path, GOOD)
    output = [] if "sinks" in row.text else ["--output", str(place / "out.jsonl")]
    outcome = CliRunner().invoke(edge, ["-c", str(path), *output])
    assert isinstance(outcome.exception, SpilloverError), outcome.output
    told(row, path, str(outcome.exception).splitlines())
    assert exit_code(outcome.exception) == row.code


@pytest.mark.parametrize("name", CLOUD)
def test_a_mistake_in_cloud_yaml(place, name):
    """As the file is read, and by `--check` what files, models and this machine say."""
    row, path = CLOUD[name], place / "cloud.yaml"
    write(row, path, REPOSITORY)
    options = ["--check"] if name in LOOKED_AT else []
    outcome = CliRunner().invoke(cloud, ["-c", str(path), *options])
    if not options:
        assert isinstance(outcome.exception, SpilloverError), outcome.output
        told(row, path, str(outcome.exception).splitlines())
        assert exit_code(outcome.exception) == row.code
        return
    lines = outcome.output.splitlines()
    told(row, path, [line.removeprefix("mistake: ") for line in lines if line.startswith("mistake: ")])
    assert outcome.exit_code == row.code


@pytest.mark.parametrize(
    ("side", "names"),
    [("edge", ["mode", "model folder"]), ("cloud", ["log level", "execution provider"])],
)
def test_the_command_line_says_the_same(place, side, names):
    """The real processes: the line after the program's name on standard error, nothing else, and the code."""
    for name in names:
        row, path = (EDGE if side == "edge" else CLOUD)[name], place / f"{side}.yaml"
        write(row, path, GOOD if side == "edge" else REPOSITORY)
        ended = subprocess.run(
            [*SPILLOVER, side, "-c", str(path)], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        errors = [line for line in ended.stderr.splitlines() if line.startswith("spillover: ")]
        told(row, path, [line.removeprefix("spillover: ") for line in errors])
        assert "Traceback" not in ended.stderr
        assert ended.returncode == row.code


def test_all_mistakes_are_told_at_once(place):
    """One file with every mistake in values: each has its line, and one start is enough."""
    path = place / "edge.yaml"
    path.write_text("mode: on\nmode: x\ncamra: 1\ndeadline_s: 0\nlog: {level: x}\nsinks: [{kind: x}, {}]\n")
    ended = subprocess.run(
        [*SPILLOVER, "edge", "-c", str(path)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 3
    places = [line.split(": ")[1:3] for line in ended.stderr.splitlines()]
    assert places == [
        [str(path), "model"],
        [str(path), "camera"],
        [f"{path}:1", "mode"],
        [f"{path}:1", "mode"],
        [f"{path}:3", "camra"],
        [f"{path}:4", "deadline_s"],
        [f"{path}:5", "log.level"],
        [f"{path}:6", "sinks[0].kind"],
        [f"{path}:6", "sinks[1].kind"],
    ]
