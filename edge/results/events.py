"""What happens beside results; sinks take both."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and is no result: sinks get it in line with the results.

    `kind` is one of `started`, `stopped`, `dropped`, `camera_state`, `breaker`, `spool`
    (docs/reference/result.md).
    """

    kind: str
    at_unix_s: float
    fields: Mapping[str, str | int | float] = field(default_factory=dict)
