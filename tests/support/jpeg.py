"""What a JPEG that was sent looks like."""

import cv2
import numpy as np


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.shape[1], image.shape[0]
