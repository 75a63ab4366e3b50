"""Types of values that several sections share."""

from typing import Annotated

import msgspec

from spillover.common.config.kinds import name_of_at_most, name_or_empty

Name = Annotated[str, name_of_at_most(64)]
NameOrEmpty = Annotated[str, name_or_empty(64)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Side = Annotated[int, msgspec.Meta(gt=0, le=16_384)]
"""Pixels of one side of a picture."""
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
