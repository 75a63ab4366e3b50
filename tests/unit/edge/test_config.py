"""`edge.yaml`: the example is complete, and what is wrong is named."""

import socket
from pathlib import Path

import msgspec
import pytest
import yaml

from spillover.common.config import load_config, parse_config
from spillover.common.errors import ConfigError
from spillover.edge.assembly.camera import for_camera
from spillover.edge.config import EdgeConfig

EXAMPLE = Path(__file__).parents[3] / "examples" / "edge.yaml"


def test_example_loads() -> None:
    """The example file is a valid configuration."""
    assert load_config(EXAMPLE, EdgeConfig).all_cameras[0].camera_id == "camera"


def test_example_shows_every_key_and_its_default() -> None:
    """Every key of the structures stands in the example, with the value it has when it is left out."""
    example = yaml.safe_load(EXAMPLE.read_text())
    two_lines = {
        "camera": {"source": example["camera"]["source"]},
        "model": {"folder": example["model"]["folder"]},
    }
    defaults = msgspec.yaml.encode(msgspec.convert(two_lines, EdgeConfig))
    assert example.pop("device_id") == ""
    assert example == {name: value for name, value in yaml.safe_load(defaults).items() if name != "device_id"}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("raspberrypi", "raspberrypi"),
        ("pi-3.example.org", "pi-3.example.org"),
        ("kamera am tor", "kamera-am-tor"),
        ("-_.", "edge"),
        ("", "edge"),
        ("x" * 100, "x" * 64),
    ],
)
def test_a_device_without_a_name_has_its_hosts(host: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices with the same configuration are two devices; the name is one that may be configured."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    config = parse_config("{camera: {source: v}, model: {folder: m}}", EdgeConfig, "edge.yaml")
    assert config.device_id == name
    text = f"{{camera: {{source: v}}, model: {{folder: m}}, device_id: {name}}}"
    assert parse_config(text, EdgeConfig, "edge.yaml").device_id == name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{model: {folder: m}}", "camera"),
        ("{camera: {source: v, pase: fast}, model: {folder: m}}", "camera.pase: "),
        ("{camera: {source: v}, model: {folder: m}, deadline_s: 0}", "deadline_s"),
        (
            "{camera: {source: v, fps: {min: 9, max: 5}}, model: {folder: m}}",
            "camera.fps.max: must be at least min",
        ),
        ("{camera: {source: v, fps: {min: 2}}, model: {folder: m}}", "camera.fps.max: is missing"),
        ("{camera: {source: v, fps: {min: 2, max: 3, x: 1}}, model: {folder: m}}", "camera.fps.x: "),
        ("{camera: {source: v, fps: ten}, model: {folder: m}}", "camera.fps: must be a number"),
        ("{camera: {source: v}, model: {folder: m}, mode: sometimes}", "mode"),
        ("{camera: {source: v}, model: {folder: m}, uplink: {jpeg_quality: 101}}", "uplink.jpeg_quality"),
        (
            "{camera: {source: v}, model: {folder: m}, uplink: {reconnect_backoff_max_s: 11}}",
            "backoff_max_s: ",
        ),
        ("{camera: {source: v}, model: {folder: m}, sinks: [{kind: parrot}]}", "sinks[0].kind"),
        ("{camera: {source: v}, model: {folder: m}, deadline_s: 0.02}", "deadline_margin_s"),
        ("{camera: {source: v}, model: {folder: m}, deadline_s: .inf}", "deadline_s"),
        ("{camera: {source: v}, model: {folder: m}, policy: {threshold: .nan}}", "policy.threshold"),
        ("{camera: {source: v}, model: {folder: m}, uplink: {address: localhost}}", "host:port"),
        ("{camera: {source: v}, model: {folder: m}, uplink: {payload: auto}}", "uplink.payload: auto needs"),
        ("{camera: {source: v}, model: {folder: m}, uplink: {video: {crf: 52}}}", "uplink.video.crf"),
        (
            "{camera: {source: v}, model: {folder: m}, uplink: {payload: video, protocol: oip, "
            "oip: {manifest: m, input: i, outputs: [o]}}}",
            "uplink.payload: video needs uplink.protocol: spillover",
        ),
        ("{camera: {source: v}, model: {folder: m}, metrics_address: 'localhost:70000'}", "65535"),
        ("{camera: {source: v}, model: {folder: m}, sinks: [{kind: jsonl}, {kind: jsonl}]}", "one path"),
        (
            "{camera: {source: v}, model: {folder: m}, sinks: [{kind: sqlite, path: ./a}], spool: {path: a}}",
            "one path",
        ),
        ("{camera: {source: v}, model: {folder: m}, device_id: 'a b'}", "device_id"),
        (
            "{camera: {source: v, policy: {threshold: 1, send_share: 0.1}}, model: {folder: m}}",
            "policy.threshold: and send_share both say",
        ),
        (
            "{camera: {source: v, policy: {threshold: 1}}, model: {folder: m}, policy: {max_error: 0.1}}",
            "policy.max_error",
        ),
        (
            "{camera: {source: v}, model: {folder: m}, sinks: [{kind: mqtt, host: 'mqtt://me:pw@broker:1883'}]}",
            "sinks[0].host: must be a host name",
        ),
    ],
)
def test_errors_name_the_key(text: str, path: str) -> None:
    """A missing, mistyped or out-of-range key is an error that says where it is."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, EdgeConfig, "edge.yaml")
    assert "edge.yaml" in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("cameras", "words"),
    [
        ("", "camera: is missing"),
        ("camera: {source: v}, cameras: [{source: w}], ", "exactly one of them"),
        ("cameras: [{source: v}, {source: w}], ", "'camera' is the name of another camera too"),
        ("cameras: [{source: v, camera_id: a, pace: fast}, {source: w}], ", "pace: must be the same"),
    ],
)
def test_cameras_that_cannot_share_a_device_are_refused(cameras: str, words: str) -> None:
    """One or several, not both and not none; each with a name of its own; one pace."""
    with pytest.raises(ConfigError, match=words):
        parse_config(f"{{{cameras}model: {{folder: m}}}}", EdgeConfig, "edge.yaml")


def test_a_camera_changes_only_what_it_says() -> None:
    """Keys of its policy that are not given are the device's; its redaction replaces the device's."""
    text = """
    {model: {folder: m}, policy: {threshold: 0.4, band: 0.2}, redaction: {classes: [person]},
     cameras: [{source: v, camera_id: a, policy: {threshold: 0.7}},
               {source: w, camera_id: b, redaction: {classes: [car]}}]}"""
    config = parse_config(text, EdgeConfig, "edge.yaml")
    first, second = (for_camera(config, camera) for camera in config.all_cameras)
    assert (first.policy.threshold, first.policy.band) == (0.7, 0.2)
    assert second.policy == config.policy
    assert [one.redaction.classes for one in (first, second) if one.redaction] == [("person",), ("car",)]
