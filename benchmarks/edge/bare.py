"""The bare loop beside the pipeline: read, predict, next. A process; prints frames per second as JSON."""

import json
import sys
import time
from pathlib import Path

from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.edge.camera.open import open_source


def main(source: str, model_folder: str, frames: int, skip: int) -> None:
    """Time `frames` frames after the first `skip`; a source that ends is begun again."""
    model = Model.load(Path(model_folder), SessionConfig(threads=1))
    pictures = open_source(source)
    start = 0.0
    for index in range(frames):
        picture = pictures.read()
        if picture is None:
            pictures.rewind()
            picture = pictures.read()
        if picture is None:
            raise SystemExit(f"{source}: no pictures")
        model.predict(picture.image)
        if index == skip:
            start = time.perf_counter()
    print(json.dumps({"fps": (frames - 1 - skip) / (time.perf_counter() - start)}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
