"""A picture or JPEG as a network's input tensor, and the transform that maps boxes back to the picture."""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from spillover.common.geometry import FrameTransform
from spillover.common.images import REDUCTIONS, decode_reduced
from spillover.common.jpeg import JpegHeader, count_scans, read_header
from spillover.common.model.manifest import (
    Colour,
    Decode,
    Element,
    Input,
    Interpolation,
    Layout,
    Manifest,
    Resize,
)
from spillover.common.types import FloatArray, Image, Tensor

_CV2_FILTER = {
    # INTER_LINEAR gives other pixels on aarch64 than on x86-64.
    Interpolation.LINEAR: cv2.INTER_LINEAR_EXACT,
    Interpolation.AREA: cv2.INTER_AREA,
    Interpolation.BICUBIC: cv2.INTER_CUBIC,
}


def preprocess(image: Image, spec: Input) -> tuple[Tensor, FrameTransform]:
    """Turn a BGR picture (H, W, 3) uint8 into one input tensor without the batch axis.

    Returns the tensor, (channels, height, width) or (height, width, channels) by `spec.layout`, of the type
    `spec.element`, and the transform to it.
    """
    placed, transform = _place(image, spec)
    return _to_tensor(placed, spec), transform


def preprocess_jpeg(data: bytes, max_pixels: int, manifest: Manifest) -> tuple[Tensor, FrameTransform]:
    """As `preprocess`, for a JPEG, of which no more is decoded than the network needs.

    Raises:
        TooLargeError: more than `max_pixels`, or too many scans.
        InvalidInputError: it cannot be decoded.
    """
    return preprocess_checked(data, checked_header(data, max_pixels), manifest)


def checked_header(data: bytes, max_pixels: int) -> JpegHeader:
    """What a JPEG's header says, where it may be decoded.

    Raises:
        TooLargeError: more than `max_pixels`, or too many scans.
        InvalidInputError: empty, not a JPEG, damaged, or cut short.
    """
    header = read_header(data)
    header.check(max_pixels)
    count_scans(data, header)
    return header


def preprocess_checked(data: bytes, header: JpegHeader, manifest: Manifest) -> tuple[Tensor, FrameTransform]:
    """As `preprocess_jpeg`, for a JPEG whose pixels and scans were checked. Raises InvalidInputError."""
    decoded = decode_reduced(data, header, reduction_for(header, manifest))
    tensor, transform = preprocess(decoded.image, manifest.own_input)
    return tensor, decoded.transform.compose(transform)


def reduction_for(header: JpegHeader, manifest: Manifest) -> int:
    """By how much (1, 2, 4, 8) a JPEG is reduced while it is decoded: so that `preprocess` never enlarges.

    A picture that may have to be turned is reduced only where that divides both of its sides.
    """
    if manifest.decode is Decode.EXACT:
        return 1
    width, height, spec = header.width, header.height, manifest.own_input
    shrinks = _shrink(width, height, spec)
    if header.may_turn:
        shrinks = min(shrinks, _shrink(height, width, spec))
    return next(
        reduction
        for reduction in REDUCTIONS
        if reduction <= max(1.0, shrinks)
        and not (header.may_turn and (width % reduction or height % reduction))
    )


def _shrink(width: int, height: int, spec: Input) -> float:
    """By how much `preprocess` shrinks a picture of these sides, on the axis where it is less."""
    x, y = width / spec.width, height / spec.height
    match spec.resize:
        case Resize.STRETCH:
            return min(x, y)
        case Resize.CENTRE_CROP:
            return min(x, y) * spec.crop_fraction
        case Resize.LETTERBOX | Resize.LETTERBOX_CENTRE:
            return max(x, y)


def _place(image: Image, spec: Input) -> tuple[Image, FrameTransform]:
    height, width = image.shape[:2]
    match spec.resize:
        case Resize.STRETCH:
            scaled = _resize(image, spec.width, spec.height, spec.interpolation)
            return scaled, FrameTransform.resize((width, height), (spec.width, spec.height))
        case Resize.CENTRE_CROP:
            return _centre_crop(image, spec)
        case Resize.LETTERBOX | Resize.LETTERBOX_CENTRE:
            return _letterbox(image, spec)


def _letterbox(image: Image, spec: Input) -> tuple[Image, FrameTransform]:
    height, width = image.shape[:2]
    ratio = min(spec.height / height, spec.width / width)
    new_width, new_height = max(1, int(width * ratio)), max(1, int(height * ratio))
    scaled = _resize(image, new_width, new_height, spec.interpolation)
    centred = spec.resize is Resize.LETTERBOX_CENTRE
    left = (spec.width - new_width) // 2 if centred else 0
    top = (spec.height - new_height) // 2 if centred else 0
    canvas = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = scaled
    return canvas, FrameTransform(new_width / width, new_height / height, left, top, width, height)


