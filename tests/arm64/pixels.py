"""Digests of pictures as network inputs; a program that runs on both architectures and prints JSON."""

import hashlib
import json
import sys
from pathlib import Path

from spillover.common.images import decode_jpeg
from spillover.common.model.manifest import Input, Interpolation, Resize
from spillover.common.model.preprocess import preprocess

_SIZES = (224, 352, 416)


def main(pictures: list[str]) -> None:
    """Decode each JPEG and make it an input in every way, with each filter."""
    digests: dict[str, dict[str, str]] = {}
    for filter_ in (Interpolation.LINEAR, Interpolation.AREA, Interpolation.BICUBIC):
        made = digests.setdefault(filter_.value, {})
        for path in map(Path, pictures):
            image = decode_jpeg(path.read_bytes(), 10**8)
            for resize in (Resize.STRETCH, Resize.LETTERBOX, Resize.CENTRE_CROP):
                for side in _SIZES:
                    tensor, _ = preprocess(image, Input(side, side, resize=resize, interpolation=filter_))
                    made[f"{path.name} {resize.value} {side}"] = hashlib.sha256(tensor.tobytes()).hexdigest()
    print(json.dumps(digests))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1:])
