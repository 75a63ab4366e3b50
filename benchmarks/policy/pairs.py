"""The pairs of models that policies are measured on: the default pair, and those of a data folder."""

from dataclasses import dataclass
from pathlib import Path

from spillover.common.home import cache_home
from spillover.edge.config import MultiViewConfig
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL
from spillover.lab.models.prepare.wrap import wrap_onnx


@dataclass(frozen=True, slots=True)
class BenchPair:
    """Folders of two models, labelled pictures, and whether the edge uses several views or is calibrated."""

    name: str
    edge: Path
    cloud: Path
    data: Path
    views: MultiViewConfig | None = None
    calibrate: bool = False

    @property
    def missing(self) -> Path | None:
        """The first of model folders and data that does not exist; None where all do."""
        return next((path for path in (self.edge, self.cloud, self.data) if not path.exists()), None)


def bench_pairs(folder: Path) -> list[BenchPair]:
    """Three pairs of models in several ways; networks in `folder`/models are wrapped into the cache folder.

    Raises:
        ModelError: a network does not fit its preset.
    """
    models, data = cache_home() / "models", folder / "data"
    wrapped = {
        preset: _wrapped(folder / "models" / file, preset)
        for preset, file in (
            ("cifar-resnet8", "cifar_resnet8.onnx"),
            ("cifar-resnet56", "cifar_resnet56.onnx"),
            ("fastestdet", "fastestdet_352.onnx"),
            ("yolox", "yolox_nano_416.onnx"),
        )
    }
    pair = (models / EDGE_MODEL, models / CLOUD_MODEL, data / "imagenet-sample")
    detectors = (wrapped["fastestdet"], wrapped["yolox"], data / "coco-dev")
    return [
        BenchPair("imagenet", *pair),
        BenchPair("imagenet-second-look", *pair, MultiViewConfig()),
        BenchPair("cifar10", wrapped["cifar-resnet8"], wrapped["cifar-resnet56"], data / "cifar10-dev.npz"),
        BenchPair("coco", *detectors),
        BenchPair("coco-calibrated", *detectors, calibrate=True),
        BenchPair("coco-calibrated-second-look", *detectors, MultiViewConfig(), calibrate=True),
    ]


def _wrapped(network: Path, preset: str) -> Path:
    target = cache_home() / "bench" / preset / "1"
    if network.is_file() and not target.is_dir():
        wrap_onnx(
            network,
            target,
            preset,
            name=preset,
            version="1",
        )
    return target
