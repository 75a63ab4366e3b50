"""A running daemon's counters, read from its metrics endpoint, with the sums that must hold."""

import urllib.error
import urllib.request
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from spillover.common.errors import UnavailableError
from spillover.edge.uplink.call_status import OK, RETRIED, CallStatus

_PREFIX = "spillover_edge_"
_TIMEOUT_S = 5.0
_NEVER_LEFT = {status.value for status in CallStatus if status.means.never_left}


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at one moment; every number counts from its start.

    `captured = avoided + on_time + degraded + dropped + under_way`, and
    `spooled + recovered = the sum of spool_fates + pending`.
    """

    captured: int
    avoided: int
    """Frames answered by the edge alone: nothing was sent."""
    on_time: int
    """Frames answered by the cloud within the deadline."""
    degraded: int
    """Frames answered by the edge although the policy asked for the cloud."""
    dropped: dict[str, int]
    under_way: int
    late: int
    """Cloud answers that arrived as revisions."""
    attempted: int
    """Frames given to the uplink, those from the spool included."""
    sent: int
    """Calls that left the device, second tries included."""
    failed: dict[str, int]
    payload_bytes: dict[str, int]
    spooled: int
    recovered: int
    pending: int
    pending_bytes: int
    spool_fates: dict[str, int]
    spool_refused: dict[str, int]
    results_lost: int
    """Results that a sink did not accept."""
    breaker: str
    cameras: dict[str, str]
    """The state of each camera, by its name; none that has not told one yet."""
    audits: int = 0
    edge_error: dict[str, float] = field(default_factory=dict)
    """Share of all frames kept and wrong: `estimate`, `low` and `high`; empty before the first audit."""
    budget_left_bytes: float | None = None
    """Balance of the byte budget in bytes; None without one."""
    budget_charged_bytes: float | None = None
    balances: bool = field(default=True)
    """Whether both sums hold, apart from frames that are between two counters at the moment."""


def read_status(address: str) -> Status:
    """Read the status from the metrics endpoint at `address`, `host:port`.

    Raises:
        UnavailableError: no server answers there.
    """
    try:
        url = f"http://{address}/metrics"  # so that no other scheme can stand there
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as page:  # nosec B310
            text = page.read().decode()
    except (OSError, ValueError) as error:
        raise UnavailableError(f"no edge daemon answers at {address}: {error}") from error
    return to_status(text)


def to_status(text: str) -> Status:
    """Parse the text of a metrics page."""
    numbers = _Numbers(text)
    endings = numbers.by("frames_total", "ending")
    dropped = numbers.by("frames_dropped_total", "reason")
    calls = numbers.by("uplink_calls_total", "status")
    fates = numbers.by("spool_frames_total", "fate")
    accepted = fates.pop("accepted", 0)
    captured = numbers.one("frames_captured_total")
    under_way = captured - sum(endings.values()) - sum(dropped.values())
    recovered, pending = numbers.one("spool_recovered"), numbers.one("spool_pending")
    retried = calls.pop(RETRIED, 0)
    return Status(
        captured=captured,
        avoided=endings.get("edge", 0),
        on_time=endings.get("cloud", 0),
        degraded=endings.get("edge_degraded", 0),
        dropped=dropped,
        under_way=under_way,
        late=numbers.one("revisions_total"),
        attempted=sum(calls.values()),
        sent=retried + sum(count for status, count in calls.items() if status not in _NEVER_LEFT),
        failed={status: count for status, count in calls.items() if status != OK},
        payload_bytes=numbers.by("uplink_payload_bytes_total", "kind"),
        spooled=accepted,
        recovered=recovered,
        pending=pending,
        pending_bytes=numbers.one("spool_bytes"),
        spool_fates=fates,
        spool_refused=numbers.by("spool_refused_total", "reason"),
        results_lost=numbers.sum("results_dropped_total"),
        breaker=numbers.state("breaker", "phase"),
        cameras=numbers.states("source", "camera", "state"),
        audits=numbers.one("audits_total"),
        edge_error=numbers.labelled("error_ratio", "bound"),
        budget_left_bytes=numbers.maybe("budget_left_bytes"),
        budget_charged_bytes=numbers.maybe("budget_charged_bytes_total"),
        balances=under_way >= 0 and accepted + recovered == sum(fates.values()) + pending,
    )


def to_text(status: Status) -> str:
    """Format the status for people."""
    on_time_share = status.on_time / max(1, status.captured)
    lines = [
        f"frames     {status.captured} captured = {status.avoided} edge + {status.on_time} cloud in time "
        f"({on_time_share:.0%}) + {status.degraded} edge_degraded + {sum(status.dropped.values())} dropped "
        f"+ {status.under_way} under way",
        f"dropped    {_listed(status.dropped)}",
        f"uplink     breaker {status.breaker}; {status.attempted} attempted, {status.sent} sent, "
        f"{status.late} late; failed: {_listed(status.failed)}",
        f"bytes      {_listed(status.payload_bytes)}",
        f"spool      {status.recovered} found + {status.spooled} accepted = {_listed(status.spool_fates)} "
        f"+ {status.pending} pending ({status.pending_bytes / 1e6:.1f} MB); "
        f"refused: {_listed(status.spool_refused)}",
        f"cameras    {', '.join(f'{name} {state}' for name, state in status.cameras.items()) or 'unknown'}",
        f"edge error {_error(status)}",
        f"budget     {_budget(status)}",
        f"sinks      {status.results_lost} results lost",
        "the books balance" if status.balances else "THE BOOKS DO NOT BALANCE",
    ]
    return "\n".join(lines)


def _error(status: Status) -> str:
    if not status.audits:
        return "unknown: no audit was answered yet"
    low, high = status.edge_error["low"], status.edge_error["high"]
    share = status.edge_error["estimate"]
    return (
        f"{share:.1%} of the frames are kept and wrong ({low:.1%} to {high:.1%}), by {status.audits} audits"
    )


def _budget(status: Status) -> str:
    if status.budget_left_bytes is None or status.budget_charged_bytes is None:
        return "none"
    left, charged = status.budget_left_bytes / 1e6, status.budget_charged_bytes / 1e6
    return f"{charged:.2f} MB charged, {left:.2f} MB may leave now"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name or 'payload'} {count}" for name, count in sorted(counts.items())) or "none"


class _Numbers:
    """The samples of a page, by name without prefix."""

    def __init__(self, text: str) -> None:
        self._samples = [
            (sample.name.removeprefix(_PREFIX), sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(_PREFIX)
        ]

    def one(self, name: str) -> int:
        """A number without labels; 0 if it is absent."""
        return int(next((value for known, _, value in self._samples if known == name), 0))

    def maybe(self, name: str) -> float | None:
        """A number without labels; None if it is absent."""
        return next((value for known, _, value in self._samples if known == name), None)

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """Numbers by the value of a label, unrounded."""
        return {labels[label]: value for known, labels, value in self._samples if known == name}

    def by(self, name: str, label: str) -> dict[str, int]:
        """Numbers by the value of a label, without zeros."""
        return {
            labels.get(label, ""): int(value)
            for known, labels, value in self._samples
            if known == name and value
        }

    def sum(self, name: str) -> int:
        """Sum of all samples of a name."""
        return sum(int(value) for known, _, value in self._samples if known == name)

    def states(self, name: str, key: str, label: str) -> dict[str, str]:
        """By the value of one label, the value of another whose sample is 1."""
        return {labels[key]: labels[label] for known, labels, v in self._samples if known == name and v}

    def state(self, name: str, label: str) -> str:
        """The label value whose sample is 1; `unknown` without one."""
        return next((labels[label] for known, labels, v in self._samples if known == name and v), "unknown")
