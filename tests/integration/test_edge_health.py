"""A daemon in the heat: it does less and more again, answers with a smaller model, and tells of it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.errors import ConfigError, ModelError
from spillover.common.images import encode_jpeg
from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.edge.assembly.health import build_health
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.health.ladder import STEPS
from spillover.edge.health.monitor import PERIOD_S
from spillover.edge.policy.gain import EdgeSide, GainFile, classification_features
from spillover.edge.reloads import Read
from spillover.edge.status.text import to_text
from spillover.edge.status.verdict import Verdict, verdict
from spillover.edge.tracking.tracker import Tracker
from tests.support.live_view import opened
from tests.support.models import SIDE, bright_detector, colour_classifier
from tests.support.processes import free_port
from tests.support.scripted_cloud import PATIENCE_S, no_server_address
from tests.support.tracked import until


class Hot:
    """A daemon on a device whose temperature and time a test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 1000.0
        self.output, self.reports = folder / "out.jsonl", folder / "health.jsonl"
        (folder / "pictures").mkdir()
        cv2.imwrite(str(folder / "pictures" / "0.png"), np.full((SIDE, SIDE, 3), 90, np.uint8))
        self.models = folder / "models"
        colour_classifier(self.models)
        self.zone = folder / "sys/class/thermal/thermal_zone0"
        self.zone.mkdir(parents=True)
        self.zone.joinpath("type").write_text("cpu-thermal\n")
        self.warm(40.0)
        self.daemon: Daemon

    def warm(self, celsius: float) -> None:
        """The sensor says so from now on."""
        self.zone.joinpath("temp").write_text(f"{celsius * 1000:.0f}\n")

    def config(self, **sections: Any) -> EdgeConfig:
        """Pictures without end, two models, results and reports as files."""
        base: dict[str, Any] = {
            "mode": "edge_only",
            "camera": {"source": str(self.folder / "pictures"), "fps": 50, "loop": True},
            "model": {"folder": str(self.models / "colour" / "1"), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(self.output)}],
            "health": {"file": str(self.reports)},
            "stop_timeout_s": PATIENCE_S,
        }
        return msgspec.convert(base | sections, EdgeConfig)

    def gain_file(self, version: str, gain: float) -> str:
        """A file by which every answer of that version has this gain."""
        size = classification_features(CLASSIFICATION.own(CLASSIFICATION.blank()), 3, 1.0).size
        made = GainFile(
            task="classification",
            edge=EdgeSide.of(open_model_folder(self.models / "colour" / version).manifest),
            cloud_model="any@1",
            classes=3,
            temperature=1.0,
            mean=(0.0,) * size,
            scale=(1.0,) * size,
            weights=(0.0,) * size,
            bias=gain,
            pictures=1,
            data_sha256="",
        )
        path = self.folder / f"gain-{version}.json"
        path.write_bytes(msgspec.json.encode(made))
        return str(path)

    @contextmanager
    def running(self, read: Read | None = None, **sections: Any) -> Iterator[None]:
        """The daemon on a thread of its own, from its first result on."""
        watch = partial(build_health, root=self.folder, clock=lambda: self.now_s)
        self.daemon = Daemon(self.config(**sections), read=read, watch=watch)
        thread = threading.Thread(target=self.daemon.run)
        thread.start()
        try:
            until(lambda: bool(self.lines("timings")))
            yield
        finally:
            self.daemon.stop("the test")
            thread.join(PATIENCE_S)

    def stay(self, celsius: float, seconds: float) -> None:
        """Have the device at this temperature for so long, on its own clock."""
        self.warm(celsius)
        health = self.daemon.health
        assert health.keeper is not None
        for _ in range(int(seconds / PERIOD_S)):
            self.now_s += PERIOD_S
            until(lambda: health.monitor.sample().temperature_celsius == celsius)  # others read too
            health.keeper.look()

    def lines(self, key: str, path: Path | None = None) -> list[dict[str, Any]]:
        """Whole lines of a file that have this key."""
        path = path or self.output
        text = path.read_text() if path.exists() else ""
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in found if key in line]

    def answers(self, model: str) -> None:
        """Wait until this model has answered a frame that was not there before."""
        before = len(self.lines("timings"))
        until(
            lambda: (
                model
                in [
                    f"{one['model']['name']}@{one['model']['version']}"
                    for one in self.lines("timings")[before:]
                ]
            )
        )


def test_a_hot_device_does_less_and_more_again(tmp_path: Path) -> None:
    """A smaller model answers between two frames and says so; then a pause; then all comes back."""
    hot = Hot(tmp_path)
    variant = {"folder": str(colour_classifier(hot.models, version="2", gain=4.0)), "threads": 1}
    model = {"folder": str(hot.models / "colour" / "1"), "variants": [variant]}
    with hot.running(model=model, metrics_address="127.0.0.1:0", live_view=True):
        live_view = hot.daemon.live_view
        assert live_view is not None
        hot.stay(78.0, 100)
        found = hot.daemon.status()
        assert found.ladder is not None
        assert (found.ladder.step, found.ladder.cause) == (3, "heat")
        assert "78.0 °C" in live_view.hub.paused
        assert "LADDER     step 3 of 6" in to_text(found)
        hot.answers("colour@2")
        hot.stay(84.0, 60)
        assert hot.daemon.status().ladder == msgspec.structs.replace(
            found.ladder, step=6, does=STEPS[6].does, reason="84.0 °C", age_s=hot.daemon.status().ladder.age_s
        )
        until(lambda: hot.daemon.status().cameras[0].thinned.get("heat", 0) > 0)
        hot.stay(40.0, 7 * 180)
        hot.answers("colour@1")
        assert live_view.hub.paused == ""
        until(lambda: [one["ladder"]["step"] for one in hot.lines("ladder", hot.reports)][-1:] == [0])
        found = hot.daemon.status()
        assert (found.model.version, verdict(found)) == ("1", Verdict.BALANCED)
    steps = [(one["before"], one["step"], one["cause"]) for one in hot.lines("step")]
    assert steps[:4] == [(0, 1, "heat"), (1, 2, "heat"), (2, 3, "heat"), (3, 5, "heat")]
    assert steps[-1] == (1, 0, "")
    models = {one["model"]["version"] for one in hot.lines("timings")}
    assert models == {"1", "2"}
    report = hot.lines("device", hot.reports)[-1]
    assert report["event"] == "health"
    assert (report["device"]["temperature_celsius"], report["device"]["fan_rpm"]) == (40.0, None)
    assert report["work"]["inferences"] > 0


