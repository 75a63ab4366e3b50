"""Everything that differs between tasks: one file and one line in `TASKS` for each.

A task is found by its name in `model.yaml`, or by the type of a prediction. To add one, write its prediction
type and its `TaskSpec` in a file beside these.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from spillover.common.errors import ModelError
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Prediction

Tasks = Mapping[str, TaskSpec[Any]]
"""Tasks by name."""


def table_of(*tasks: TaskSpec[Any]) -> Tasks:
    """A table of these tasks, in that order."""
    return MappingProxyType({task.name: task for task in tasks})


TASKS: Tasks = table_of(
    CLASSIFICATION,
    DETECTION,
)


def spec_of(name: str, tasks: Tasks = TASKS) -> TaskSpec[Any]:
    """The task of this name. Raises ModelError, which lists the known names."""
    if name not in tasks:
        raise ModelError(f"there is no task {name!r}; known are {', '.join(tasks)}")
    return tasks[name]


def spec_for(prediction: Prediction, tasks: Tasks = TASKS) -> TaskSpec[Any]:
    """The task of a prediction. Raises TypeError for an unknown type."""
    for task in tasks.values():
        if type(prediction) is task.prediction:
            return task
    raise TypeError(f"a {type(prediction).__name__} is no prediction of any task")


def agreement(
    prediction: Prediction, reference: Prediction, *, confidence: float = 0.3, tasks: Tasks = TASKS
) -> float:
    """How well `prediction` agrees with `reference`, 0..1; see `TaskSpec.agreement`.

    Raises:
        TypeError: they are of different tasks.
    """
    task = spec_for(prediction, tasks)
    return task.agreement(prediction, task.own(reference), confidence)
