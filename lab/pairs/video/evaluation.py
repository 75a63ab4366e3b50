"""Evaluates a pair on a clip: both models once a frame, then every way to use them, side by side."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spillover.common.model.manifest import ModelFolder, open_model_folder
from spillover.edge.config import PictureVariant
from spillover.edge.tracking.stage import NoCorrection
from spillover.lab.pairs.evaluate.classes import check_detectors
from spillover.lab.pairs.video.answers import Answers, answers_of
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.figures import Judge, Run, Setup
from spillover.lab.pairs.video.labels import read_mot, truth_from
from spillover.lab.pairs.video.objects import objects_of
from spillover.lab.pairs.video.play import Delays, Player, Reporting, Sides, play, play_cloud_only
from spillover.lab.pairs.video.sending import AsSent, ByteClock, FrameClock, NoFrame, PolicyClock, Sender
from spillover.lab.pairs.video.stages import STAGES
from spillover.lab.pairs.video.streamed import Plan, VideoForm, answers_to_video
from spillover.lab.pairs.video.streaming import Precision
from spillover.lab.terminal import Progress

FULL = PictureVariant(85)
"""What `cloud_only` sends: its bytes are 100 %."""
SMALL = PictureVariant(40, 416)
"""As many pixels as small detectors look at."""
VARIANTS = (FULL, SMALL)
Form = PictureVariant | VideoForm
"""In what form frames are sent."""
EDGE_ONLY, CLOUD_ONLY = "edge_only", "cloud_only"
BYTES, FRAMES, POLICY = "bytes", "frames", "policy"
"""Senders: at even distances, as often as a share of cloud_only's bytes pays for, or of the frames; and the
daemon's policy with a budget of that share of the bytes."""


@dataclass(frozen=True, slots=True)
class Point:
    """How much may be sent, of what, and how late answers are."""

    asked: float
    """A share of cloud_only's payload bytes, or of the frames."""
    late_s: float = 0.0
    sender: str = BYTES


def grid(sent: Iterable[float], late_s: Iterable[float]) -> tuple[Point, ...]:
    """Each share of the bytes with each delay."""
    return tuple(Point(share, late) for late in late_s for share in sent)


def clock(every: Iterable[float], late_s: Iterable[float]) -> tuple[Point, ...]:
    """One of so many frames, at even distances, with each delay."""
    return tuple(Point(1 / frames, late, FRAMES) for late in late_s for frames in every)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a pair on a clip: these points, in every form and each way."""

    points: tuple[Point, ...]
    edge_s: float = 0.03
    deadline_s: float = 0.5
    report_threshold: float | None = None
    """As `model.report_threshold` of edge.yaml."""
    forms: tuple[Form, ...] = VARIANTS
    """In which frames are sent; cloud_only's pictures of full size are taken along in any case."""
    ways: tuple[str, ...] = tuple(STAGES)
    """What is done between answers: names of `STAGES`."""

    def delays(self, late_s: float) -> Delays:
        """The clip's delays for answers that are so late."""
        return Delays(late_s, self.edge_s, self.deadline_s)