def test_each_model_decides_by_its_own_gain(tmp_path: Path) -> None:
    """What was fitted to one model says nothing of another's doubts; a reload leaves both as they are."""
    hot = Hot(tmp_path)
    folder = colour_classifier(hot.models, version="2")
    variant = {"folder": str(folder), "gain_file": hot.gain_file("2", 0.7)}
    policy = {"kind": "expected_gain", "gain_file": hot.gain_file("1", 0.5), "threshold": 1.0}
    sections = {
        "mode": "hybrid",
        "model": {"folder": str(hot.models / "colour" / "1"), "variants": [variant]},
        "policy": policy | {"audit_share": 0.0},
        "uplink": {"address": no_server_address()},
    }
    wanted = hot.config(**sections, deadline_margin_s=0.03)
    with hot.running(read=lambda: nullcontext(wanted), **sections):
        hot.stay(78.0, 100)
        hot.answers("colour@2")
        hot.daemon.reload()
        until(lambda: hot.daemon.status.streams[0][1].pipeline.settings.first_result_s == 0.47)
        hot.answers("colour@2")
    scores = {(one["model"]["version"], one["decision"]["score"]) for one in hot.lines("timings")}
    assert scores == {("1", 0.5), ("2", 0.7)}


def test_each_detector_reports_from_its_own_threshold(tmp_path: Path) -> None:
    """Confidences of two networks are on two scales, for programs that ask too; what is followed goes on."""
    hot = Hot(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    grey = encode_jpeg(np.full((SIDE, SIDE, 3), 115, np.uint8), 95).data  # which gives a box of 0.45

    def boxes_told() -> int:
        with opened(address, "/api/v1/infer", method="POST", body=grey) as answer:
            return len(json.loads(answer.read())["boxes"])

    folders = [bright_detector(hot.models, "bright", version) for version in ("1", "2")]
    for folder, threshold in zip(folders, (0.3, 0.6), strict=True):
        manifest = open_model_folder(folder).manifest
        output = msgspec.structs.replace(manifest.output, report_threshold=threshold)
        write_manifest(folder, msgspec.structs.replace(manifest, output=output))
    large, small = map(str, folders)
    model = {"folder": large, "variants": [{"folder": small}]}
    with hot.running(model=model, metrics_address=address, live_view=True):
        assert boxes_told() == 1
        pipeline = hot.daemon.status.streams[0][1].pipeline
        before = pipeline.in_use
        hot.stay(78.0, 100)
        after = pipeline.in_use
        assert pipeline.settings is before  # by which pictures are known that may no longer be shown
        assert isinstance(after.temporal, Tracker)
        assert after.temporal is before.temporal
        assert (before.report_threshold, after.report_threshold) == (0.3, 0.6)
        assert after.temporal.settings[1] == 0.6
        hot.answers("bright@2")
        assert boxes_told() == 0
        hot.stay(40.0, 7 * 180)
        assert pipeline.in_use is before
        assert after.temporal.settings[1] == 0.3


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("task", r"model\.variants\[0\]\.folder.*is for detection"),
        ("labels", r"model\.variants\[0\]\.folder.*other labels"),
        ("itself", r"model\.variants\[0\]\.folder.*is colour@1"),
        ("nowhere", r"model\.variants\[0\]\.folder"),
        ("gain", r"model\.variants\[0\]\.gain_file"),
    ],
)
def test_a_variant_that_does_not_fit_is_refused_by_its_key(tmp_path: Path, key: str, words: str) -> None:
    """Another task, other labels, the same name, no folder, no gain of its own: told at the start."""
    hot = Hot(tmp_path)
    other = colour_classifier(hot.models, version="2")
    folder = {
        "task": bright_detector(hot.models, "bright"),
        "labels": other,
        "itself": hot.models / "colour" / "1",
        "nowhere": hot.models / "none",
        "gain": other,
    }[key]
    if key == "labels":
        (folder / "labels.txt").write_text("a\nb\nc\n")
        manifest = open_model_folder(folder).manifest
        write_manifest(folder, msgspec.structs.replace(manifest, labels="labels.txt"))
    sections: dict[str, Any] = {
        "model": {"folder": str(hot.models / "colour" / "1"), "variants": [{"folder": str(folder)}]}
    }
    if key == "gain":
        gain = {"kind": "expected_gain", "gain_file": hot.gain_file("1", 0.5)}
        sections |= {"mode": "hybrid", "policy": gain}
    with pytest.raises((ConfigError, ModelError), match=words):
        Daemon(hot.config(**sections))
