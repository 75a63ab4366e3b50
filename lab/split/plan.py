"""Splits a model folder and writes `split.yaml`: find cuts, cut, check, code, time, keep the Pareto set."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx

from spillover.common.errors import ModelError
from spillover.common.features.quantizer import Quantizer
from spillover.common.images import encode_jpeg
from spillover.common.model.manifest import Layout, ModelFolder, file_sha256, open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import (
    SPLIT_FOLDER,
    AtAge,
    Cut,
    InterCoding,
    Seam,
    SplitPlan,
    head_path,
    tail_path,
    write_split_plan,
)
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import FloatArray, Prediction
from spillover.lab.data.pictures import Picture, evenly_spread
from spillover.lab.models.profile.timing import interleaved_medians, network_run, profile_plan
from spillover.lab.models.quantize.layers import is_quantized
from spillover.lab.split.candidates import candidate_cuts, cut_name, named_cuts
from spillover.lab.split.coding import Coding, Examples, Features, Judge, choose_coding, mean_bytes
from spillover.lab.split.cuts import find_cuts
from spillover.lab.split.extract import TOLERANCE, Half, cut_network, largest_difference
from spillover.lab.split.graph import ActivationGraph, Tensor, activation_graph, load_network
from spillover.lab.split.inter import InterChoice, Sequences, choose_inter, judge_inter, without_dead_zone
from spillover.lab.split.moving import Moving, Stretch, clip_halves, shifted_halves
from spillover.lab.terminal import Progress

MAX_CUTS = 8
DEFAULT_LOSS = {CLASSIFICATION.name: 0.01, DETECTION.name: 0.05}


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """The options of `spillover lab split`.

    `max_loss` None is the task's default; `cuts` names the cuts to make, empty is the best of all. With a
    `clip` codings are chosen for the fewest bytes against earlier frames, without it for the fewest alone.
    """

    max_tensors: int = 3
    max_loss: float | None = None
    int8_head: bool = False
    threads: int = 0
    rounds: int = 15
    device: str = ""
    cuts: tuple[str, ...] = ()
    clip: Path | None = None


@dataclass(frozen=True, slots=True)
class SplitReport:
    """The plan, the numbers it was chosen from, and the mean size of the JPEGs (quality 90, whole frames).

    `chosen` has, by the name of the cut, the figures of inter coding on the frames that it was chosen on.
    """

    plan: SplitPlan
    chosen: Mapping[str, Sequence[AtAge]]
    cuts_found: int
    cuts_measured: int
    largest_difference: float
    jpeg_bytes: float


class _Calibration:
    """Pictures of a model: input tensors and the whole network's outputs and answers."""

    def __init__(self, model: Model, pictures: Iterable[Picture], progress: Progress) -> None:
        self.model = model
        self.inputs, self.geometries, self.jpeg_sizes = [], [], []
        self.outputs: list[list[FloatArray]] = []
        for picture in progress.track(pictures, "whole network"):
            image = picture.image()
            tensor, geometry = model.prepare(image)
            self.inputs.append(tensor[None])
            self.geometries.append(geometry)
            self.outputs.append(model.run(tensor[None]))
            self.jpeg_sizes.append(len(encode_jpeg(image, 90).data))
        self.answers = [self.decode(i, outputs) for i, outputs in enumerate(self.outputs)]

    @property
    def jpeg_bytes(self) -> float:
        """Mean size of the whole frames as JPEGs."""
        return float(np.mean(self.jpeg_sizes))

    def decode(self, number: int, outputs: Sequence[FloatArray]) -> Prediction:
        return self.model.decode(outputs, 0, self.geometries[number])


def split_model(
    path: Path, pictures: Sequence[Picture], options: SplitOptions, progress: Progress
) -> SplitReport:
    """Split the model folder at `path` and write `split.yaml` and the halves into it.

    Raises:
        ModelError: the network cannot be split, or no cut keeps enough of the answers.
        SourceError: a calibration picture or the clip cannot be read.
    """
    folder = open_model_folder(path)
    moving = clip_halves(options.clip) if options.clip else shifted_halves(pictures)
    network = load_network(folder.onnx_path, picture_shape(folder))
    graph = activation_graph(network)
    all_cuts = find_cuts(graph, options.max_tensors)
    chosen = named_cuts(graph, all_cuts, options.cuts) if options.cuts else candidate_cuts(graph, all_cuts)
    if not chosen:
        raise ModelError(
            f"{path}: behind the first layer no {options.max_tensors} float32 tensors or fewer, of known "
            "shape and few enough elements, separate input from outputs; --max-tensors allows more"
        )
    model = Model(folder, SessionConfig(threads=options.threads))
    calibration = _Calibration(model, pictures, progress)
    stretches = _stretches(model, moving, progress)
    with tempfile.TemporaryDirectory(prefix="spillover-split-") as scratch:
        workshop = _Workshop(Path(scratch), folder, network, graph, calibration, stretches, options, pictures)
        halves = [workshop.cut(numbers) for numbers in progress.track(chosen, "heads and tails")]
        if options.cuts:
            cuts = _all_cuts(workshop, halves, progress)
        else:
            # A cut that takes more bytes than the picture is worse in both time and bytes.
            cuts = _best_cuts(workshop, halves, calibration.jpeg_bytes, progress)
            cuts = cuts or _best_cuts(workshop, halves, math.inf, progress)
        if not cuts:
            raise ModelError(f"{path}: no cut keeps enough of the answers; allow more with --max-loss")
        plan = SplitPlan(model_sha256=folder.manifest.sha256, cuts=tuple(evenly_spread(cuts, MAX_CUTS)))
        _install(Path(scratch), path, plan)
    profile = profile_plan(folder, plan, options.device, options.threads, options.rounds)
    plan = msgspec.structs.replace(plan, profiles=(profile,))
    write_split_plan(path, plan)
    return SplitReport(
        plan=plan,
        chosen={cut.name: workshop.chosen[cut.name] for cut in plan.cuts if cut.name in workshop.chosen},
        cuts_found=len(all_cuts),
        cuts_measured=len(chosen),
        largest_difference=workshop.largest_difference,
        jpeg_bytes=calibration.jpeg_bytes,
    )


