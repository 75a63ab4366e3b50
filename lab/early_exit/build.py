"""Find the best exit behind a cut, and write it as a model folder whose network also gives the features."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from common.errors import ModelError
from common.model.exit import ExitInfo, write_exit_info
from common.model.manifest import MODEL_FILE, ModelFolder, open_model_folder
from common.model.session import Model
from common.model.session_config import SessionConfig
from common.model.split import Cut, open_split_plan
from common.types import FloatArray, Prediction
from lab.data.pictures import Picture
from lab.early_exit.fit import Skip, fit_skip, geometry
from lab.model_folder import building, finish
from lab.profile.timing import interleaved_medians, network_run
from lab.progress import Progress
from lab.split.cuts import find_cuts
from lab.split.extract import Half, cut_network
from lab.split.fidelity import fidelity
from lab.split.graph import activation_graph, load_network
from lab.split.plan import picture_shape

KERNEL = 3
MAX_TARGETS = 6
THREADS = 1


@dataclass(frozen=True, slots=True)
class Exit:
    """One fitted exit, and what it keeps of the whole network's answers on unseen pictures.

    `agreement` is the share of pictures with the very same answer.
    """

    target: str
    skip: Skip
    fidelity: float
    agreement: float


@dataclass(frozen=True, slots=True)
class ExitReport:
    """The exit that was taken, those that were tried (nearest to the trunk first), seconds of each part."""

    taken: Exit
    tried: tuple[Exit, ...]
    trunk_s: float
    exit_s: float
    whole_s: float


def build_early_exit(
    path: Path, cut: str, out: Path, pictures: Sequence[Picture], keep: float, progress: Progress
) -> ExitReport:
    """Write an exit behind `cut` of the split model at `path` to the model folder `out`.

    Half of the pictures fit, the other half judge. Taken is the exit that skips most layers of those that
    keep at least `keep` of the answers; the best one where none does.

    Raises:
        ModelError: the cut has several tensors, or nothing behind it can be reached by a convolution.
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
    tried = tuple(one for one in found if one is not None)
    if not tried:
        raise ModelError(f"no tensor behind cut {cut} can be reached by one convolution")
    good = [one for one in tried if one.fidelity >= keep]
    taken = good[-1] if good else max(tried, key=lambda one: one.fidelity)
    _write(folder, samples.exit_network(taken), at, out)
    return _report(taken, tried, samples, out)


class _Samples:
    """Features of calibration pictures at the trunk's end and at the tensors behind it."""

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
            self.geometries = []
            for picture in progress.track(pictures, "features"):
                tensor, at = self.model.prepare(picture.image())
                values = dict(zip(run.output_names, run.run([tensor[None]]), strict=True))
                outputs = [values[output.name] for output in self.network.graph.output]
                self.answers.append(self.model.decode(outputs, 0, at))
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
        numbers = range(1, len(sources), 2)
        found = [
            self.model.decode(tail.run([skip.apply(sources[i])[None]]), 0, self.geometries[i])
            for i in numbers
        ]
        whole = [self.answers[i] for i in numbers]
        same = [_same(a, b) for a, b in zip(whole, found, strict=True)]
        return Exit(name, skip, fidelity(whole, found), float(np.mean(same)))

    def exit_network(self, candidate: Exit) -> onnx.ModelProto:
        """Trunk, fitted layer and remaining layers as one network; the trunk's features are output last."""
        head = cut_network(self.network, [self.source]).head
        tail = cut_network(self.network, [candidate.target]).tail
        tail = compose.add_prefix(tail, "exit/")
        layer = _skip_graph(candidate.skip, self.source, f"exit/{candidate.target}")
        graph = head.graph
        graph.node.extend([*layer.node, *tail.graph.node])
        graph.initializer.extend([*layer.initializer, *tail.graph.initializer])
        features = list(graph.output)
        del graph.output[:]
        graph.output.extend([*tail.graph.output, *features])
        onnx.checker.check_model(head)
        return head


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


def _skip_graph(skip: Skip, source: str, target: str) -> onnx.GraphProto:
    """The fitted layer as nodes; pooled: mean over the picture, then 1x1, then no spatial axes."""
    weights = [
        numpy_helper.from_array(skip.weight, "exit/skip/weight"),
        numpy_helper.from_array(skip.bias, "exit/skip/bias"),
    ]
    inputs = ["exit/skip/weight", "exit/skip/bias"]
    before, after = skip.pads
    conv: dict[str, Any] = {
        "kernel_shape": skip.weight.shape[2:],
        "strides": [skip.stride] * 2,
        "pads": [before, before, after, after],
    }
    if not skip.pooled:
        nodes = [helper.make_node("Conv", [source, *inputs], [target], "exit/skip", **conv)]
    else:
        nodes = [
            helper.make_node("GlobalAveragePool", [source], ["exit/skip/mean"], "exit/skip/mean"),
            helper.make_node("Conv", ["exit/skip/mean", *inputs], ["exit/skip/out"], "exit/skip", **conv),
            helper.make_node("Flatten", ["exit/skip/out"], [target], "exit/skip/flat"),
        ]
    return helper.make_graph(nodes, "skip", [], [], weights)


def _write(source: ModelFolder, network: onnx.ModelProto, cut: Cut, out: Path) -> None:
    manifest = source.manifest
    description = f"early exit of {source.model_id} behind {cut.name}, fitted by least squares"
    name = f"{manifest.name}-exit"
    with building(out) as folder:
        onnx.save(network, folder / MODEL_FILE)
        features = tuple(seam.tensor for seam in cut.seams)
        write_exit_info(folder, ExitInfo(head_sha256=cut.head_sha256, features=features))
        renamed = msgspec.structs.replace(manifest, name=name, description=description, labels="")
        finish(folder, renamed, source.labels)


def _report(taken: Exit, tried: tuple[Exit, ...], samples: _Samples, out: Path) -> ExitReport:
    with tempfile.TemporaryDirectory(prefix="spillover-exit-") as scratch:
        trunk = Path(scratch, "trunk.onnx")
        onnx.save(cut_network(samples.network, [samples.source]).head, trunk)
        runs = {
            "trunk": network_run(trunk, THREADS),
            "exit": network_run(out / MODEL_FILE, THREADS),
            "whole": network_run(samples.model.folder.onnx_path, THREADS),
        }
        seconds = interleaved_medians(runs, 15)
    return ExitReport(taken, tried, seconds["trunk"], seconds["exit"], seconds["whole"])
