"""The settings of a quantisation. Equal recipes on the same model and pictures give the same network."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section


class Activations(enum.Enum):
    """Type of activations; weights are always signed and per channel."""

    U8 = "u8"
    S8 = "s8"


class Method(enum.Enum):
    """How the range of an activation is found from the calibration pictures."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"


class SevenBit(enum.Enum):
    """Which weights use 7 of their 8 bits.

    x86 processors without VNNI add pairs of U8xS8 products in 16 bits, which full-range weights overflow.
    Depthwise convolutions have kernels of their own that do not, so only DENSE layers need it.
    """

    DENSE = "dense"
    ALL = "all"
    NONE = "none"


class FloatLayers(enum.Enum):
    """Which layers stay float."""

    SENSITIVE = "sensitive"
    """The stem; of a detector also its ends, depthwise convolutions, and all that is no convolution."""
    ENDS = "ends"
    """The stem; of a detector also what is behind it up to the next convolution, the prediction convolutions
    and what follows them."""
    NONE = "none"


class Recipe(Section, frozen=True):
    """How to quantise a model."""

    activations: Activations = Activations.U8
    method: Method = Method.MINMAX
    seven_bit: SevenBit = SevenBit.DENSE
    exclude: tuple[str, ...] = ()
    """Regular expressions; nodes whose name one of them finds stay float."""
    float_layers: FloatLayers = FloatLayers.SENSITIVE
    """What stays float beside `exclude`: layers that lose accuracy, or save no time in INT8."""
    max_pictures: Annotated[int, msgspec.Meta(gt=0)] = 128