def picture_shape(folder: ModelFolder) -> tuple[int, int, int]:
    """The input's shape without batch axis, as the manifest has it."""
    spec = folder.manifest.own_input
    plane = (spec.height, spec.width)
    return (3, *plane) if spec.layout is Layout.NCHW else (*plane, 3)


def _best_cuts(
    workshop: "_Workshop", halves: Sequence["_Halves"], limit_bytes: float, progress: Progress
) -> list[Cut]:
    """The cuts that no other beats in head time and bytes, by head time.

    In that order a cut must take fewer bytes than `limit_bytes` and than all before it; its search stops as
    soon as it cannot.
    """
    options = workshop.options
    heads = {h.name: network_run(head_path(workshop.scratch, h.name), options.threads) for h in halves}
    seconds = interleaved_medians(heads, options.rounds)
    cuts: list[Cut] = []
    for by_time in progress.track(sorted(halves, key=lambda h: seconds[h.name]), "codings"):
        cut = workshop.code(by_time, workshop.size_of(cuts[-1]) if cuts else limit_bytes)
        if cut is not None:
            cuts.append(cut)
    return cuts


def _all_cuts(workshop: "_Workshop", halves: Sequence["_Halves"], progress: Progress) -> list[Cut]:
    """All cuts with enough fidelity, in order."""
    cuts = [workshop.code(of_cut, math.inf) for of_cut in progress.track(halves, "codings")]
    return [cut for cut in cuts if cut is not None]


@dataclass(frozen=True, slots=True)
class _Halves:
    """A cut whose head and tail are in the scratch folder: its name, and the tensors that cross it."""

    name: str
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Frames that follow each other, with the whole network's answers, to choose on and to judge on."""

    clip: str
    chosen_on: tuple[_Calibration, Stretch]
    judged_on: tuple[_Calibration, Stretch]


def _stretches(model: Model, moving: Moving, progress: Progress) -> _Stretches:
    chosen_on, judged_on = (
        (_Calibration(model, stretch.pictures(), progress), stretch)
        for stretch in (moving.chosen_on, moving.judged_on)
    )
    return _Stretches(moving.clip, chosen_on, judged_on)


