"""Fetching and installing: the bytes it takes, where it goes on, and what it refuses for good."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spillover.common.bundle.format import GOLDEN_FOLDER, labels_digest
from spillover.common.bundle.golden import golden_files
from spillover.common.bundle.target import Target
from spillover.common.errors import UnavailableError
from spillover.common.model.ensemble.opening import load_model
from spillover.edge.models.store import ModelStore
from spillover.edge.models.update.installing import DeviceFacts, RefusedError, bring
from tests.support.fleet import Fleet
from tests.support.models import centre_detector, colour_classifier, fragile_classifier
from tests.unit.common.test_bundle import jpegs

FACTS = DeviceFacts("0.1.0", "classification", labels_digest(()), ("onnxruntime",))


class Device:
    """A device of a fleet, that counts what it fetches."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.store = ModelStore(fleet.device / "models")
        self.fetched_bytes = 0
        self.breaks_after = 10**9
        """Chunks until the link breaks."""

    def fetch(self, sha256: str, offset: int) -> Iterator[bytes]:
        """As over a link."""
        for number, chunk in enumerate(self.fleet.content(sha256, offset)):
            if number == self.breaks_after:
                raise UnavailableError("the link is down")
            self.fetched_bytes += len(chunk)
            yield chunk

    def bring(self, target: Target, facts: DeviceFacts = FACTS) -> None:
        """Install it as it is signed."""
        bring(self.store.folder, self.fleet.trust().bundle(target.sha256), facts, self.fetch)

    @property
    def incoming(self) -> list[str]:
        """Names of what is unfinished."""
        return sorted(path.name for path in (self.store.folder / "incoming").iterdir())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """One device."""
    return Device(Fleet(tmp_path))


def test_a_bundle_is_fetched_once_and_runs(device: Device) -> None:
    """To the byte; nothing is left beside it; it answers."""
    target = device.fleet.publish("1")
    device.bring(target)
    assert device.fetched_bytes == target.size_bytes
    assert device.incoming == []
    assert str(load_model(device.store.model_folder(target.sha256)).model_id) == "colour@1"


def test_a_link_that_breaks_costs_nothing_twice(device: Device) -> None:
    """Each attempt goes on where the last one stopped."""
    target = device.fleet.publish("1")
    device.breaks_after = 2
    attempts = 0
    while not device.store.has(target.sha256):
        attempts += 1
        try:
            device.bring(target)
        except UnavailableError:
            assert attempts < 50
    assert attempts > 1
    assert device.fetched_bytes == target.size_bytes


def test_a_patch_is_taken_where_it_is_smaller(device: Device) -> None:
    """From a bundle that is here; the result is the bundle, byte by byte."""
    first = device.fleet.publish("1")
    device.bring(first)
    second = device.fleet.publish("2", first, patch_from=first)
    device.fetched_bytes = 0
    device.bring(second, replace(FACTS, has=(first.sha256,)))
    assert device.fetched_bytes == second.note.patches[first.sha256].size_bytes < second.size_bytes / 4
    whole = device.fleet.store.path_of(second.sha256).read_bytes()
    assert device.store.bundle(second.sha256).read_bytes() == whole


def test_a_patch_that_does_not_fit_is_no_obstacle(device: Device) -> None:
    """The bundle here is damaged: the whole one is fetched."""
    first = device.fleet.publish("1")
    device.bring(first)
    second = device.fleet.publish("2", first, patch_from=first)
    device.store.bundle(first.sha256).write_bytes(b"damaged")
    device.bring(second, replace(FACTS, has=(first.sha256,)))
    assert device.store.has(second.sha256)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": "detection"}, "is for classification"),
        ({"labels_sha256": "0" * 64}, "has other labels, or in another order"),
        ({"runtimes": ("rk3588",)}, "runs on onnxruntime, this device has rk3588"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_byte_is_fetched(
    device: Device, changed: dict[str, object], words: str
) -> None:
    """The reason names the model and what does not fit."""
    target = device.fleet.publish("1")
    with pytest.raises(RefusedError, match=f"colour@1: {words}"):
        device.bring(target, replace(FACTS, **changed))  # type: ignore[arg-type]
    assert device.fetched_bytes == 0


def test_software_that_is_too_old_is_told(device: Device) -> None:
    """Versions are compared number by number."""
    target = device.fleet.publish("1", min_software="0.10")
    with pytest.raises(RefusedError, match=r"needs software 0\.10, this is 0\.9\.1"):
        device.bring(target, replace(FACTS, software="0.9.1"))
    device.bring(target, replace(FACTS, software="0.10.0"))


def test_a_model_that_does_not_run_is_refused(device: Device, tmp_path: Path) -> None:
    """One whose network is damaged, and one that answers otherwise than where it was packed."""
    broken = fragile_classifier(tmp_path / "broken", "index")
    (broken / "model.onnx").write_bytes(b"no network")
    manifest = (broken / "model.yaml").read_text(encoding="utf-8")
    (broken / "model.yaml").write_text(
        "\n".join(line for line in manifest.splitlines() if not line.startswith("sha256")), encoding="utf-8"
    )
    with pytest.raises(RefusedError):
        device.bring(device.fleet.publish("1", folder=broken))
    golden = tmp_path / GOLDEN_FOLDER
    golden.mkdir()
    other = load_model(colour_classifier(tmp_path / "other", gain=-8.0))
    extra = {f"{GOLDEN_FOLDER}/{path.name}": path for path in golden_files(other, jpegs(tmp_path), golden)}
    with pytest.raises(RefusedError, match="answers otherwise here"):
        device.bring(device.fleet.publish("2", extra=extra))
    assert not list((device.store.folder / "store").iterdir())
    detector = device.fleet.publish("1", folder=centre_detector(tmp_path / "detector"))
    with pytest.raises(RefusedError, match="is for detection"):
        device.bring(detector)


def test_more_or_other_bytes_than_signed_are_thrown_away(device: Device) -> None:
    """A server that sends on and on, or something else: nothing stays, and the next attempt begins anew."""
    target = device.fleet.publish("1")
    trusted = device.fleet.trust().bundle(target.sha256)
    for lie, words in ((b"x" * 1000, "more than the"), (b"", "bytes have come")):
        with pytest.raises(UnavailableError, match=words):
            bring(device.store.folder, trusted, FACTS, lambda *_, lie=lie: iter([lie] * 1000))
    with pytest.raises(UnavailableError, match="another digest"):
        bring(device.store.folder, trusted, FACTS, lambda *_: iter([bytes(target.size_bytes)]))
    device.bring(target)
    assert device.fetched_bytes == target.size_bytes


def test_a_full_disk_is_said_before_it_is_fetched(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is needed and what is there; it is tried again later."""
    target = device.fleet.publish("1")
    usage = shutil.disk_usage(device.store.folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UnavailableError, match="MB are free; a bundle of"):
        device.bring(target)
    assert device.fetched_bytes == 0
