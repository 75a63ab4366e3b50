"""The keys of `load.yaml`. docs/reference/load.yaml.md is generated from this file."""

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec

from spillover.common.config import Mistake, Section
from spillover.common.config.words import did_you_mean
from spillover.edge.config.kinds import Count, Name, NotNegative, Positive, Share
from spillover.lab.files import merged
from spillover.lab.loadtest.buyer import BuyerConfig
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL
from spillover.lab.shaper.link import Link

Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]


class Shaper(enum.Enum):
    """What paces real edges."""

    USER = "user"
    """A proxy in user space."""
    KERNEL = "kernel"
    """The kernel: a network namespace for each edge. Needs root, iproute2 and constant figures."""
    AUTO = "auto"
    """The kernel where that works, else the proxy."""


class LinkConfig(Section, frozen=True):
    """A link: constant figures, or a trace."""

    rtt_ms: NotNegative = 0.0
    """Milliseconds added to each round trip."""
    up_mbit_per_s: NotNegative | None = None
    """Rate from edge to cloud; null: no limit, 0: nothing passes."""
    down_mbit_per_s: NotNegative | None = None
    """Rate from cloud to edge, likewise."""
    trace: str = ""
    """In place of figures: `lte`, `wifi`, `satellite`, `outage`, or a CSV as for `lab replay`.

    It repeats.
    """
    shaper: Shaper = Shaper.USER
    """What paces real edges."""
    share: Count = 1
    """How many edges use one such link, as cameras behind one modem do."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Figures or a trace, never both."""
        return (self._one_of_both(),)

    def _one_of_both(self) -> Iterator[Mistake]:
        figures = {
            "rtt_ms": self.rtt_ms or None,
            "up_mbit_per_s": self.up_mbit_per_s,
            "down_mbit_per_s": self.down_mbit_per_s,
        }
        for key, figure in figures.items():
            if self.trace and figure is not None:
                yield (
                    key,
                    f"the trace {self.trace} has rates and round trips of its own: leave out one of both",
                )

    def constant(self) -> Link:
        """The figures as a link."""
        return Link(
            rtt_ms=self.rtt_ms, up_mbit_per_s=self.up_mbit_per_s, down_mbit_per_s=self.down_mbit_per_s
        )


class EdgeKind(enum.Enum):
    """What an edge is."""

    REAL = "real"
    """A daemon process."""
    SIMULATED = "simulated"
    """Replays what a real one decided and sent."""


class ScenarioConfig(Section, frozen=True):
    """Runs every mode named, over every link named, with every number of edges."""

    modes: Names
    """Names of modes."""
    links: Names
    """Names of links."""
    source: str = ""
    """What each edge's camera plays, repeated; empty: the sample clip. `$NAME` is an environment variable.
    Several edges begin at places of it that are spread evenly."""
    sources: tuple[str, ...] = ()
    """In place of `source`: what the first edge plays, the second, and so on; then the first again."""
    edge_model: str = ""
    """The edge's model in this scenario; empty: the test's. Simulated edges have that of what they replay."""
    cloud_model: str = ""
    """The cloud's, likewise; a server of its own is started for it."""
    optional: bool = False
    """If the source or a model is absent, leave the scenario out and say so instead of failing."""
    edges: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] = (1,)
    """Numbers of edges."""
    kind: EdgeKind = EdgeKind.REAL
    """What an edge is."""
    fps: Positive = 10.0
    """Frames per second of each edge."""
    window_s: Positive | None = 15.0
    """Length of the steady window that is measured; null: one pass over the source."""
    warm_up_s: NotNegative = 2.0
    """Seconds before the window begins."""
    repeats: Count = 3
    """How often each cell is run."""
    until: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Go on until the last three repeats of a cell differ by no more than this share of their mean, in what
    was on time, in bytes and in quality; null: `repeats` are enough."""
    most_repeats: Count = 10
    """The most repeats of a cell with `until`."""
    record: Name = ""
    """Simulated edges: the scenario of real edges whose decisions and payloads are replayed."""
    offload_share: Share | None = None
    """Simulated edges: send this share of the frames; null: the share that was recorded."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """One source, or several."""
        return (self._one_of_both(),)

    def _one_of_both(self) -> Iterator[Mistake]:
        if self.source and self.sources:
            yield "sources", "and source both say what edges play: leave out one of both"

    @property
    def all_sources(self) -> tuple[str, ...]:
        """What the edges play in turn, at least one."""
        return self.sources or (self.source,)


class CapacityConfig(Section, frozen=True):
    """Search for the largest number of simulated edges of `scenario` that the server holds."""

    scenario: Name
    """A scenario of simulated edges."""
    on_time_share: Share = 0.99
    """A number of edges holds if the cloud answers this share of the frames wanted in time and loses none."""
    fps: Positive | None = None
    """Frames per second of each edge; null: the scenario's."""
    first_edges: Count = 16
    """Where the search begins."""
    max_edges: Count = 2000
    """Where the search ends."""
    window_s: Positive = 5.0
    """Length of each window; a number of edges holds if it does in two of three."""
    precision: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    """Stop when the bounds are this close, as a share of the upper one."""


