"""COCO's instances.json (cocodataset.org/#format-data): the parts that boxes are judged by."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec

from spillover.common.errors import SourceError

_BOM = b"\xef\xbb\xbf"
_Size = Annotated[float, msgspec.Meta(ge=0)]


class _Image(msgspec.Struct):
    id: int
    file_name: str


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, _Size, _Size]
    area: float | None = None
    iscrowd: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str = ""


class _Instances(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_instances(path: Path) -> dict[str, Any]:
    """Images, annotations and categories of the file.

    Annotations are numbered anew from 1: COCO's evaluation takes the number 0 for no match.

    Raises:
        SourceError: it is not COCO's format, it contradicts itself, or it has no annotations.
    """
    try:
        read = msgspec.json.decode(path.read_bytes().removeprefix(_BOM), type=_Instances)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: not COCO instances: {error}") from error
    if fault := _fault(read):
        raise SourceError(f"{path}: {fault}")
    annotations = [
        msgspec.to_builtins(box)
        | {
            "id": number,
            "bbox": list(box.bbox),
            "area": box.bbox[2] * box.bbox[3] if box.area is None else box.area,
        }
        for number, box in enumerate(read.annotations, start=1)
    ]
    whole: dict[str, Any] = msgspec.to_builtins(read)
    return whole | {"annotations": annotations}


def _fault(read: _Instances) -> str:
    """The first fault; empty where there is none."""
    images, categories = {image.id for image in read.images}, {category.id for category in read.categories}
    if not images:
        return "has no images"
    if not categories:
        return "has no categories"
    for what, values in (
        ("image id", [image.id for image in read.images]),
        ("image", [image.file_name for image in read.images]),
        ("category id", [category.id for category in read.categories]),
    ):
        (most, times), *_ = Counter(values).most_common(1)
        if times > 1:
            return f"lists {what} {most} {times} times"
    for index, box in enumerate(read.annotations):
        if box.image_id not in images or box.category_id not in categories:
            return f"annotations[{index}] has image {box.image_id} and category {box.category_id}, not listed"
    return "" if any(not box.iscrowd for box in read.annotations) else "has no annotations: nothing to find"
