"""Streaming accuracy of a daemon's results, as its log holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.common.tasks import agreement
from spillover.common.types import Prediction
from spillover.edge.sinks.record import Record
from spillover.lab.pairs.video.streaming import newest_at
from spillover.lab.records import prediction_of


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What was said of one frame, and when; a `streaming.Given`."""

    number: int
    given_s: float
    """On the clock of the instants that it is judged at."""
    prediction: Prediction


def said_in(records: Sequence[Record]) -> list[Said]:
    """All results of a log, late answers too; times are Unix seconds. Raises SourceError."""
    return [
        Said(record.sequence, record.captured_unix_s + record.timings.total_s, prediction_of(record))
        for record in records
    ]


def newest_predictions(said: Sequence[Said], at_s: Mapping[int, float]) -> dict[int, Prediction | None]:
    """By frame: what was newest at its instant in `at_s`, by the number of a frame; None before anything."""
    numbers = sorted(at_s)
    newest = newest_at([at_s[number] for number in numbers], said)
    return {
        number: one.prediction if one is not None else None
        for number, one in zip(numbers, newest, strict=True)
    }


def agreement_of_newest(
    newest: Mapping[int, Prediction | None], truth: Mapping[int, Prediction]
) -> float | None:
    """Mean agreement of what was newest at each instant with the truth of it; 0 where nothing had been said.

    Frames that are in one of the two only are left out; None where no frame is in both.
    """
    values = [
        agreement(prediction, truth[number]) if prediction is not None else 0.0
        for number, prediction in newest.items()
        if number in truth
    ]
    return float(np.mean(values)) if values else None


def streaming_agreement(records: Sequence[Record], truth: Mapping[int, Prediction]) -> float | None:
    """Streaming accuracy at the instants when the answered frames were captured; None without a truth."""
    at_s = {record.sequence: record.captured_unix_s for record in records if record.sequence in truth}
    return agreement_of_newest(newest_predictions(said_in(records), at_s), truth)