class SweepConfig(Section, frozen=True):
    """Adds modes to a scenario: each of `modes` with every combination of `values`.

    They are called MODE-VALUE, or MODE-VALUE-VALUE, and run over all its links with all its numbers of edges.
    """

    scenario: Name
    """A scenario of real edges."""
    values: Annotated[
        dict[str, Annotated[tuple[float | str, ...], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)
    ]
    """By key of edge.yaml, as a dotted path (`policy.send_share`): its values, numbers or words."""
    modes: Names = ("hybrid",)
    """Modes to vary."""


class SlowConfig(Section, frozen=True):
    """Make edges as slow as a small device."""

    core_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """Real edges: the share of one core that each may use, by cgroup quota (needs root); null: all."""
    local_ms: Positive | None = None
    """Simulated edges: scale local answers so that the median takes this long; null: as recorded."""


class FleetConfig(Section, frozen=True):
    """Extrapolates from the measured service time to fleets that are too large to run here."""

    scenario: Name
    """A scenario of simulated edges: the cell with the narrowest interval of a request's time calibrates the
    model, the others check it."""
    edges: tuple[Count, ...] = (10_000, 100_000, 1_000_000)
    """Sizes of fleets."""
    utilization: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.7
    """How busy the servers of the fleet may be."""


class CloudPart(Section, frozen=True):
    """The server under test."""

    address: str = ""
    """`host:port`; empty: start a server here. An address beyond this machine needs `--remote`."""
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    """Merged into the cloud.yaml of the server that is started here."""


class GoalConfig(Section, frozen=True):
    """A limit on one measure of one mode. Medians are compared with it."""

    measure: Name
    """One of the measures below."""
    scenario: Name
    """The scenario."""
    mode: Name
    """The mode."""
    at_most: float | None = None
    """Upper limit; a goal has this or `at_least`."""
    at_least: float | None = None
    """Lower limit."""
    times: Name = ""
    """A mode of the same scenario, link and number of edges whose figure the limit is multiplied by."""
    gap_from: Name = ""
    """With `times`: the figure is (mode - gap_from) / (times - gap_from), the share of the gap closed."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Exactly one limit, and a measure that exists."""
        return self._limit(), self._measure(), self._gap()

    def _measure(self) -> Iterator[Mistake]:
        yield from _known("measure", (self.measure,), MEASURES)

    def _limit(self) -> Iterator[Mistake]:
        if (self.at_most is None) == (self.at_least is None):
            yield "at_most", "a goal has either at_most or at_least"

    def _gap(self) -> Iterator[Mistake]:
        if self.gap_from and not self.times:
            yield "gap_from", "needs times, the mode at the gap's other end"


class LoadConfig(Section, frozen=True):
    """The whole of `load.yaml`."""

    scenarios: Annotated[dict[Name, ScenarioConfig], msgspec.Meta(min_length=1)]
    """What is run, by name."""
    modes: dict[Name, dict[str, Any]]
    """Changes to edge.yaml, by name; each is merged into the edge.yaml of that mode's edges."""
    links: dict[Name, LinkConfig]
    """Links, by name; each edge has one of its own, or `share` edges have one together."""
    edge_model: str = str(EDGE_MODEL)
    """A model folder, or the name of a prepared model."""
    cloud_model: str = str(CLOUD_MODEL)
    """A model folder, or the name of a prepared model."""
    deadline_s: Positive = 0.5
    """Seconds from a frame's capture to its first result."""
    edge: dict[str, Any] = msgspec.field(default_factory=dict)
    """Merged into every edge.yaml, before the mode."""
    cloud: CloudPart = CloudPart()
    """The server under test."""
    slow: SlowConfig | None = None
    """Make edges as slow as a small device; null: this machine's speed."""
    generators: tuple[str, ...] = ()
    """`host:port` of `spillover lab loadtest-generator` processes on other hosts; empty: one here."""
    buyer: BuyerConfig = BuyerConfig()
    """What the verdict answers."""
    capacity: tuple[CapacityConfig, ...] = ()
    """Searches for the largest number of edges."""
    sweep: SweepConfig | None = None
    """One key over several values; null: none."""
    fleet: FleetConfig | None = None
    """Extrapolation to large fleets; null: none."""
    goals: tuple[GoalConfig, ...] = ()
    """Limits that the report judges."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Every name that is used is one that is there, and of the right kind."""
        return self._names_of_scenarios(), self._names_elsewhere(), self._names_of_goals()

    def played_by(self, scenario: ScenarioConfig) -> ScenarioConfig:
        """The scenario of real edges that simulated ones replay; of real edges their own."""
        return self.scenarios[scenario.record] if scenario.record else scenario

    def with_pair_of(self, scenario: ScenarioConfig) -> "LoadConfig":
        """This test with the pair of models that a scenario runs."""
        played = self.played_by(scenario)
        return msgspec.structs.replace(
            self,
            edge_model=played.edge_model or self.edge_model,
            cloud_model=played.cloud_model or self.cloud_model,
        )

    def asked_of(self, mode: str) -> dict[str, Any]:
        """The changes to edge.yaml that edges of `mode` have: those of every edge, and the mode's own."""
        return merged(self.edge, self.modes[mode])

    def _of_kind(self, kind: EdgeKind) -> Mapping[str, ScenarioConfig]:
        return {name: one for name, one in self.scenarios.items() if one.kind is kind}

    def _names_of_scenarios(self) -> Iterator[Mistake]:
        real = self._of_kind(EdgeKind.REAL)
        for name, scenario in self.scenarios.items():
            yield from _known(f"scenarios.{name}.modes", scenario.modes, self.modes)
            yield from _known(f"scenarios.{name}.links", scenario.links, self.links)
            if scenario.kind is EdgeKind.SIMULATED:
                yield from _known(
                    f"scenarios.{name}.record", (scenario.record,), real, "scenario of real edges"
                )
                for key in ("edge_model", "cloud_model"):
                    if getattr(scenario, key):
                        yield f"scenarios.{name}.{key}", "simulated edges have the pair that they replay"

    def _names_elsewhere(self) -> Iterator[Mistake]:
        real, simulated = self._of_kind(EdgeKind.REAL), self._of_kind(EdgeKind.SIMULATED)
        yield from _known("buyer.scenarios", self.buyer.scenarios, real, "scenario of real edges")
        if self.sweep:
            yield from _known("sweep.scenario", (self.sweep.scenario,), real, "scenario of real edges")
            yield from _known("sweep.modes", self.sweep.modes, self.modes)
        for index, capacity in enumerate(self.capacity):
            key = f"capacity[{index}].scenario"
            yield from _known(key, (capacity.scenario,), simulated, "scenario of simulated edges")
        if self.fleet:
            yield from _known(
                "fleet.scenario", (self.fleet.scenario,), simulated, "scenario of simulated edges"
            )

    def _names_of_goals(self) -> Iterator[Mistake]:
        for index, goal in enumerate(self.goals):
            key = f"goals[{index}]"
            if goal.scenario not in self.scenarios:
                yield from _known(f"{key}.scenario", (goal.scenario,), self.scenarios)
                continue
            modes = dict.fromkeys(self.scenarios[goal.scenario].modes)
            for name, mode in (("mode", goal.mode), ("times", goal.times), ("gap_from", goal.gap_from)):
                if mode:
                    yield from _known(f"{key}.{name}", (mode,), modes, f"mode of {goal.scenario}")


def _known(key: str, names: Iterable[str], table: Mapping[str, object], what: str = "") -> Iterator[Mistake]:
    """A mistake for each of `names` that is no key of `table`."""
    for name in names:
        if name not in table:
            known, meant = ", ".join(table) or "none", did_you_mean(name, table)
            yield key, f"there is no {what or 'such name'} {name!r}; there are {known}{meant}"
