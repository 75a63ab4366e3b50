"""What the answer is made of, as report.json holds it."""

import msgspec


class Costs(msgspec.Struct, frozen=True):
    """Costs of a month, in the buyer's currency."""

    data: float
    sim: float
    device: float
    """A month's share of its price."""
    server: float
    """Cores and GPUs, the camera's share of what all cameras rent."""
    power: float
    """Of the device."""

    @property
    def total(self) -> float:
        """The sum."""
        return self.data + self.sim + self.device + self.server + self.power


COST_PARTS = {"data": "data", "sim": "SIM", "device": "device", "server": "server", "power": "power"}
"""The parts of `Costs` by name, with the headings of their columns."""


class Month(msgspec.Struct, frozen=True):
    """One mode over one link: one camera in one month of the buyer's hours."""

    mode: str
    kind: str
    """`edge_only`, `cloud_only` or `hybrid`."""
    quality: float
    """Of the first answers, as `Verdict.measure` says."""
    streaming: float | None
    confirmed_share: float | None
    on_time_share: float
    sent_share: float
    degraded_share: float
    up_gb: float
    down_gb: float
    costs: Costs
    device_kwh: float
    server_kwh: float
    """The camera's share."""
    server_cores: int
    """Of all cameras together."""
    gpus: int
    fails: list[str] = []
    """Which of the buyer's limits it breaks: `budget`, `on time`, `quality`."""

    @property
    def gb(self) -> float:
        """Gigabytes in both directions."""
        return self.up_gb + self.down_gb

    @property
    def kwh(self) -> float:
        """Energy of device and server."""
        return self.device_kwh + self.server_kwh

    @property
    def every_frame_gb(self) -> float:
        """What it would take to send every frame, by the frames that it sent; `gb` where it sent none."""
        return self.gb / self.sent_share if self.sent_share else self.gb


class Verdict(msgspec.Struct, frozen=True):
    """The answer for one link with one number of cameras on the test's scenario."""

    scenario: str
    link: str
    edges: int
    measure: str
    """What quality is: `accuracy` where there are labels, else `agreement`."""
    months: list[Month]
    chosen: str | None
    """The mode to take; null where none keeps to the limits."""
    binds: str
    """What keeps the mode from more: `budget`, `link`, `server`, `device`, `quality` or `rule`."""
    sentences: list[str]

    @property
    def place(self) -> str:
        """Its name, and its folder below `recommended/`."""
        return f"{self.scenario}/{self.link}-{self.edges}"
