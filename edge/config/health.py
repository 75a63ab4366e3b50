"""The keys of health: what a hot or short device does, and where its readings go."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.edge.config.kinds import NotNegative, Positive


class PowerConfig(Section, frozen=True):
    """What the device draws at the socket, by which its energy is estimated; measure it with a plug meter."""

    idle_watts: NotNegative
    """With idle cores."""
    busy_watts: Positive
    """With all cores busy."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a device that draws less when it works."""
        return (self._order(),)

    def _order(self) -> Iterator[Mistake]:
        if self.busy_watts < self.idle_watts:
            yield "busy_watts", f"must be at least idle_watts, which is {self.idle_watts:g}"


class HealthConfig(Section, frozen=True):
    """How the device looks after itself."""

    ladder: bool = True
    """Do less, step by step, while the device is too hot or short of memory or voltage. Where nothing tells
    of these, nothing happens."""
    wall_c: Annotated[float, msgspec.Meta(ge=40, le=120)] | None = None
    """Temperature in °C at which the processor holds itself back: steps begin 8 below it and are taken back
    14 below it. Null: what a PC's chip says of itself, else 85, which is a Raspberry Pi's."""
    file: str = ""
    """Readings as JSON lines, one a minute, at most 10 MB with the file before; empty: none."""
    power: PowerConfig | None = None
    """Estimate power and energy from these; null: no estimate."""
