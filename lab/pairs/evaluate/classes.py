"""Checks that labels and models mean the same classes, and gives a set's categories the models' numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spillover.common.errors import ModelError, SourceError
from spillover.common.model.decoders import decoder_for
from spillover.common.model.manifest import ModelFolder, open_model_folder
from spillover.common.tasks.detection import DETECTION
from spillover.lab.data.labelled import ClassLabels, CocoTruth, LabelledSet


def judging(data: LabelledSet, *models: Path) -> LabelledSet:
    """`data` with its categories numbered as the classes of all `models`, checked against them.

    Categories of boxes are matched by name where the models have label files, else by the order of their
    ids. A category that no model knows keeps its boxes; they count as never found.

    Raises:
        ModelError: a model's task is not what the labels judge, or two models number classes differently.
        SourceError: a label is of a class that a model does not have, or the categories are not the models'.
    """
    folders = [open_model_folder(path) for path in models]
    for folder in folders:
        if (task := folder.task.name) != data.task:
            raise ModelError(f"{folder.path}: its task is {task}, the labels are for {data.task}")
    if isinstance(data.truth, CocoTruth):
        return replace(data, truth=_renumbered(data.name, data.truth, folders))
    for folder in folders:
        _check_range(data, data.truth, folder)
    return data


def class_count(folder: ModelFolder) -> int | None:
    """The number of the network's classes, by its output's shape or its labels; None where neither shows."""
    import onnx

    if folder.members:
        return class_count(folder.members[0])
    graph = onnx.load(folder.onnx_path, load_external_data=False).graph
    shape = [axis.dim_value or None for axis in graph.output[0].type.tensor_type.shape.dim]
    count = decoder_for(folder.manifest, folder.task).head.class_count(shape[1:]) or 0
    return count if count > 0 else len(folder.labels) or None


def _check_range(data: LabelledSet, truth: ClassLabels, folder: ModelFolder) -> None:
    count = class_count(folder) or int(truth.class_id.max()) + 1
    beyond = np.flatnonzero(truth.class_id >= count)
    if beyond.size:
        first = int(beyond[0])
        place = truth.where[first] if truth.where else f"{data.name}, {data.pictures[first].name}"
        raise SourceError(
            f"{place}: class {truth.class_id[first]}, but {folder.model_id} has classes 0 to {count - 1}"
        )


def _renumbered(name: str, truth: CocoTruth, folders: Sequence[ModelFolder]) -> CocoTruth:
    categories = sorted(truth.instances["categories"], key=lambda category: category["id"])
    labelled = [folder for folder in folders if folder.labels]
    if labelled and all(category.get("name") for category in categories):
        numbers = _by_name(name, categories, labelled)
    else:
        numbers = _by_rank(name, categories, folders)
    instances: dict[str, Any] = dict(truth.instances)
    instances["categories"] = [category | {"id": numbers[category["id"]]} for category in categories]
    instances["annotations"] = [
        annotation | {"category_id": numbers[annotation["category_id"]]}
        for annotation in truth.instances["annotations"]
    ]
    return replace(truth, instances=instances)


def _by_name(
    data: str, categories: Sequence[Mapping[str, Any]], folders: Sequence[ModelFolder]
) -> dict[int, int]:
    classes = class_numbers(folders)
    known = [category for category in categories if _plain(category["name"]) in classes]
    if not known:
        raise SourceError(
            f"{data}: none of its categories ({_some(c['name'] for c in categories)}) is a class of "
            f"{folders[0].model_id} ({_some(folders[0].labels)})"
        )
    free = max(len(folder.labels) for folder in folders)
    return {
        category["id"]: classes.get(_plain(category["name"]), free + rank)
        for rank, category in enumerate(categories)
    }


def class_numbers(folders: Sequence[ModelFolder]) -> dict[str, int]:
    """Class by name, of all folders that have names.

    Raises ModelError where two models number a class differently.
    """
    classes: dict[str, int] = {}
    for folder in folders:
        for label, number in _numbered(folder).items():
            if classes.setdefault(label, number) != number:
                raise ModelError(
                    f"{label!r} is class {classes[label]} of {folders[0].model_id} and class {number} of "
                    f"{folder.model_id}: one cannot answer for the other"
                )
    return classes


def check_detectors(edge: ModelFolder, cloud: ModelFolder) -> None:
    """As `check_pair`; a model that is no detector is refused too. Raises ModelError."""
    for folder in (edge, cloud):
        if folder.task.name != DETECTION.name:
            raise ModelError(f"{folder.path}: its task is {folder.task.name}, and only boxes can be followed")
    check_pair(edge, cloud)


def check_pair(edge: ModelFolder, cloud: ModelFolder) -> None:
    """Refuse a pair of which one cannot answer for the other, without labels to compare with.

    Raises:
        ModelError: the tasks differ, or both number their classes differently.
    """
    if edge.task.name != cloud.task.name:
        raise ModelError(f"{edge.path} is for {edge.task.name} and {cloud.path} for {cloud.task.name}")
    if edge.labels and cloud.labels:
        for number, names in enumerate(zip(edge.labels, cloud.labels, strict=False)):
            if _plain(names[0]) != _plain(names[1]):
                raise ModelError(
                    f"class {number} is {names[0]!r} of {edge.model_id} and {names[1]!r} of "
                    f"{cloud.model_id}: one cannot answer for the other"
                )
        return
    counts = class_count(edge), class_count(cloud)
    if None not in counts and counts[0] != counts[1]:
        raise ModelError(
            f"{edge.model_id} has {counts[0]} classes and {cloud.model_id} {counts[1]}: one cannot answer "
            "for the other, unless labels files name the same classes"
        )


def _by_rank(
    data: str, categories: Sequence[Mapping[str, Any]], folders: Sequence[ModelFolder]
) -> dict[int, int]:
    for folder in folders:
        count = class_count(folder)
        if count != len(categories):
            raise SourceError(
                f"{data}: its {len(categories)} categories cannot be matched to the "
                f"{count or 'unknown number of'} classes of {folder.model_id}: give the model a labels file"
            )
    return {category["id"]: rank for rank, category in enumerate(categories)}


def _numbered(folder: ModelFolder) -> dict[str, int]:
    """Class by name; of equal names the first counts."""
    return {_plain(label): number for number, label in reversed(list(enumerate(folder.labels)))}


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3]) + ", ..."
