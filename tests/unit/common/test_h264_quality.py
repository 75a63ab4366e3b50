"""Quality of H.264: what the rate factor of the encoder stands for."""

import numpy as np

from spillover.common.types import Image
from spillover.common.video.h264 import Decoder, Encoder
from spillover.common.video.planes import planes_of
from tests.support.moving import HEIGHT, WIDTH, Walker, World


def psnr_db(one: Image, other: Image) -> float:
    """Peak signal to noise of two arrays of planes."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * np.log10(255**2 / error)


def test_pictures_keep_the_quality_of_their_key() -> None:
    """Whatever the pace at which they come: x264 takes short steps of time for a reason to save bits."""
    world = World((Walker(40, 40, 4, 1), Walker(200, 90, -5, 0)), camera=(3, 1))
    encoder, decoder = Encoder(WIDTH, HEIGHT, 28), Decoder(WIDTH, HEIGHT)
    quality = []
    for number in range(8):
        picture = world.picture(number)
        planes = decoder.decode(encoder.encode(picture, key=False))
        quality.append(psnr_db(planes, planes_of(picture)))
    assert quality[-1] > quality[0] - 3.0
