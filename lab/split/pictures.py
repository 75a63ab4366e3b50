"""Pictures to calibrate on: a labelled set without its labels, any folder, or what packages bring."""

from collections.abc import Sequence
from pathlib import Path

from spillover.lab.data.labelled import COCO_FILE, LABELS_FILE, open_labelled_set
from spillover.lab.data.pictures import Picture
from spillover.lab.models.prepare.photographs import package_photographs
from spillover.lab.models.quantize.calibration import folder_pictures
from spillover.lab.split.pareto import thinned


def calibration_pictures(source: Path | None, count: int) -> Sequence[Picture]:
    """At most `count` pictures, evenly spread over the source. Raises SourceError."""
    if source is None:
        return thinned(package_photographs(), count)
    if source.is_file() or any((source / name).is_file() for name in (LABELS_FILE, COCO_FILE)):
        return thinned(open_labelled_set(source).pictures, count)
    return folder_pictures(source, count)
