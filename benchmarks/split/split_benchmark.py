"""The split benchmark: split a copy of the model, judge JPEG and every cut, then send frames over links."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.split.forms import FeaturesForm, Form, JpegForm
from benchmarks.split.latency import Latency, Setting, cost_of, features_forms, measure_link
from benchmarks.split.rates import (
    CHOSEN,
    Curve,
    RatePoint,
    accuracy_at,
    bytes_at,
    cut_curves,
    jpeg_curves,
    whole_accuracy,
)
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import SplitPlan, has_split_plan, open_split_plan
from spillover.edge.payload.encoder import PICTURE
from spillover.lab.daemons import cloud_running
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.predict import seeing_all
from spillover.lab.split.plan import SplitOptions, split_model
from spillover.lab.terminal import Progress

WHOLE_FRAME = PICTURE
"""JPEG of quality 90, as a camera gives it."""
EQUAL_JPEG = "JPEG as accurate"
LOSS = 0.01
"""Relative loss of accuracy that counts as equal."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Numbers of pictures and frames, links and threads."""

    calibration: int = 64
    evaluation: int = 200
    frames: int = 60
    megabits: tuple[float, ...] = (1.0, 5.0, 20.0, 100.0)
    edge_threads: int = 1
    cloud_threads: int = 1
    int8_head: bool = False


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All figures; `latencies` by megabits per second."""

    model: str
    data: str
    pictures: int
    accuracy: float
    edge_accuracy: float
    plan: SplitPlan
    jpeg: Mapping[str, Curve]
    cuts: Mapping[str, Curve]
    latencies: Mapping[float, Mapping[str, Latency]]

    def chosen(self, cut: str) -> RatePoint:
        """The point of a cut's curve that split.yaml has."""
        return next(point for point in self.cuts[cut] if point.setting == CHOSEN)

    def jpeg_bytes_at(self, accuracy: float) -> float | None:
        """The fewest bytes of any JPEG that is as accurate but for `LOSS`."""
        sizes = [bytes_at(curve, accuracy * (1 - LOSS)) for curve in self.jpeg.values()]
        return min((size for size in sizes if size is not None), default=None)

    def jpeg_accuracy_at(self, frame_bytes: float) -> float | None:
        """The best accuracy of any JPEG of at most so many bytes."""
        best = [accuracy_at(curve, frame_bytes) for curve in self.jpeg.values()]
        return max((value for value in best if value is not None), default=None)


def bench_split(
    model: Path, edge: Path, data: LabelledSet, out: Path, options: BenchOptions, progress: Progress
) -> BenchResult:
    """Measure it all; `out` keeps the split copy of the model and the server's log.

    Raises:
        ModelError: a model cannot be loaded or split.
        SourceError: a picture cannot be read, or the labels are not of the models' classes.
    """
    data = judging(data, model, edge)
    calibration, evaluation = halves(data, options.calibration, options.evaluation)
    folder = _split_copy(model, out, calibration, options, progress)
    plan = open_split_plan(open_model_folder(folder))
    judge = open_model(folder, options.cloud_threads)
    accuracy = whole_accuracy(judge, evaluation, progress)
    edge_model = Model.load(edge, SessionConfig(threads=options.edge_threads))
    jpeg = jpeg_curves(judge, evaluation, progress)
    cuts = cut_curves(folder, plan, judge, evaluation, options.cloud_threads, progress)
    edge_accuracy = whole_accuracy(open_model(edge, options.edge_threads), evaluation, progress)
    pictures = len(evaluation.pictures)
    result = BenchResult(
        str(judge.model_id), data.name, pictures, accuracy, edge_accuracy, plan, jpeg, cuts, {}
    )
    return replace(
        result, latencies=_latencies(folder, result, edge_model, evaluation, out, options, progress)
    )


def open_model(path: Path, threads: int) -> Model:
    """The model in `path`; a detector gives boxes of any confidence, as average precision needs them."""
    return Model(seeing_all(open_model_folder(path)), SessionConfig(threads=threads))


def halves(data: LabelledSet, calibration: int, evaluation: int) -> tuple[LabelledSet, LabelledSet]:
    """Two sets without a common picture, each spread evenly over `data`."""
    count = len(data.pictures)
    first = np.unique(np.linspace(0, count - 1, min(calibration, count // 2)).round().astype(int))
    others = np.setdiff1d(np.arange(count), first)
    chosen = others[np.unique(np.linspace(0, len(others) - 1, evaluation).round().astype(int))]
    return data.part(first.tolist()), data.part(chosen.tolist())


def _split_copy(
    model: Path, out: Path, calibration: LabelledSet, options: BenchOptions, progress: Progress
) -> Path:
    """A copy of the model folder with a split of its own, laid out as a repository; made once."""
    manifest = open_model_folder(model).manifest
    name = f"{manifest.name}-int8-heads" if options.int8_head else manifest.name
    folder = out / "models" / name / manifest.version
    if not has_split_plan(folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns("split*"))
        split_options = SplitOptions(int8_head=options.int8_head, threads=options.edge_threads)
        split_model(folder, calibration.pictures, split_options, progress)
    return folder


def _latencies(
    folder: Path,
    result: BenchResult,
    edge: Model,
    data: LabelledSet,
    out: Path,
    options: BenchOptions,
    progress: Progress,
) -> dict[float, dict[str, Latency]]:
    images = [picture.image() for picture in data.pictures[: options.frames]]
    profile = result.plan.profiles[0]
    encoders = features_forms(folder, result.plan, options.edge_threads)
    forms: dict[str, Form] = {WHOLE_FRAME: JpegForm(90, 1.0)}
    if (equal := _equal_jpeg(result)) is not None:
        forms[EQUAL_JPEG] = equal
    forms |= {name: FeaturesForm(encoder) for name, encoder in encoders.items()}
    costs = {
        name: cost_of(form, images[:8], profile.tail_s.get(name, profile.whole_s))
        for name, form in forms.items()
    }
    setting = Setting(forms, costs, result.plan.cuts, edge)
    repository = {"repository": str(folder.parent.parent), "default": folder.parent.name}
    config = {"models": repository, "session": {"threads": options.cloud_threads}}
    with cloud_running(config, out) as cloud:
        return {
            megabits: measure_link(cloud.address, megabits, setting, images, progress)
            for megabits in options.megabits
        }


def _equal_jpeg(result: BenchResult) -> JpegForm | None:
    """The smallest JPEG of whole frames that is as accurate as the uncompressed ones."""
    wanted = result.accuracy * (1 - LOSS)
    for point in result.jpeg["whole frame"]:
        if point.accuracy >= wanted:
            quality, size = (part.rpartition(" ")[2].rstrip("%") for part in point.setting.split(","))
            return JpegForm(int(quality), int(size) / 100)
    return None


def as_json(result: BenchResult) -> bytes:
    """Every figure, for machines."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
