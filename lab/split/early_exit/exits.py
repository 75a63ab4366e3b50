"""Finds the best exit behind a cut, and writes it as a model folder whose network also gives the features."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from spillover.lab.split.cuts import find_cuts
from spillover.lab.split.early_exit.skip import Skip, fit_skip, geometry, skip_graph
from spillover.lab.split.extract import Half, cut_network
from spillover.lab.split.fidelity import fidelity
from spillover.lab.split.graph import activation_graph, load_network
from spillover.lab.split.plan import picture_shape
from spillover.lab.terminal import Progress, open_console, table

KERNEL = 3
MAX_TARGETS = 6
THREADS = 1
ROUNDS = 15
SENT = (0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Exit:
    """One fitted exit, and its answers beside the whole network's on pictures that it was not fitted on.

    `agreement` is the share of pictures with the very same answer. `when_sent` is that share once the frames
    are sent of which the exit is least sure, by the share sent; empty for detectors. `seconds` is a whole
    run, the backbone included.
    """

    target: str
    layer: Skip
    fidelity: float
    agreement: float
    when_sent: Mapping[float, float]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ExitReport:
    """The exit that was written, all that were tried (nearest to the backbone first), and seconds a run."""

    taken: Exit
    tried: tuple[Exit, ...]
    backbone_s: float
    whole_s: float


def build_early_exit(
    path: Path, cut: str, out: Path, pictures: Sequence[Picture], keep: float, progress: Progress
) -> ExitReport:
    """Write an exit behind `cut` of the split model at `path` to the model folder `out`.

    Exits are fitted on half of the pictures and judged on the other half. The quickest exit with a fidelity
    of at least `keep` is written; the one of highest fidelity where none reaches it.

    Raises:
        ModelError: the cut has several tensors, or no tensor behind it can be reached by a fitted layer.
        SourceError: a picture cannot be read.
    """
    folder = open_model_folder(path)
    at = open_split_plan(folder).cut(cut)
    if len(at.seams) != 1 or at.head_int8:
        raise ModelError(f"an exit needs a cut of one tensor with a float head, which {cut} is not")
    source = at.seams[0].tensor
    samples = _Samples(folder, source, pictures, progress)
    with tempfile.TemporaryDirectory(prefix="spillover-exit-") as scratch:
        tried = [samples.try_target(name, Path(scratch)) for name in progress.track(samples.targets, "exits")]
        if not tried:
            raise ModelError(f"no tensor behind cut {cut} can be reached by one fitted layer")
        report = _timed(tried, samples, keep, Path(scratch))
    _write(folder, samples.exit_network(report.taken), at, out)
    return report


def print_report(report: ExitReport) -> None:
    """The exits on standard output, one a row; an arrow marks the one that was written."""
    sent = (f"... with {share:.0%} sent\n(gap closed)" for share in SENT)
    made = table(
        ("", "leads to", "ms behind the backbone", "keeps", "same answer", *sent),
        (_row(candidate, report) for candidate in report.tried),
        title=f"Exits behind a backbone of {report.backbone_s * 1e3:.1f} ms",
        left=("leads to",),
    )
    console = open_console()
    console.print(made)
    console.print(
        f"The whole network takes {report.whole_s * 1e3:.1f} ms. Sent are the frames of which the exit is "
        "least sure; their features are computed already."
    )


def _row(candidate: Exit, report: ExitReport) -> list[str]:
    gap = 1 - candidate.agreement
    return [
        "->" if candidate is report.taken else "",
        candidate.target,
        f"{(candidate.seconds - report.backbone_s) * 1e3:.1f}",
        f"{candidate.fidelity:.3f}",
        f"{candidate.agreement:.3f}",
        *(
            f"{right:.3f} ({(right - candidate.agreement) / gap if gap else 1:.0%})"
            for right in candidate.when_sent.values()
        ),
    ]


def _timed(tried: Sequence[Exit], samples: "_Samples", keep: float, scratch: Path) -> ExitReport:
    backbone = scratch / "backbone.onnx"
    onnx.save(cut_network(samples.network, [samples.source]).head, backbone)
    runs = {"backbone": network_run(backbone, THREADS)}
    runs["whole"] = network_run(samples.model.folder.onnx_path, THREADS)
    for number, candidate in enumerate(tried):
        file = scratch / f"exit-{number}.onnx"
        onnx.save(samples.exit_network(candidate), file)
        runs[candidate.target] = network_run(file, THREADS)
    seconds = interleaved_medians(runs, ROUNDS)
    timed = tuple(replace(candidate, seconds=seconds[candidate.target]) for candidate in tried)
    good = [candidate for candidate in timed if candidate.fidelity >= keep]
    taken = (
        min(good, key=lambda exit_: exit_.seconds) if good else max(timed, key=lambda exit_: exit_.fidelity)
    )
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
            self.geometries = []
            for picture in progress.track(pictures, "features"):
                tensor, at = self.model.prepare(picture.image())
                values = dict(zip(run.output_names, run.run([tensor[None]]), strict=True))
                outputs = [values[output.name] for output in self.network.graph.output]
                self.answers.append(self.model.decode(outputs, 0, at))
                self.geometries.append(at)
                for name, features in self.features.items():
                    features.append(values[name][0])

    def _targets(self) -> Iterator[str]:
        """Tensors behind the source that are cuts by themselves, those nearest to it first."""
        graph = activation_graph(self.network)
        number = next(n for n, tensor in enumerate(graph.tensors) if tensor.name == self.source)
        behind = [cut[0] for cut in find_cuts(graph, 1) if graph.ancestors[cut[0]] >> number & 1]
        shape = graph.tensors[number].shape
        reachable = [
            graph.tensors[n].name
            for n in behind
            if n != number and geometry(shape, graph.tensors[n].shape, KERNEL) is not None
        ]
        step = max(1, -(-len(reachable) // MAX_TARGETS))
        yield from reachable[::step]

    def try_target(self, name: str, scratch: Path) -> Exit:
        """Fit on every other picture, judge on the rest."""
        sources, targets = self.features[self.source], self.features[name]
        layout = geometry(sources[0].shape, targets[0].shape, KERNEL)
        assert layout is not None  # noqa: S101 - a target was chosen by its layout
        skip = fit_skip(sources[::2], targets[::2], KERNEL, *layout)
        tail_file = scratch / "tail.onnx"
        onnx.save(cut_network(self.network, [name]).tail, tail_file)
        tail = Half(tail_file, THREADS)
        numbers = range(1, len(self.answers), 2)
        answers = [
            self.model.decode(tail.run([skip.apply(sources[i])[None]]), 0, self.geometries[i])
            for i in numbers
        ]
        whole = [self.answers[i] for i in numbers]
        same = np.array([_same(a, b) for a, b in zip(whole, answers, strict=True)])
        sure = [answer.top_confidence for answer in answers if answer.boxes is None]
        return Exit(name, skip, fidelity(whole, answers), float(same.mean()), _when_sent(same, sure))

    def exit_network(self, candidate: Exit) -> onnx.ModelProto:
        """Backbone, fitted layer and remaining layers as one network; the features are the last output."""
        head = cut_network(self.network, [self.source]).head
        graph = head.graph
        features = list(graph.output)
        tail = compose.add_prefix(cut_network(self.network, [candidate.target]).tail, "exit/").graph
        layer = skip_graph(candidate.layer, self.source, f"exit/{candidate.target}")
        graph.node.extend([*layer.node, *tail.node])
        graph.initializer.extend([*layer.initializer, *tail.initializer])
        del graph.output[:]
        graph.output.extend([*tail.output, *features])
        onnx.checker.check_model(head)
        return head


def _when_sent(same: npt.NDArray[np.float64], sure: Sequence[float]) -> dict[float, float]:
    """The share of right answers by the share sent, where the exit is least sure."""
    if len(sure) != len(same):
        return {}
    by_sureness = same[np.argsort(sure)]
    sent = {share: round(share * len(same)) for share in SENT}
    return {share: float((count + by_sureness[count:].sum()) / len(same)) for share, count in sent.items()}


def _same(whole: Prediction, answer: Prediction) -> float:
    return float(fidelity([whole], [answer]) >= 1)


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
