"""Bundles: the same bytes from the same folder, an equal folder from them, nothing out of a damaged one."""

import io
import tarfile
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillover.common.bundle.format import (
    BUNDLE_FILE,
    GAIN_FILE,
    GOLDEN_FOLDER,
    BundleManifest,
    pack,
    read_manifest,
    unpack,
)
from spillover.common.bundle.golden import GOLDEN_FILE, check_golden, golden_files
from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.images import encode_jpeg
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.manifest import open_model_folder
from tests.support.models import centre_detector, colour_classifier, fuse


def fused_detector(repository: Path) -> Path:
    """A detector of two members."""
    members = [centre_detector(repository, name) for name in ("one", "two")]
    return fuse(repository, *members)


MAKERS = [colour_classifier, centre_detector, fused_detector]


def bundle_of(folder: Path, out: Path, extra: dict[str, Path] | None = None) -> Path:
    """A bundle of the model in `folder`."""
    with out.open("wb") as file:
        pack(open_model_folder(folder), file, extra or {})
    return out


def jpegs(folder: Path) -> list[Path]:
    """A red, a green and a blue picture."""
    paths = []
    for channel in range(3):
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[..., channel] = 200
        paths.append(folder / f"picture-{channel}.jpg")
        paths[-1].write_bytes(encode_jpeg(picture, 90).data)
    return paths


@pytest.mark.parametrize("maker", MAKERS)
def test_a_bundle_gives_the_folder_back(tmp_path: Path, maker: object) -> None:
    """Every file that belongs to the model, byte by byte, and no other; packing gives the same each time."""
    folder = maker(tmp_path / "models")  # type: ignore[operator]
    (folder / "notes.txt").write_text("not of the model", encoding="utf-8")
    gain = tmp_path / "fitted.json"
    gain.write_text("{}", encoding="utf-8")
    first = bundle_of(folder, tmp_path / "first.bundle", {GAIN_FILE: gain})
    assert first.read_bytes() == bundle_of(folder, tmp_path / "again.bundle", {GAIN_FILE: gain}).read_bytes()
    unpacked = unpack(first, tmp_path / "unpacked")
    files = {str(path.relative_to(unpacked.path)) for path in unpacked.path.rglob("*") if path.is_file()}
    assert files == set(read_manifest(first).files)
    assert "notes.txt" not in files
    for name in files - {GAIN_FILE}:
        assert (unpacked.path / name).read_bytes() == (folder / name).read_bytes()
    assert unpacked.manifest == open_model_folder(folder).manifest


def test_golden_pictures_travel_with_the_model(tmp_path: Path) -> None:
    """The model itself agrees; another one of the same form does not, and the error says by how much."""
    model = load_model(colour_classifier(tmp_path))
    golden = tmp_path / GOLDEN_FOLDER
    golden.mkdir()
    files = golden_files(model, jpegs(tmp_path), golden)
    extra = {f"{GOLDEN_FOLDER}/{path.name}": path for path in files}
    unpacked = unpack(bundle_of(model.folder.path, tmp_path / "it.bundle", extra), tmp_path / "unpacked")
    assert check_golden(load_model(unpacked.path), unpacked.path / GOLDEN_FOLDER) == 1.0
    other = load_model(colour_classifier(tmp_path, "inverse", gain=-8.0))
    with pytest.raises(ModelError, match=r"agreement 0\.\d\d on 3 golden pictures"):
        check_golden(other, unpacked.path / GOLDEN_FOLDER)


def test_golden_pictures_that_are_damaged_are_refused(tmp_path: Path) -> None:
    """The text names the file; so does that for pictures that cannot be golden."""
    model = load_model(colour_classifier(tmp_path))
    golden_files(model, jpegs(tmp_path), tmp_path)
    (tmp_path / "1.jpg").write_bytes(b"none")
    with pytest.raises(ModelError, match=r"1\.jpg"):
        check_golden(model, tmp_path)
    (tmp_path / GOLDEN_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"golden\.json"):
        check_golden(model, tmp_path)
    with pytest.raises(InvalidInputError, match=r"1\.jpg"):
        golden_files(model, [tmp_path / "1.jpg"], tmp_path)
    with pytest.raises(InvalidInputError, match="takes 1 to 64"):
        golden_files(model, [], tmp_path)


def rewritten(bundle: Path, out: Path, **changed: object) -> Path:
    """The bundle with other values in its description."""
    manifest = msgspec.structs.replace(read_manifest(bundle), **changed)
    with tarfile.open(bundle) as old, tarfile.open(out, "w:", format=tarfile.USTAR_FORMAT) as new:
        for head in old.getmembers():
            data = old.extractfile(head).read()  # type: ignore[union-attr]
            if head.name == BUNDLE_FILE:
                data = msgspec.json.encode(manifest)
                head.size = len(data)
            new.addfile(head, io.BytesIO(data))
    return out


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "other"}, "describes another model"),
        ({"labels_sha256": "0" * 64}, "describes another model"),
        ({"task": "detection"}, "describes another model"),
        ({"files": {}}, "is not as"),
        ({"format": 2}, r"bundle\.json"),
        ({"min_software": "soon"}, r"bundle\.json"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    """Whatever it says of a model that is another one."""
    bundle = bundle_of(colour_classifier(tmp_path), tmp_path / "it.bundle")
    with pytest.raises(ModelError, match=words):
        unpack(rewritten(bundle, tmp_path / "changed.bundle", **changed), tmp_path / "unpacked")


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a//b", ".hidden", BUNDLE_FILE, "a/b/c/d"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Neither is such a file packed nor is it unpacked."""
    folder = colour_classifier(tmp_path / "models")
    with pytest.raises(ModelError, match="takes no file of the name"):
        bundle_of(folder, tmp_path / "it.bundle", {name: folder / "model.yaml"})
    manifest = read_manifest(bundle_of(folder, tmp_path / "it.bundle"))
    files = manifest.files | {name: manifest.files["model.yaml"]}
    changed = rewritten(tmp_path / "it.bundle", tmp_path / "changed.bundle", files=files)
    with pytest.raises(ModelError, match="no name of a file"):
        unpack(changed, tmp_path / "unpacked")


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    """Even where the description names them."""
    bundle = bundle_of(colour_classifier(tmp_path), tmp_path / "it.bundle")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        with tarfile.open(bundle) as old, tarfile.open(tmp_path / "evil", "w:") as new:
            for head in old.getmembers():
                data = old.extractfile(head)
                if head.name == "model.yaml":
                    head.type, head.linkname, head.size = kind, "/etc/passwd", 0
                new.addfile(head, data)
        with pytest.raises(ModelError, match="is not as"):
            unpack(tmp_path / "evil", tmp_path / f"unpacked-{kind!r}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_damaged_bundles_are_errors_of_the_bundle(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, or with any bytes changed: a ModelError, or what was packed."""
    folder = tmp_path_factory.mktemp("damaged")
    bundle = bundle_of(colour_classifier(folder), folder / "it.bundle")
    content = bytearray(bundle.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    bundle.write_bytes(content)
    with suppress(ModelError):
        unpack(bundle, folder / "unpacked")


def test_the_description_says_which_software_runs_it(tmp_path: Path) -> None:
    """As the one who packs it says."""
    with (tmp_path / "it.bundle").open("wb") as file:
        said = pack(open_model_folder(colour_classifier(tmp_path)), file, {}, min_software="0.2")
    read = read_manifest(tmp_path / "it.bundle")
    assert read == said
    assert isinstance(read, BundleManifest)
    assert read.min_software == "0.2"
