"""Scores the frames of a log by another policy."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spillover.common.errors import ConfigError, SourceError
from spillover.common.tasks import spec_for
from spillover.common.types import AnsweredBy, Prediction
from spillover.edge.policy.gain import GainModel
from spillover.edge.policy.scores import SCORERS, Scorer, ScoreSettings
from spillover.edge.sinks.record import Record
from spillover.lab.records import prediction_of

Rescore = Callable[[Record], float]


def rescore_by(policy: str, records: Sequence[Record], report_threshold: float) -> Rescore:
    """What a record would have scored: `policy` is a score's name or the path of a gain file.

    The edge's answer to a frame that the cloud has answered is taken from another record of the same picture.
    Of classifications a log holds the best five classes, of detections the reported boxes; scores are
    computed from these.

    Raises:
        ConfigError: there is no such score, or it is for the other task.
        SourceError: a frame's answer by the edge is in no record.
    """
    scorer, settings = _scorer(policy), ScoreSettings(report_threshold)
    edge = {r.source: prediction_of(r) for r in reversed(records) if r.source and _is_edge(r)}

    def rescore(record: Record) -> float:
        prediction = _prediction(record, edge)
        task = spec_for(prediction).name
        if task != scorer.task:
            raise ConfigError(f"policy {policy} is for {scorer.task}, the log holds {task}s")
        return scorer(prediction, settings) or 0.0

    return rescore


def _scorer(policy: str) -> Scorer:
    if policy in SCORERS:
        return SCORERS[policy]
    if not Path(policy).is_file():
        raise ConfigError(f"--policy {policy}: neither one of {', '.join(SCORERS)}, nor a gain file")
    model = GainModel.load(Path(policy))
    return Scorer(model.file.task, lambda prediction, _: model.gain(prediction))


def _prediction(record: Record, edge: Mapping[str, Prediction]) -> Prediction:
    if _is_edge(record):
        return prediction_of(record)
    if record.source not in edge:
        raise SourceError(
            f"frame {record.frame_id}: the cloud answered it, and the edge's own answer to "
            f"{record.source or 'it'} is in no log: give one of --mode edge_only as --answers"
        )
    return edge[record.source]


def _is_edge(record: Record) -> bool:
    return record.answered_by != AnsweredBy.CLOUD.value and not record.carried_from
