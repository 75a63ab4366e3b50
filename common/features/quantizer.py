"""Clips a tensor and rounds it to a few uniform levels; the inverse is a table."""

from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from spillover.common.config import Section
from spillover.common.types import FloatArray

MAX_LEVELS = 255

Symbols = npt.NDArray[np.uint8]


class Quantizer(Section, frozen=True):
    """Uniform quantiser: values are clipped to [low, high] and rounded to the nearest of `levels` points."""

    levels: Annotated[int, msgspec.Meta(ge=2, le=MAX_LEVELS)]
    """Number of levels."""
    low: float
    """The lowest level."""
    high: float
    """The highest level."""
    channel_low: tuple[float, ...] = ()
    """With `channel_high`: a separate clip for each channel, within [low, high], sent as one byte each."""
    channel_high: tuple[float, ...] = ()
    """Upper end of each channel's clip; see `channel_low`."""
    order: tuple[int, ...] = ()
    """A permutation of the channels; it only affects the size of the entropy-coded features."""
    predict: bool = False
    """Code each channel as its difference, modulo `levels`, from the previous one in that order."""

    def __post_init__(self) -> None:
        if not is_clip(self.low, self.high):
            raise ValueError(f"clip must be two plain numbers, low < high, not {self.low} and {self.high}")
        if len(self.channel_low) != len(self.channel_high):
            raise ValueError("channel_low and channel_high must have the same length")
        if self.order and sorted(self.order) != list(range(len(self.order))):
            raise ValueError("order must be a permutation of 0..channels-1")


def is_clip(low: float, high: float) -> bool:
    """Whether a clip is usable in float32: finite, far from overflow, and wide enough to divide by."""
    return max(abs(low), abs(high)) <= 1e30 and high - low >= max(abs(low), abs(high)) * 1e-6 > 0


def channel_bytes(quantizer: Quantizer) -> tuple[Symbols, Symbols]:
    """Each channel's clip as two bytes on [low, high], rounded outwards so that no value is cut off."""
    width = quantizer.high - quantizer.low
    low = (np.asarray(quantizer.channel_low) - quantizer.low) / width * 255
    high = (np.asarray(quantizer.channel_high) - quantizer.low) / width * 255
    return (
        np.clip(np.floor(low), 0, 255).astype(np.uint8),
        np.clip(np.ceil(high), 0, 255).astype(np.uint8),
    )


def scale_of(
    low: float, high: float, levels: int, channels: tuple[Symbols, Symbols] | None
) -> tuple[FloatArray, FloatArray]:
    """Offset and step of the levels: scalars, or (C,) if `channels` holds each channel's clip as bytes.

    Both sides compute them here from the bytes on the wire, so the results are identical to the last bit.
    """
    if channels is None:
        first, last = np.asarray(low), np.asarray(high)
    else:
        first, last = (low + part / 255 * (high - low) for part in channels)
    return np.asarray(first, np.float32), np.asarray((last - first) / (levels - 1), np.float32)


def scaled(tensor: FloatArray, offset: FloatArray, step: FloatArray) -> FloatArray:
    """Every element in steps above the lowest level; 0 in a channel with an empty clip."""
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
    steps: FloatArray = (tensor - _per_channel(offset, tensor.ndim)) * _per_channel(inverse, tensor.ndim)
    return steps


def quantize(tensor: FloatArray, offset: FloatArray, step: FloatArray, levels: int) -> Symbols:
    """The nearest level of every element, uint8, same shape; a channel with an empty clip gives 0."""
    nearest = scaled(tensor, offset, step)
    np.rint(nearest, out=nearest)
    return np.clip(nearest, 0, levels - 1, out=nearest).astype(np.uint8)


def dequantize(symbols: Symbols, offset: FloatArray, step: FloatArray) -> FloatArray:
    """The values of the levels, float32, same shape."""
    values: FloatArray = symbols * _per_channel(step, symbols.ndim) + _per_channel(offset, symbols.ndim)
    return values


def _per_channel(value: FloatArray, axes: int) -> FloatArray:
    return value.reshape(-1, *[1] * (axes - 1)) if value.ndim else value
