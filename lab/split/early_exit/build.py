"""Find the best exit behind a cut, and write it as a model folder whose network also gives the features."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper

from spillover.common.errors import ModelError
from spillover.common.model.exit import ExitInfo, write_exit_info
from spillover.common.model.manifest import MODEL_FILE, ModelFolder, open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, open_split_plan
from spillover.common.types import FloatArray, Prediction
from spillover.lab.data.pictures import Picture
from spillover.lab.models.folder import building, finish
from spillover.lab.models.profile.timing import interleaved_medians, network_run
from spillover.lab.progress import Progress
from spillover.lab.split.cuts import find_cuts
from spillover.lab.split.early_exit.fit import Skip, fit_skip, geometry
from spillover.lab.split.early_exit.graphs import linear_graph, skip_graph
from spillover.lab.split.early_exit.linear import Linear, fit_linear, softmax
from spillover.lab.split.extract import Half, cut_network
from spillover.lab.split.fidelity import fidelity
from spillover.lab.split.graph import activation_graph, load_network
from spillover.lab.split.plan import picture_shape

KERNEL = 3
MAX_TARGETS = 6
THREADS = 1
ROUNDS = 15
LINEAR = "classes"
"""What a linear exit leads to."""
SENT = (0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Exit:
    """One fitted exit, and what it keeps of the whole network's answers on unseen pictures.

    `agreement` is the share of pictures with the very same answer, `when_sent` what it is once the frames are
    sent that the exit is least sure of, by their share; empty for detectors. `seconds` is a whole run, the
    backbone included.
    """

    target: str
    layer: Skip | Linear
    fidelity: float
    agreement: float
    when_sent: Mapping[float, float]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ExitReport:
    """The exit that was taken, those that were tried (nearest to the backbone first), seconds a part."""

    taken: Exit
    tried: tuple[Exit, ...]
    trunk_s: float
    whole_s: float


def build_early_exit(
    path: Path, cut: str, out: Path, pictures: Sequence[Picture], keep: float, progress: Progress
) -> ExitReport:
    """Write an exit behind `cut` of the split model at `path` to the model folder `out`.

    Half of the pictures fit, the other half judge. Taken is the quickest exit of those that keep at least
    `keep` of the answers; the best one where none does.

    Raises:
        ModelError: the cut has several tensors, or nothing behind it can be reached by a fitted layer.
        SourceError: a picture cannot be read.
    """
    folder = open_model_folder(path)
    at = open_split_plan(folder).cut(cut)
    if len(at.seams) != 1 or at.head_int8:
        raise ModelError(f"an exit needs a cut of one tensor with a float head, which {cut} is not")
    source = at.seams[0].tensor
    samples = _Samples(folder, source, pictures, progress)
    with tempfile.TemporaryDirectory(prefix="spillover-exit-") as scratch:
        found = [samples.try_target(name, Path(scratch)) for name in progress.track(samples.targets, "exits")]
        tried = [one for one in (*found, samples.try_linear()) if one is not None]
        if not tried:
            raise ModelError(f"no tensor behind cut {cut} can be reached by one fitted layer")
        report = _timed(tried, samples, keep, Path(scratch))
    _write(folder, samples.exit_network(report.taken), at, out)
    return report


def _timed(tried: Sequence[Exit], samples: "_Samples", keep: float, scratch: Path) -> ExitReport:
    backbone = scratch / "backbone.onnx"
    onnx.save(cut_network(samples.network, [samples.source]).head, backbone)
    runs = {"backbone": network_run(backbone, THREADS)}
    runs["whole"] = network_run(samples.model.folder.onnx_path, THREADS)
    for number, one in enumerate(tried):
        file = scratch / f"exit-{number}.onnx"
        onnx.save(samples.exit_network(one), file)
        runs[one.target] = network_run(file, THREADS)
    seconds = interleaved_medians(runs, ROUNDS)
    timed = tuple(replace(one, seconds=seconds[one.target]) for one in tried)
    good = [one for one in timed if one.fidelity >= keep]
    taken = min(good, key=lambda one: one.seconds) if good else max(timed, key=lambda one: one.fidelity)
    return ExitReport(taken, timed, seconds["backbone"], seconds["whole"])


class _Samples:
    """Features of calibration pictures at the backbone's end and at the tensors behind it."""

    def __init__(
        self, folder: ModelFolder, source: str, pictures: Sequence[Picture], progress: Progress
    ) -> None:
        self.source = source
        self.network = load_network(folder.onnx_path, picture_shape(folder))
        self.model = Model(folder, SessionConfig(threads=THREADS))
        self.targets = list(self._targets())
        with tempfile.TemporaryDirectory(prefix="spillover-exit-") as scratch:
            probe = Path(scratch, "probe.onnx")
            onnx.save(_with_outputs(self.network, [source, *self.targets]), probe)
            run = Half(probe, THREADS)
            self.features: dict[str, list[FloatArray]] = {name: [] for name in (source, *self.targets)}
            self.answers: list[Prediction] = []
            self.outputs: list[FloatArray] = []
            self.geometries = []
            for picture in progress.track(pictures, "features"):
                tensor, at = self.model.prepare(picture.image())
                values = dict(zip(run.output_names, run.run([tensor[None]]), strict=True))
                outputs = [values[output.name] for output in self.network.graph.output]
                self.answers.append(self.model.decode(outputs, 0, at))
                self.outputs.append(outputs[0][0])
                self.geometries.append(at)
                for name, kept in self.features.items():
                    kept.append(values[name][0])

    def _targets(self) -> Iterator[str]:
        """Tensors behind the source that are cuts by themselves, those nearest to it first."""
        graph = activation_graph(self.network)
        number = next(n for n, tensor in enumerate(graph.tensors) if tensor.name == self.source)
        behind = [cut[0] for cut in find_cuts(graph, 1) if graph.ancestors[cut[0]] >> number & 1]
        reachable = [
            graph.tensors[n].name
            for n in behind
            if n != number and _layout(graph.tensors[number].shape, graph.tensors[n].shape) is not None
        ]
        step = max(1, -(-len(reachable) // MAX_TARGETS))
        yield from reachable[::step]

    def try_target(self, name: str, scratch: Path) -> Exit | None:
        """Fit on every other picture, judge on the rest."""
        sources, targets = self.features[self.source], self.features[name]
        layout = _layout(sources[0].shape, targets[0].shape)
        if layout is None:
            return None
        skip = fit_skip(sources[::2], targets[::2], KERNEL, *layout)
        tail_file = scratch / "tail.onnx"
        onnx.save(cut_network(self.network, [name]).tail, tail_file)
        tail = Half(tail_file, THREADS)
        return self._judge(name, skip, lambda features: tail.run([skip.apply(features)[None]]))

    def try_linear(self) -> Exit | None:
        """Fit from the backbone straight to the classes; None for what is no plain classifier."""
        decoder = self.model.manifest.output.decoder
        if decoder not in {"logits", "softmax"} or self.outputs[0].ndim != 1:
            return None
        sources = self.features[self.source]
        taught = self.outputs if decoder == "softmax" else [_probabilities(one) for one in self.outputs]
        layer = fit_linear(sources[::2], taught[::2])

        def answer(features: FloatArray) -> list[FloatArray]:
            logits = layer.apply(features)[None]
            return [_probabilities(logits) if decoder == "softmax" else logits]

        return self._judge(LINEAR, layer, answer)

    def _judge(
        self, target: str, layer: Skip | Linear, answer: Callable[[FloatArray], list[FloatArray]]
    ) -> Exit:
        """On the pictures that were not fitted on."""
        numbers = range(1, len(self.answers), 2)
        features = self.features[self.source]
        found = [self.model.decode(answer(features[i]), 0, self.geometries[i]) for i in numbers]
        whole = [self.answers[i] for i in numbers]
        same = np.array([_same(a, b) for a, b in zip(whole, found, strict=True)])
        sure = [one.top_confidence for one in found if one.boxes is None]
        return Exit(target, layer, fidelity(whole, found), float(same.mean()), _when_sent(same, sure))

    def exit_network(self, candidate: Exit) -> onnx.ModelProto:
        """Backbone, fitted layer and remaining layers as one network; the features are the last output."""
        head = cut_network(self.network, [self.source]).head
        graph = head.graph
        features = list(graph.output)
        if isinstance(candidate.layer, Linear):
            decoder = self.model.manifest.output.decoder
            layer = linear_graph(candidate.layer, self.source, probabilities=decoder == "softmax")
            rest, outputs = onnx.GraphProto(), list(layer.output)
        else:
            tail = compose.add_prefix(cut_network(self.network, [candidate.target]).tail, "exit/")
            layer = skip_graph(candidate.layer, self.source, f"exit/{candidate.target}")
            rest, outputs = tail.graph, list(tail.graph.output)
        graph.node.extend([*layer.node, *rest.node])
        graph.initializer.extend([*layer.initializer, *rest.initializer])
        del graph.output[:]
        graph.output.extend([*outputs, *features])
        onnx.checker.check_model(head)
        return head


def _probabilities(logits: FloatArray) -> FloatArray:
    return softmax(logits.astype(np.float64)).astype(np.float32)


def _when_sent(same: npt.NDArray[np.float64], sure: Sequence[float]) -> dict[float, float]:
    """The share of right answers when so many are sent of those that the exit is least sure of."""
    if len(sure) != len(same):
        return {}
    by_sureness = same[np.argsort(sure)]
    sent = {share: round(share * len(same)) for share in SENT}
    return {share: float((count + by_sureness[count:].sum()) / len(same)) for share, count in sent.items()}


def _same(whole: Prediction, found: Prediction) -> float:
    return float(fidelity([whole], [found]) >= 1)


def _layout(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, tuple[int, int]] | None:
    if len(source) == 3 and len(target) == 1:
        return 1, (0, 0)
    return geometry(source, target, KERNEL)


def _with_outputs(network: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    wider = onnx.ModelProto()
    wider.CopyFrom(network)
    known = {output.name for output in wider.graph.output}
    wider.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    return wider


def _write(source: ModelFolder, network: onnx.ModelProto, cut: Cut, out: Path) -> None:
    manifest = source.manifest
    description = f"early exit of {source.model_id} behind {cut.name}, fitted without labels"
    name = f"{manifest.name}-exit"
    with building(out) as folder:
        onnx.save(network, folder / MODEL_FILE)
        features = tuple(seam.tensor for seam in cut.seams)
        write_exit_info(folder, ExitInfo(head_sha256=cut.head_sha256, features=features))
        renamed = msgspec.structs.replace(manifest, name=name, description=description, labels="")
        finish(folder, renamed, source.labels)
