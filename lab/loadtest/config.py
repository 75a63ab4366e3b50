"""What `load.yaml` may say. `examples/load.yaml` shows every key; both are kept together by a test."""

import enum
from typing import Annotated, Any

import msgspec

from spillover.common.config import Section
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL
from spillover.lab.shaper.link import Link

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]


class Shaper(enum.Enum):
    """Who paces real edges: a proxy in user space, the kernel (needs root), or the kernel if it can."""

    USER = "user"
    KERNEL = "kernel"
    AUTO = "auto"


class LinkConfig(Section, frozen=True):
    """A link: constant figures, or a trace (CSV) in their place."""

    rtt_ms: NotNegative = 0.0
    up_mbit_per_s: NotNegative | None = None
    down_mbit_per_s: NotNegative | None = None
    trace: str = ""
    """A link of `lab replay` (lte, wifi, satellite, outage), or a CSV file of one; it repeats."""
    shaper: Shaper = Shaper.USER

    def constant(self) -> Link:
        """The figures as a link."""
        return Link(
            rtt_ms=self.rtt_ms, up_mbit_per_s=self.up_mbit_per_s, down_mbit_per_s=self.down_mbit_per_s
        )


class EdgeKind(enum.Enum):
    """REAL: a daemon process each. SIMULATED: replays what a real one decided and sent."""

    REAL = "real"
    SIMULATED = "simulated"


class ScenarioConfig(Section, frozen=True):
    """Something to run: every mode named, over every link named, with every number of edges."""

    modes: Names
    links: Names
    source: str = ""
    """What each edge's camera plays, over and over; empty is the sample clip, `$NAME` is replaced."""
    optional: bool = False
    """Where the source is absent, leave the scenario out and say so, instead of failing."""
    edges: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] = (1,)
    kind: EdgeKind = EdgeKind.REAL
    fps: Positive = 10.0
    """Frames a second of each edge."""
    window_s: Positive | None = 15.0
    """Length of the steady window that is measured; null is one pass over the source."""
    warm_up_s: NotNegative = 2.0
    repeats: Count = 3
    record: Name = ""
    """For simulated edges: the scenario whose real edges' decisions and payloads are replayed."""
    offload_share: Share | None = None
    """For simulated edges: send this share of the frames in place of the share recorded."""


class CapacityConfig(Section, frozen=True):
    """Search for the largest number of simulated edges of `scenario` that the server holds."""

    scenario: Name
    on_time_share: Share = 0.99
    """Of the frames that are sent, by their deadline; frames that are kept are always in time."""
    fps: Positive | None = None
    """Frames a second of each edge; null is the scenario's."""
    first_edges: Count = 16
    """Where the search begins."""
    max_edges: Count = 2000
    window_s: Positive = 5.0
    precision: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    """Stop when the bounds are this close, as a share of the upper one."""


class SweepConfig(Section, frozen=True):
    """Run `scenario` at each value of a key on each of its links; find the Pareto front and recommend."""

    scenario: Name
    modes: Names = ("hybrid",)
    key: str = "policy.threshold"
    """Which key of edge.yaml is swept, as a dotted path."""
    values: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)] = (0.3, 0.5, 0.7, 0.9)
    window_s: Positive = 10.0
    max_bytes_per_frame: Positive | None = None
    """Recommend only points within this."""
    min_on_time_share: Share = 0.99


class PricesConfig(Section, frozen=True):
    """What things cost, in any one currency."""

    server_core_hour: NotNegative = 0.04
    gpu_hour: NotNegative = 1.0
    gigabyte_up: NotNegative = 0.0
    gigabyte_down: NotNegative = 0.0


class SlowConfig(Section, frozen=True):
    """Make edges as slow as a small device."""

    core_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """Real edges: the share of one core that each process may use, by cgroup quota."""
    local_ms: Positive | None = None
    """Simulated edges: their local answers are scaled so that the median takes this long, as on a device."""


class FleetConfig(Section, frozen=True):
    """Extrapolate from the measured service time to fleets that no machine here can play."""

    scenario: Name
    """With simulated edges: its cell of fewest edges calibrates the model, the others check it."""
    edges: tuple[Count, ...] = (10_000, 100_000, 1_000_000)
    utilization: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.7
    """How busy the servers of the fleet may be."""