def _centre_crop(image: Image, spec: Input) -> tuple[Image, FrameTransform]:
    """Crop first, then resize: the same pixels as resize-then-crop, without computing discarded ones."""
    height, width = image.shape[:2]
    ratio = max(spec.height / height, spec.width / width) / spec.crop_fraction
    crop_width = min(width, max(1, round(spec.width / ratio)))
    crop_height = min(height, max(1, round(spec.height / ratio)))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    crop = image[top : top + crop_height, left : left + crop_width]
    scaled = _resize(crop, spec.width, spec.height, spec.interpolation)
    shrunk = FrameTransform.resize((crop_width, crop_height), (spec.width, spec.height))
    return scaled, FrameTransform.crop((width, height), left, top).compose(shrunk)


def _resize(image: Image, width: int, height: int, interpolation: Interpolation) -> Image:
    if image.shape[1] == width and image.shape[0] == height:
        return image
    if interpolation is Interpolation.BICUBIC_ANTIALIAS:
        return _resize_bicubic_antialias(image, width, height)
    return cv2.resize(image, (width, height), interpolation=_CV2_FILTER[interpolation]).astype(
        np.uint8, copy=False
    )


def _resize_bicubic_antialias(image: Image, width: int, height: int) -> Image:
    """Bicubic with a kernel that widens with the shrink factor, as in Pillow; OpenCV's own aliases.

    A separable filter with the widened kernel, then OpenCV's bicubic to sample it. Against Pillow on
    photographs shrunk to 160..260 pixels: 0.5-0.7 grey levels apart on average, 3-4 at the 99th percentile
    (OpenCV's area mean: 1.4 and 8), in a third of Pillow's time. A large picture is first reduced by an area
    mean, but never below 1.5 times the target size, where the difference would be visible.
    """
    factor = int(min(image.shape[1] / width, image.shape[0] / height) / 1.5)
    if factor >= 2:
        reduced = (image.shape[1] // factor, image.shape[0] // factor)
        image = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    shrink_x, shrink_y = image.shape[1] / width, image.shape[0] / height
    if max(shrink_x, shrink_y) > 1:
        kernel_x, kernel_y = _bicubic_kernel(shrink_x), _bicubic_kernel(shrink_y)
        filtered = cv2.sepFilter2D(image, cv2.CV_8U, kernel_x, kernel_y, borderType=cv2.BORDER_REFLECT)
        image = filtered.astype(np.uint8, copy=False)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)


@functools.lru_cache(maxsize=64)
def _bicubic_kernel(shrink: float) -> FloatArray:
    """Keys' cubic (a = -0.5, as in Pillow) stretched by `shrink`, sampled at pixels; sums to 1."""
    stretch = max(shrink, 1.0)
    radius = math.ceil(2 * stretch)
    x = np.abs(np.arange(-radius, radius + 1) / stretch)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    kernel = np.where(x < 1, near, np.where(x < 2, far, 0))
    normalised: FloatArray = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def _to_tensor(placed: Image, spec: Input) -> Tensor:
    """Reorder and normalise in one pass each; `(x - mean) / std` as `x * gain + bias`."""
    channels = spec.colour.channels
    if spec.element is Element.UINT8:
        pixels = _pixels(placed, spec.colour)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) if spec.layout is Layout.NCHW else pixels)
    gain = 1.0 / np.broadcast_to(np.asarray(spec.std, np.float32), (channels,))
    bias = -np.asarray(spec.mean, np.float32) * gain
    if spec.layout is Layout.NHWC:
        return np.ascontiguousarray(_pixels(placed, spec.colour) * gain + bias, np.float32)
    tensor = np.empty((channels, spec.height, spec.width), np.float32)
    for channel, plane in enumerate(_planes(placed, spec.colour)):
        # Half the time of NumPy's two passes: bytes are widened, scaled and shifted in one.
        cv2.addWeighted(
            plane, float(gain[channel]), plane, 0.0, float(bias[channel]), tensor[channel], cv2.CV_32F
        )
    return tensor


def _pixels(placed: Image, colour: Colour) -> Image:
    """(height, width, channels)."""
    match colour:
        case Colour.BGR:
            return placed
        case Colour.RGB:
            return cv2.cvtColor(placed, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        case Colour.GREY:
            return cv2.cvtColor(placed, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)[:, :, None]


def _planes(placed: Image, colour: Colour) -> Sequence[Image]:
    """The channels, each (height, width)."""
    if colour is Colour.GREY:
        return [_pixels(placed, colour)[:, :, 0]]
    planes = [plane.astype(np.uint8, copy=False) for plane in cv2.split(placed)]
    return planes[::-1] if colour is Colour.RGB else planes
