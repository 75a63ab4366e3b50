"""Accuracy of a replay's answers, where the pictures of a log have labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import AnsweredBy, Prediction
from spillover.edge.sinks.record import Record
from spillover.lab.data.labelled import open_labelled_set
from spillover.lab.pairs.evaluate.mixture import Mixture, mixture_of
from spillover.lab.pairs.replay.simulate import ReplayFrame
from spillover.lab.records import prediction_of, read_records


class Judge:
    """Both sides' answers to the labelled pictures of a run.

    Pictures are known by the names of their files; frames without a label, or without either side's answer,
    do not count.
    """

    def __init__(self, mixture: Mixture, places: Mapping[str, int]) -> None:
        self._mixture = mixture
        self._places = places
        self.metric = mixture.metric

    def __len__(self) -> int:
        return len(self._places)

    def accuracy(self, frames: Sequence[ReplayFrame], arrived: Sequence[bool]) -> float:
        """Accuracy when the cloud answered the frames marked in `arrived`, and the edge the others."""
        sent = np.zeros(len(self._places), np.bool_)
        for frame, has_arrived in zip(frames, arrived, strict=True):
            if has_arrived and frame.source in self._places:
                sent[self._places[frame.source]] = True
        return self._mixture.accuracy(sent)


def open_judge(data: Path, logs: Sequence[Path]) -> Judge:
    """The judge of a run on the pictures of `data`; among them the `logs` must hold both sides' answers.

    Raises:
        SourceError: a log or the labels cannot be read, or no picture has a label and both answers.
    """
    labelled = open_labelled_set(data)
    records = [record for log in logs for record in read_records(log)]
    edge, cloud = _answers(records, cloud=False), _answers(records, cloud=True)
    names = [picture.name for picture in labelled.pictures]
    known = [number for number, name in enumerate(names) if name in edge and name in cloud]
    if not known:
        raise SourceError(
            f"{data}: no picture has both sides' answers; log runs of --mode edge_only and cloud_only"
        )
    chosen = [names[number] for number in known]
    truth = labelled.part(known).truth
    mixture = mixture_of(truth, [edge[name] for name in chosen], [cloud[name] for name in chosen])
    return Judge(mixture, {name: place for place, name in enumerate(chosen)})


def _answers(records: Sequence[Record], *, cloud: bool) -> dict[str, Prediction]:
    """By picture; the first of each side."""
    answers: dict[str, Prediction] = {}
    for record in records:
        if record.source and (record.answered_by == AnsweredBy.CLOUD.value) is cloud:
            answers.setdefault(record.source, prediction_of(record))
    return answers
