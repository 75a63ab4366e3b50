"""Makes the decisions of a log again: the edge's own rules, fed with each decision's numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spillover.common.types import Action, Decision
from spillover.edge.inference.scene import Surroundings
from spillover.edge.link.byte_budget import Tokens
from spillover.edge.link.estimator import LinkEstimate
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.policy.base import NEVER_S, Context, Rule
from spillover.edge.policy.budget import RankByBudget, RankDecision
from spillover.edge.policy.chain import KEEP_ALL, SEND_ALL, Audit, EmptyRules, Policy, Refresh, ScoreThreshold
from spillover.edge.policy.forms import ChoosePayload
from spillover.edge.policy.guard import BREAKER_LEVEL, LinkGuard
from spillover.edge.policy.share import Threshold
from spillover.edge.policy.tracks import TRACKS
from spillover.edge.sinks.record import Record
from spillover.edge.tracking.stage import TrackSummary

_CHOSEN = ("action", "payload", "expected_gain", "predicted_latency_s")
_COMPARED = ("reason", "score", "audit", "degraded", "is_probe", "serves_later")
_RANK = ("rank", "needed_rank", "budget_share")
_ESTIMATE = ("rtt_s", "rate_bytes_per_s", "deviation_s", "server_queue_s", "backlog_s", "deviations")


@dataclass(frozen=True, slots=True)
class Remade:
    """How many decisions there were, and the frames whose decision does not follow from its numbers."""

    decisions: int
    different: tuple[str, ...]
    short: int = 0
    """Decisions that the log holds without their numbers."""

    def lines(self) -> Iterator[str]:
        """What to tell of it."""
        if self.decisions:
            same = self.decisions - len(self.different)
            yield (
                f"decisions made again from their inputs: {same} of {self.decisions} the same"
                f"{named(self.different)}"
            )
        if self.short:
            yield (
                f"{self.short} decisions have no inputs and cannot be made again: "
                "write the log with `decision: full` on its sink"
            )


def named(different: Sequence[str]) -> str:
    """The first frames that came out otherwise."""
    return f"; otherwise: {', '.join(different[:5])}" if different else ""


def remake(records: Sequence[Record]) -> Remade:
    """Make the decisions of a log again; those of mode `edge_only`, which have no numbers, are left out."""
    decided = [record for record in records if record.decision.inputs]
    different = [record.frame_id for record in decided if not follows(record.decision)]
    short = sum(_is_short(record.decision) for record in records)
    return Remade(len(decided), tuple(different), short)


def _is_short(decision: Decision) -> bool:
    """Whether rules have decided whose numbers were not written; in mode `edge_only` none do."""
    decided = decision.score is not None or decision.degraded or decision.action is not Action.KEEP
    return decided and not decision.inputs


def follows(decision: Decision) -> bool:
    """Whether the rules of `edge.policy` make this decision from its inputs."""
    again = made_again(decision)
    # A picture that took the place of refused features is not what the policy chose.
    compared = _COMPARED if decision.fallback else (*_COMPARED, *_CHOSEN)
    return all(getattr(again, name) == getattr(decision, name) for name in compared)


def made_again(decision: Decision) -> Decision:
    """What the rules decide, given nothing but the inputs of a logged decision."""
    logged = _Inputs(decision.inputs)
    return logged.policy().decide(logged.context())


@dataclass(frozen=True, slots=True)
class _AsLogged:
    """The threshold that was in force."""

    threshold: Threshold

    def for_frame(self, score: float, *, learns: bool = True) -> Threshold:
        """It."""
        del score, learns
        return self.threshold


class _Inputs:
    """The numbers of one decision, as the settings of the rules and as their context."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self._numbers = numbers

    def policy(self) -> Policy:
        """The rules that have left numbers behind, set as they were."""
        numbers, get = self._numbers, self._numbers.get
        rules: list[Rule] = [
            ChoosePayload(),
            LinkGuard(get("spool_from"), forecast=bool(get("forecast", 1.0))),
        ]
        if "rank" in numbers:
            rank = RankDecision(True, *(numbers[name] for name in _RANK))
            rules.append(RankByBudget(lambda *_: rank))
        if "refresh_s" in numbers:
            rules.append(Refresh(numbers["refresh_s"]))
        if "threshold" not in numbers:
            return Policy(SEND_ALL, rules)
        threshold = Threshold(numbers["threshold"], get("tie_credit"))
        empty = EmptyRules(
            get("empty_audit_share", 0.0), get("motion_gain", 0.0), get("lost_track_gain", 0.0)
        )
        rules += [
            ScoreThreshold(
                _AsLogged(threshold), empty, lambda: get("draw", 1.0), by_tracks=bool(get("by_tracks"))
            ),
            Audit(get("audit_share", 0.0), lambda: get("audit_draw", 1.0)),
        ]
        return Policy(KEEP_ALL, rules)

    def context(self) -> Context:
        """What the rules read."""
        get = self._numbers.get
        return Context(
            time_left_s=get("time_left_s", 0.0),
            link=self._link(),
            score=get("prediction_score"),
            surroundings=Surroundings(
                get("motion", 0.0), bool(get("lost_track")), empty="motion" in self._numbers
            ),
            since_last_offload_s=get("since_last_offload_s", 0.0),
            tracks=self._tracks(),
            waits=bool(get("waits")),
            late_window_s=get("late_window_s", 0.0),
        )

    def _tracks(self) -> TrackSummary | None:
        if f"{TRACKS}shown" not in self._numbers:
            return None
        half_life_s = self._numbers[f"{TRACKS}half_life_s"]
        return TrackSummary(
            shown=int(self._numbers[f"{TRACKS}shown"]),
            stale=self._numbers[f"{TRACKS}stale"],
            births=int(self._numbers[f"{TRACKS}births"]),
            deaths=int(self._numbers[f"{TRACKS}deaths"]),
            flow_failures=int(self._numbers[f"{TRACKS}flow_failures"]),
            doubtful=self._numbers[f"{TRACKS}doubtful"],
            half_life_s=math.inf if half_life_s >= NEVER_S else half_life_s,
        )

    def _link(self) -> LinkState:
        get, free = self._numbers.get, Tokens()
        phases = {level: phase for phase, level in BREAKER_LEVEL.items()}
        estimate = LinkEstimate(*(get(name, 0.0) for name in _ESTIMATE))
        return LinkState(
            in_flight=int(get("in_flight", 0)),
            max_in_flight=int(get("max_in_flight", 0)),
            pushback_left_s=get("pushback_left_s", 0.0),
            breaker=phases[get("breaker", 0.0)],
            breaker_allows=bool(get("breaker_allows")),
            view=LinkView(estimate, self._options(), bool(get("may_probe"))),
            tokens=Tokens(get("tokens_bytes", free.left_bytes), get("bucket_bytes", free.bucket_bytes)),
        )

    def _options(self) -> tuple[PayloadOption, ...]:
        """The forms to choose from, in the order in which they were offered."""
        prefix = "latency_s."
        names = [key.removeprefix(prefix) for key in self._numbers if key.startswith(prefix)]
        return tuple(map(self._option, names))

    def _option(self, name: str) -> PayloadOption:
        def get(number: str) -> float:
            return self._numbers.get(f"{number}.{name}", 0.0)

        return PayloadOption(
            name,
            Action.SEND_FEATURES if get("is_features") else Action.SEND_FRAME,
            get("payload_bytes"),
            get("latency_s"),
            get("fidelity"),
            get("encode_s"),
            get("server_s"),
            measured=not get("is_guess"),
            extra_bytes=get("extra_bytes"),
            due=bool(get("due")),
        )
