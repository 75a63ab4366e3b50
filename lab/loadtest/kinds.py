"""Kinds of values that several sections of load.yaml use."""

from typing import Annotated

import msgspec

from spillover.common.config.kinds import name_of_at_most

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, name_of_at_most(64)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
