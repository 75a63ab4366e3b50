"""A real detector, calibrated and looking again, through fit, daemon, server and replay."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import open_model_folder
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.policy.gain import GainModel
from spillover.lab.models.prepare.wrap import wrap_onnx
from spillover.lab.pairs.fit.cli import fit
from spillover.lab.pairs.replay.cli import replay
from spillover.lab.records import read_records
from tests.support.serving import cloud_config, serving

pytestmark = pytest.mark.slow

PICTURES = 12
A_MINUTE_S = 60.0


class Street:
    """Twelve labelled pictures, both detectors, and a gain file that was fitted to them."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self.folder = folder
        for name, file in (("fastestdet", "fastestdet_352.onnx"), ("yolox", "yolox_nano_416.onnx")):
            target = folder / "models" / name / "1"
            wrap_onnx(shared / "models" / file, target, name, name=name, version="1")
        self.edge = folder / "models" / "fastestdet" / "1"
        self.pictures, self.gain = folder / "pictures", folder / "gain.json"
        self.pictures.mkdir()
        whole = json.loads((shared / "data/coco-dev/instances.json").read_bytes())
        whole["images"] = whole["images"][:PICTURES]
        kept = {image["id"] for image in whole["images"]}
        whole["annotations"] = [one for one in whole["annotations"] if one["image_id"] in kept]
        (self.pictures / "instances.json").write_text(json.dumps(whole))
        for image in whole["images"]:
            shutil.copy(shared / "data/coco-dev/images" / image["file_name"], self.pictures)
        command = ["--edge", self.edge, "--cloud", folder / "models/yolox/1", "--data", self.pictures]
        variants = folder / "edge.yaml"
        variants.write_text(
            "camera: {source: nowhere}\nmodel: {folder: none, report_threshold: 0.3}\n"
            "uplink: {variants: [{jpeg_quality: 50, longest_side: 160}, {jpeg_quality: 80}]}\n"
        )
        command += [
            "--variants",
            variants,
            "--out",
            self.gain,
            "--calibrate",
            "--look-below",
            "0.95",
            "--threads",
            "1",
        ]
        CliRunner().invoke(fit, [str(word) for word in command], catch_exceptions=False)

    def daemon(self, address: str, variants: Sequence[Any] = (), **model: Any) -> Daemon:
        """A daemon over the pictures that sends about half of them."""
        threshold = GainModel.load(self.gain).file.gain_quantiles[50]
        values: dict[str, Any] = {
            "camera": {"source": str(self.pictures), "pace": "fast"},
            "model": {"folder": str(self.edge), "report_threshold": 0.1, "session": {"threads": 1}} | model,
            "policy": {
                "kind": "expected_gain",
                "gain_file": str(self.gain),
                "threshold": threshold,
                "audit_share": 0.2,
            },
            "uplink": {"address": address, "variants": variants},
            "sinks": [{"kind": "jsonl", "path": str(self.folder / "out.jsonl"), "decision": "full"}],
            "deadline_s": A_MINUTE_S,
            "stop_timeout_s": A_MINUTE_S,
        }
        return Daemon(msgspec.convert(values, EdgeConfig))


@pytest.fixture(scope="module")
def street(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Street:
    """One site for all tests of this file: to fit takes seconds."""
    folder = tmp_path_factory.mktemp("street")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPILLOVER_HOME", str(folder / "home"))
        return Street(shared_dir, folder)


@pytest.fixture
def finished(street: Street) -> Callable[[], None]:
    """A run of the daemon against a real server; the log is there afterwards."""

    def run() -> None:
        repository = street.folder / "models"
        default = {"models": {"repository": str(repository), "default": "yolox"}}
        with serving(cloud_config(repository, **default)) as server:
            street.daemon(server.address, multi_view={"below": 0.95}).run()

    return run


def test_a_calibrated_detector_that_looks_again_runs_by_its_gain_file(
    street: Street, finished: Callable[[], None]
) -> None:
    """Some frames are sent and some stay; every decision of the log follows from what the log says of it."""
    finished()
    records = [record for record in read_records(street.folder / "out.jsonl") if record.revision == 0]
    assert len(records) == PICTURES
    assert {record.answered_by for record in records} == {"edge", "cloud"}
    assert all(record.boxes is not None for record in records)
    done = CliRunner().invoke(
        replay,
        ["--log", str(street.folder / "out.jsonl"), "--link", "constant", "--threshold", "0.1"],
        catch_exceptions=False,
    )
    assert f"{PICTURES} of {PICTURES} the same" in done.output


def test_the_same_detector_looking_once_is_refused(street: Street) -> None:
    """The gain file was fitted to one that looks again: the error says so before a frame is taken."""
    with pytest.raises(ConfigError, match=r"gain\.json: fitted to an edge whose multi_view"):
        street.daemon("127.0.0.1:1")


def test_a_detector_is_not_shown_a_square_alone(street: Street) -> None:
    """What lies beside it would look empty; the error names the key."""
    with pytest.raises(ConfigError, match=r"uplink\.variants: square"):
        street.daemon("127.0.0.1:1", [{"jpeg_quality": 80, "square": True}], multi_view={"below": 0.95})


def test_the_fit_has_measured_what_smaller_pictures_keep(street: Street) -> None:
    """Less than all and more than nothing, by the name that the daemon's decisions use."""
    kept = GainModel.load(street.gain).file.fidelity
    assert set(kept) == {"picture-q50-160", "picture-q80"}
    assert all(0 < share < 1 for share in kept.values())


def test_the_fit_has_calibrated_the_model_that_runs(street: Street) -> None:
    """The gain file names the calibration that model.yaml now has."""
    output = open_model_folder(street.edge).manifest.output
    assert output.calibration is not None
    assert GainModel.load(street.gain).file.edge.calibration == output.calibration