class CloudPart(Section, frozen=True):
    """The server under test."""

    address: str = ""
    """Empty starts one on this machine. Anything but loopback needs `--remote` on the command line."""
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    """Merged into the cloud.yaml of the server that is started."""


class GoalConfig(Section, frozen=True):
    """One promise: `measure` of a cell, at most or at least a figure, or a share of another cell's."""

    measure: Name
    scenario: Name
    mode: Name
    at_most: float | None = None
    at_least: float | None = None
    times: Name = ""
    """A mode of the same scenario, link and number of edges whose figure the limit is multiplied by."""
    gap_from: Name = ""
    """With `times`: the figure is (mode - gap_from) / (times - gap_from), the share of the gap closed."""

    def __post_init__(self) -> None:
        """Exactly one limit, and a measure that exists."""
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a goal has either at_most or at_least")
        if self.measure not in MEASURES:
            raise ValueError(f"no measure is called {self.measure!r}; there are {', '.join(MEASURES)}")
        if self.gap_from and not self.times:
            raise ValueError("gap_from needs times, the mode at the gap's other end")


class LoadConfig(Section, frozen=True):
    """The whole of `load.yaml`."""

    scenarios: Annotated[dict[Name, ScenarioConfig], msgspec.Meta(min_length=1)]
    modes: dict[Name, dict[str, Any]]
    """Each is merged into the edge.yaml of that mode's edges: `mode`, `policy`, `uplink`, anything."""
    links: dict[Name, LinkConfig]
    edge_model: str = str(EDGE_MODEL)
    """A model folder, or the name of a prepared model."""
    cloud_model: str = str(CLOUD_MODEL)
    deadline_s: Positive = 0.5
    edge: dict[str, Any] = msgspec.field(default_factory=dict)
    """Merged into every edge.yaml, before the mode."""
    cloud: CloudPart = CloudPart()
    slow: SlowConfig | None = None
    generators: tuple[str, ...] = ()
    """`host:port` of `spillover lab loadtest-generator` processes; empty starts one here."""
    prices: PricesConfig = PricesConfig()
    capacity: tuple[CapacityConfig, ...] = ()
    sweep: SweepConfig | None = None
    fleet: FleetConfig | None = None
    goals: tuple[GoalConfig, ...] = ()

    def __post_init__(self) -> None:
        """Every name that is used is one that is there, and of the right kind."""
        real = {name: s for name, s in self.scenarios.items() if s.kind is EdgeKind.REAL}
        simulated = {name: s for name, s in self.scenarios.items() if s.kind is EdgeKind.SIMULATED}
        for name, scenario in self.scenarios.items():
            _known(f"scenarios.{name}.modes", scenario.modes, self.modes)
            _known(f"scenarios.{name}.links", scenario.links, self.links)
            if scenario.kind is EdgeKind.SIMULATED:
                _known(f"scenarios.{name}.record (of real edges)", (scenario.record,), real)
        if self.sweep:
            _known("sweep.scenario (of real edges)", (self.sweep.scenario,), real)
            _known("sweep.modes", self.sweep.modes, self.modes)
        for capacity in self.capacity:
            _known("capacity.scenario (of simulated edges)", (capacity.scenario,), simulated)
        if self.fleet:
            _known("fleet.scenario (of simulated edges)", (self.fleet.scenario,), simulated)
        for goal in self.goals:
            _known("goals.scenario", (goal.scenario,), self.scenarios)
            modes = dict.fromkeys(self.scenarios[goal.scenario].modes)
            _known(f"goals.mode of {goal.scenario}", (goal.mode,), modes)
            _known(f"goals.times of {goal.scenario}", tuple(filter(None, (goal.times,))), modes)
            _known(f"goals.gap_from of {goal.scenario}", tuple(filter(None, (goal.gap_from,))), modes)


def _known(where: str, names: tuple[str, ...], table: dict[str, Any]) -> None:
    for name in names:
        if name not in table:
            raise ValueError(f"{where} names {name!r}; there are {', '.join(table) or 'none'}")