@dataclass(slots=True)
class _Workshop:
    """Makes the cuts of one network in a scratch folder."""

    scratch: Path
    folder: ModelFolder
    network: onnx.ModelProto
    graph: ActivationGraph
    calibration: _Calibration
    stretches: _Stretches
    options: SplitOptions
    pictures: Sequence[Picture]
    largest_difference: float = 0.0
    chosen: dict[str, Sequence[AtAge]] = field(default_factory=dict)
    """Figures of inter coding on the frames that it was chosen on, by the name of the cut."""

    def cut(self, numbers: tuple[int, ...]) -> _Halves:
        """Write head and tail of one cut, and check them against the whole network."""
        tensors = tuple(self.graph.tensors[number] for number in numbers)
        name = cut_name([tensor.name for tensor in tensors])
        head_file, tail_file = head_path(self.scratch, name), tail_path(self.scratch, name)
        head_file.parent.mkdir(exist_ok=True)
        halves = cut_network(self.network, [tensor.name for tensor in tensors])
        onnx.save(halves.head, head_file)
        onnx.save(halves.tail, tail_file)
        self._verify(name, Half(head_file, self.options.threads), Half(tail_file, self.options.threads))
        if self.options.int8_head:
            self._quantize(head_file)
        return _Halves(name, tensors)

    def code(self, halves: _Halves, limit_bytes: float) -> Cut | None:
        """Choose the coding of one cut; None when none below `limit_bytes` keeps enough."""
        name = halves.name
        head_file, tail_file = head_path(self.scratch, name), tail_path(self.scratch, name)
        head, tail = Half(head_file, self.options.threads), Half(tail_file, self.options.threads)
        stills = _examples(self.calibration, head, tail)
        coding, choice = self._choose(stills, head, tail, limit_bytes)
        if coding is None or choice is None:
            return None
        seams = zip(halves.tensors, coding.quantizers, strict=True)
        return Cut(
            name=name,
            seams=tuple(Seam(tensor=t.name, shape=t.shape, quantizer=q) for t, q in seams),
            head_sha256=file_sha256(head_file),
            tail_sha256=file_sha256(tail_file),
            feature_bytes=round(coding.feature_bytes, 1),
            fidelity=round(coding.fidelity, 4),
            head_int8=is_quantized(head_file),
            inter=self._inter(name, head, tail, choice),
        )

    def size_of(self, cut: Cut) -> float:
        """The bytes by which cuts are compared: against earlier frames if those are of a camera."""
        return cut.usual_bytes if self.options.clip else cut.feature_bytes

    def _choose(
        self, stills: Examples, head: Half, tail: Half, limit_bytes: float
    ) -> tuple[Coding | None, InterChoice | None]:
        """How features are coded alone, and against earlier ones if that keeps enough.

        With a clip quantisers are chosen for the latter; else for the former.
        """
        max_loss = self._max_loss()
        frames, stretch = self.stretches.chosen_on
        sequences = Sequences(_examples(frames, head, tail), stretch.chains)
        if self.options.clip is None:
            coding = choose_coding(stills, max_loss, limit_bytes)
            if coding is None:
                return None, None
            choice = choose_inter(sequences, None, max_loss, [coding.quantizers])
            return coding, choice or without_dead_zone(sequences, coding.quantizers)
        judge = Judge(stills, max_loss)
        choice = choose_inter(sequences, judge, max_loss, limit_bytes=limit_bytes)
        fidelity = judge.fidelity(choice.quantizers) if choice else None
        if choice is None or fidelity is None:
            return None, None
        return Coding(choice.quantizers, mean_bytes(stills.features, choice.quantizers), fidelity), choice

    def _inter(self, name: str, head: Half, tail: Half, choice: InterChoice) -> InterCoding:
        """The choice with its figures; no dead zone where other shifted pictures do not bear it out."""
        inter = self._judged(name, head, tail, choice.quantizers, choice.dead_zone)
        kept = np.mean([at.fidelity for at in inter.ages])
        if inter.clip or not inter.dead_zone or kept >= 1 - self._max_loss():
            return inter
        return self._judged(name, head, tail, choice.quantizers, 0.0)

    def _judged(
        self, name: str, head: Half, tail: Half, quantizers: tuple[Quantizer, ...], dead_zone: float
    ) -> InterCoding:
        """The figures of a coding, on the frames that it was not chosen on; notes those on the others."""
        frames, stretch = self.stretches.chosen_on
        self.chosen[name] = judge_inter(
            Sequences(_examples(frames, head, tail), stretch.chains), quantizers, dead_zone
        )
        frames, stretch = self.stretches.judged_on
        unseen = _examples(frames, head, tail)
        return InterCoding(
            dead_zone=dead_zone,
            clip=self.stretches.clip,
            key_bytes=round(mean_bytes(unseen.features, quantizers), 1),
            ages=judge_inter(Sequences(unseen, stretch.chains), quantizers, dead_zone),
        )

    def _verify(self, name: str, head: Half, tail: Half) -> None:
        """Check that the uncoded halves give the outputs of the whole network."""
        for number in range(min(4, len(self.calibration.inputs))):
            parts = tail.run(head.run([self.calibration.inputs[number]]))
            difference = largest_difference(self.calibration.outputs[number], parts)
            self.largest_difference = max(self.largest_difference, difference)
            if difference > TOLERANCE:
                raise ModelError(
                    f"cut {name}: head and tail differ from the whole network by {difference:.2g}"
                )

    def _quantize(self, head_file: Path) -> None:
        """Make the head INT8 in place; the tail stays float, the coding is fitted to the INT8 features."""
        from spillover.lab.models.quantize.recipe import Recipe
        from spillover.lab.models.quantize.static import quantize_onnx
        from spillover.lab.terminal import Silent

        float_file = head_file.with_suffix(".float.onnx")
        head_file.rename(float_file)
        quantize_onnx(float_file, head_file, self.folder.manifest, Recipe(), self.pictures, Silent())

    def _max_loss(self) -> float:
        if self.options.max_loss is not None:
            return self.options.max_loss
        return DEFAULT_LOSS.get(self.folder.task.name, 0.01)


def _examples(pictures: _Calibration, head: Half, tail: Half) -> Examples:
    """The pictures at one cut."""

    def answer(number: int, features: Features) -> Prediction:
        return pictures.decode(number, tail.run([tensor[None] for tensor in features]))

    features = [[tensor[0] for tensor in head.run([inputs])] for inputs in pictures.inputs]
    return Examples(features, pictures.answers, answer)


def _install(scratch: Path, folder: Path, plan: SplitPlan) -> None:
    """Replace the folder's halves by those of the plan."""
    shutil.rmtree(folder / SPLIT_FOLDER, ignore_errors=True)
    (folder / SPLIT_FOLDER).mkdir()
    paths: tuple[Callable[[Path, str], Path], ...] = (head_path, tail_path)
    for cut in plan.cuts:
        for path in paths:
            shutil.copyfile(path(scratch, cut.name), path(folder, cut.name))
