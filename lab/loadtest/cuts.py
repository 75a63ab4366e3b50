"""Prepares the cuts of split networks whose features a test's modes send."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from spillover.common.errors import ConfigError, ModelError
from spillover.common.home import models_home
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.split import open_split_plan
from spillover.edge.config import EdgeConfig
from spillover.lab.models.calibration_pictures import calibration_pictures
from spillover.lab.split.plan import SplitOptions, split_model
from spillover.lab.terminal import Progress

_PICTURES = 64


def prepare_cuts(edges: Iterable[EdgeConfig], progress: Progress, *, make: bool) -> list[str]:
    """Make the cuts that these edges run where they are missing; returns notes on what was made.

    Nothing is made without `make`, because a server elsewhere must have the same tails, nor in a folder that
    is not a prepared model or has other cuts, which would be replaced.

    Raises:
        ConfigError: a cut is missing and is not made here; the text says how to make it.
        ModelError: there is no such model, or its network has no such cut.
    """
    notes = []
    for folder, cuts in _wanted(edges).items():
        path = find_model_folder(folder)
        there = _cuts_of(path)
        missing = [cut for cut in cuts if cut not in there]
        if not missing:
            continue
        if there or not make or not path.resolve().is_relative_to(models_home().resolve()):
            options = " ".join(f"--cut {cut}" for cut in [*there, *missing])
            raise ConfigError(
                f"uplink.split: {path} has no cut {', '.join(missing)}; `spillover lab split {folder} "
                f"{options}` makes it, and the server needs the same"
            )
        split_model(path, calibration_pictures(None, _PICTURES), SplitOptions(cuts=tuple(cuts)), progress)
        notes.append(f"{folder} was split at {', '.join(cuts)} for this test, as `spillover lab split` does")
    return notes


def _wanted(edges: Iterable[EdgeConfig]) -> dict[str, list[str]]:
    """The names of cuts by model folder."""
    wanted: dict[str, list[str]] = {}
    for edge in edges:
        if edge.uplink.split and edge.uplink.payload.has_features:
            cuts = wanted.setdefault(edge.uplink.split.folder, [])
            cuts += [cut for cut in edge.uplink.split.cuts if cut not in cuts]
    return wanted


def _cuts_of(path: Path) -> Sequence[str]:
    """The cuts that a model folder has; none where its plan is absent, or is another network's."""
    try:
        return [cut.name for cut in open_split_plan(open_model_folder(path)).cuts]
    except ModelError:
        return []