@dataclass(frozen=True, slots=True)
class VideoEvaluation:
    """The figures of every run over one clip."""

    clip: str
    frames: int
    fps: float
    edge_model: str
    cloud_model: str
    truth: str
    runs: tuple[Run, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def run(self, setup: Setup) -> Run:
        """The run of that setup. Raises KeyError."""
        for run in self.runs:
            if run.setup == setup:
                return run
        raise KeyError(setup)


def evaluate_video(
    edge: Path,
    cloud: Path,
    clip: Clip,
    question: Question,
    progress: Progress,
    *,
    labels: Path | None = None,
    threads: int = 0,
) -> VideoEvaluation:
    """Run both models over the clip and play it in every way that `question` asks for.

    The truth are `labels` (MOTChallenge's gt.txt), or the cloud model's answers to the uncompressed frames.

    Raises:
        ModelError: a model does not load, is no detector, or the two number classes differently.
        SourceError: the clip or the labels cannot be read.
    """
    edge_folder, cloud_folder = open_model_folder(edge), open_model_folder(cloud)
    check_detectors(edge_folder, cloud_folder)
    truth = read_mot(labels, len(clip), cloud_folder) if labels is not None else None
    from_edge = answers_of(edge, clip, None, progress, threads)
    if truth is None:
        truth = truth_from(answers_of(cloud, clip, None, progress, threads).boxes)
    full = answers_of(cloud, clip, FULL, progress, threads)
    sent = _Sent(cloud, clip, question, full, progress, threads)
    judge = Judge(clip, truth, objects_of(truth, clip.times_s), Precision(truth), full.payload_bytes)
    reporting = _reporting(edge_folder, question.report_threshold)
    players = {
        setup: Player(
            Sides(from_edge, sent.answers(setup), cloud_folder.model_id),
            STAGES[setup.method](reporting.edge_from) if setup.method in STAGES else NoCorrection(),
            sent.sender(setup),
            question.delays(setup.late_s),
            reporting,
        )
        for setup in _setups(question)
    }
    play(clip, list(players.values()), progress)
    runs = [
        judge.figures(setup, player.played, sent.answers(setup).payload_bytes)
        for setup, player in players.items()
    ]
    for setup in _cloud_only(question):
        answers = sent.answers(setup)
        played = play_cloud_only(clip, answers, question.delays(setup.late_s), reporting)
        runs.append(judge.figures(setup, played, answers.payload_bytes))
    return VideoEvaluation(
        clip=clip.name,
        frames=len(clip),
        fps=clip.fps,
        edge_model=str(edge_folder.model_id),
        cloud_model=str(cloud_folder.model_id),
        truth=labels.name if labels is not None else f"{cloud_folder.model_id} on every uncompressed frame",
        runs=tuple(runs),
    )


def _setups(question: Question) -> Iterator[Setup]:
    yield Setup(EDGE_ONLY)
    for method in question.ways:
        for form in question.forms:
            for point in question.points:
                yield Setup(method, point.late_s, form.name, point.asked, point.sender)


def _cloud_only(question: Question) -> Iterator[Setup]:
    for late_s in dict.fromkeys(point.late_s for point in question.points):
        for name in dict.fromkeys(form.name for form in (FULL, *question.forms)):
            yield Setup(CLOUD_ONLY, late_s, name, 1.0)


class _Sent:
    """The cloud's answers to what each setup sends, and who picks the frames.

    A picture's answer is its own. That to a frame of a video depends on the frames that were sent before, so
    each setup has answers of its own.
    """

    def __init__(
        self, cloud: Path, clip: Clip, question: Question, full: Answers, progress: Progress, threads: int
    ) -> None:
        pictures = {form.name: form for form in question.forms if isinstance(form, PictureVariant)}
        self._pictures = {"": full, FULL.name: full} | {
            name: answers_of(cloud, clip, form, progress, threads) for name, form in pictures.items()
        }
        self._full_bytes = full.payload_bytes
        self._seconds = len(clip) / clip.fps
        self._videos = {form.name: form for form in question.forms if isinstance(form, VideoForm)}
        setups = [*_setups(question), *_cloud_only(question)]
        plans = [self._plan(setup) for setup in setups if setup.variant in self._videos]
        self._streamed: Mapping[Plan, Answers] = {}
        if plans:
            self._streamed = answers_to_video(cloud, clip, plans, self._full_bytes, progress, threads)

    def answers(self, setup: Setup) -> Answers:
        """Those to the frames that it sends."""
        if setup.variant in self._videos:
            return self._streamed[self._plan(setup)]
        return self._pictures[setup.variant]

    def sender(self, setup: Setup) -> Sender:
        """Who picks its frames."""
        if setup.variant in self._videos:
            return AsSent(self.answers(setup).payload_bytes)
        if setup.sender == BYTES:
            return ByteClock(setup.asked, self.answers(setup).payload_bytes, self._full_bytes)
        if setup.sender == POLICY:
            payload = self.answers(setup).payload_bytes
            return PolicyClock(setup.asked, payload, self._full_bytes, self._seconds, setup.late_s)
        return FrameClock(setup.asked) if setup.sender == FRAMES else NoFrame()

    def _plan(self, setup: Setup) -> Plan:
        form, of_bytes = self._videos[setup.variant], setup.sender == BYTES
        return Plan(form, setup.asked, setup.late_s, of_bytes)


def _reporting(edge: ModelFolder, report_threshold: float | None) -> Reporting:
    """Which boxes the daemon would show; its threshold holds for both sides where they are on one scale."""
    output = edge.manifest.output
    if report_threshold is None:
        return Reporting(output.reported_from)
    return Reporting(report_threshold, report_threshold if output.calibration is not None else 0.0)
