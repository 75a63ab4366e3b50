"""Playing a clip: what is sent, when answers take effect, and what stands in the meantime."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from spillover.common.errors import ModelError, SourceError
from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.common.types import Detections, ModelId
from spillover.edge.tracking.stage import NoCorrection
from spillover.lab.pairs.evaluate.cli import evaluate
from spillover.lab.pairs.video.answers import Answers
from spillover.lab.pairs.video.clip import open_clip
from spillover.lab.pairs.video.evaluation import Question, VideoEvaluation, clock, evaluate_video, grid
from spillover.lab.pairs.video.figures import Run, Setup
from spillover.lab.pairs.video.play import Delays, Played, Player, Reporting, Sides
from spillover.lab.pairs.video.sending import FrameClock, NoFrame
from spillover.lab.pairs.video.stages import Held
from spillover.lab.pairs.video.streamed import VideoForm
from spillover.lab.terminal import Silent
from tests.support.clips import picture, write_avi
from tests.support.models import centre_detector, colour_classifier

FRAMES = 24
MOT = "{frame},1,32,24,12.8,9.6,1,1,1\n"
"""The box that the tiny cloud always sees, in pixels of the clip."""


def box(left: float) -> Detections:
    """One box of 10 x 10 pixels."""
    xyxy = np.array([[left, 0, left + 10, 10]], np.float32)
    return Detections(xyxy, np.array([0.9], np.float32), np.zeros(1, np.int32))


def played(late_s: float, share: float = 0.25, deadline_s: float = 0.5) -> Played:
    """Twelve frames at 10 a second: the edge sees boxes at 0, 1, 2 ..., the cloud at 100, 101, ..."""
    edge = Answers(tuple(box(n) for n in range(12)), np.zeros(12, np.int64))
    cloud = Answers(tuple(box(100 + n) for n in range(12)), np.ones(12, np.int64))
    player = Player(
        Sides(edge, cloud, ModelId("c", "1")),
        Held(),
        FrameClock(share),
        Delays(late_s, 0.03, deadline_s),
        Reporting(0.3),
    )
    for number in range(12):
        player.see(number, number / 10, picture(number))
    return player.played


def lefts(boxes: list[Detections]) -> list[float]:
    """Where the one box of each lies."""
    return [float(one.xyxy[0, 0]) for one in boxes]


def results_of(number: int, run: Played) -> list[tuple[float, float]]:
    """When something was said of a frame, and where its box lay."""
    return [(one.given_s, float(one.boxes.xyxy[0, 0])) for one in run.outputs if one.number == number]


def test_an_answer_that_takes_no_time_is_that_of_its_own_frame() -> None:
    """Every fourth frame is the cloud's, and held until the next."""
    run = played(late_s=0.0)
    assert run.sent == [0, 4, 8]
    assert lefts([one.boxes for one in run.shown]) == [100] * 4 + [104] * 4 + [108] * 4


def test_a_late_answer_takes_effect_at_the_frame_by_which_it_has_come() -> None:
    """A quarter of a second late: from the third frame after its own on; the edge's until then."""
    run = played(late_s=0.25)
    assert lefts([one.boxes for one in run.shown]) == [0, 1, 2] + [100] * 4 + [104] * 4 + [108]


def test_a_frame_that_was_sent_is_answered_once_in_time_and_revised_after_its_deadline() -> None:
    """In time the cloud's answer comes first; else the local one at the deadline, and then a revision."""
    in_time = results_of(4, played(0.25))
    assert in_time == [(pytest.approx(0.65), 104)]
    late = results_of(4, played(0.35, deadline_s=0.2))
    assert late == [(pytest.approx(0.6), 100), (pytest.approx(0.75), 104)]


@pytest.mark.parametrize(("edge_from", "shown"), [(0.1, 1), (0.3, 0)])
def test_boxes_that_the_daemon_would_not_report_are_not_shown(edge_from: float, shown: int) -> None:
    """Plain boxes of the edge are cut off at its threshold."""
    faint = Detections(box(0).xyxy, np.array([0.2], np.float32), np.zeros(1, np.int32))
    answers = Answers((faint,), np.zeros(1, np.int64))
    sides = Sides(answers, answers, ModelId("c", "1"))
    player = Player(sides, NoCorrection(), NoFrame(), Delays(0.0), Reporting(edge_from))
    player.see(0, 0.0, picture(0))
    assert len(player.played.shown[0].boxes) == shown


def name_classes(folder: Path, *names: str) -> None:
    """Give a model's classes names."""
    (folder / "labels.txt").write_text("\n".join(names))
    manifest = open_model_folder(folder).manifest
    write_manifest(folder, msgspec.structs.replace(manifest, labels="labels.txt"))


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """An edge that sees a box too much beside the cloud's, and a clip; a cache folder of their own."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    edge = centre_detector(tmp_path / "models", "edge", beside=(0.1, 0.1, 0.1, 0.1, 0.9))
    cloud = centre_detector(tmp_path / "models", "cloud", beside=(0.6, 0.6, 0.2, 0.2, 0.9))
    for folder in (edge, cloud):
        name_classes(folder, "person")
    return edge, cloud, write_avi(tmp_path / "clip.avi", FRAMES, fps=10)


def judged(pair: tuple[Path, Path, Path], labels: Path | None = None) -> VideoEvaluation:
    """A small evaluation."""
    edge, cloud, clip = pair
    question = Question(grid((0.5,), (0.0, 0.2)))
    return evaluate_video(edge, cloud, open_clip(clip), question, Silent(), labels=labels, threads=1)


def run_of(evaluation: VideoEvaluation, method: str, late_s: float = 0.0) -> Run:
    """The run of a way in pictures of full size."""
    share, sender = (1.0, "") if method == "cloud_only" else (0.5, "bytes")
    return evaluation.run(Setup(method, late_s, "picture-q85", share, sender))


def test_carried_boxes_lie_between_the_edge_and_the_cloud(pair: tuple[Path, Path, Path]) -> None:
    """The cloud at no delay is its own truth; half of the frames sent and carried is better than the edge."""
    evaluation = judged(pair)
    edge = evaluation.run(Setup("edge_only")).whole
    assert (edge.sent, edge.payload_bytes) == (0, 0)
    cloud = run_of(evaluation, "cloud_only").whole
    assert (cloud.payload_share, cloud.wire_share) == (1.0, 1.0)
    carried = run_of(evaluation, "carried").whole
    assert carried.payload_share == pytest.approx(0.5, abs=0.05)
    assert edge.f1 < carried.f1 <= cloud.f1 == pytest.approx(1.0, abs=0.02)
    assert carried.wire_bytes > carried.payload_bytes + 500 * carried.sent


def test_halves_add_up(pair: tuple[Path, Path, Path]) -> None:
    """Frames, bytes and F1 of both halves are those of the whole."""
    run = run_of(judged(pair), "carried", 0.2)
    halves = run.first_half, run.second_half
    assert sum(half.frames for half in halves) == run.whole.frames == FRAMES
    assert sum(half.payload_bytes for half in halves) == run.whole.payload_bytes
    assert np.mean([half.f1 for half in halves]) == pytest.approx(run.whole.f1)


def test_the_same_run_gives_the_same_numbers(pair: tuple[Path, Path, Path]) -> None:
    """Computed anew and from the cache."""
    first = judged(pair)
    assert judged(pair) == first


def test_a_damaged_cache_is_mended(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Boxes without their bytes, or half a file, are computed anew."""
    first = judged(pair)
    kept = sorted((tmp_path / "home" / "predictions").iterdir())
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert judged(pair) == first


def streamed(pair: tuple[Path, Path, Path], every: int, late_s: float) -> Run:
    """What carried boxes make of a clip of which every so many frames one is sent as video."""
    edge, cloud, clip = pair
    form = VideoForm(28, 64)
    question = Question(clock([every], [late_s]), forms=(form,))
    evaluation = evaluate_video(edge, cloud, open_clip(clip), question, Silent(), threads=1)
    return evaluation.run(Setup("carried", late_s, form.name, 1 / every, "frames"))


def test_video_is_coded_against_what_was_sent_before(pair: tuple[Path, Path, Path]) -> None:
    """A key and small changes: a fraction of the JPEGs' bytes, and answers that are as good."""
    run = streamed(pair, 2, 0.0)
    assert run.whole.sent == FRAMES / 2
    pictures = run_of(judged(pair), "carried").whole
    assert run.whole.payload_bytes < pictures.payload_bytes / 4
    assert run.whole.f1 == pytest.approx(pictures.f1, abs=0.05)


def test_answers_that_are_late_cost_bytes_of_video(pair: tuple[Path, Path, Path]) -> None:
    """Ten frames a second, answers .25 s late: each payload has the packets of two frames more."""
    at_once, late = (streamed(pair, 1, late_s).whole for late_s in (0.0, 0.25))
    assert late.sent == at_once.sent == FRAMES
    assert late.payload_bytes > 2 * at_once.payload_bytes


def test_video_sent_by_bytes_stays_within_them(pair: tuple[Path, Path, Path]) -> None:
    """What each payload really takes is spent, the key included, and nothing is sent in vain."""
    edge, cloud, clip = pair
    form = VideoForm(28, 64)
    question = Question(grid((0.2,), (0.0,)), forms=(form,))
    evaluation = evaluate_video(edge, cloud, open_clip(clip), question, Silent(), threads=1)
    run = evaluation.run(Setup("carried", 0.0, form.name, 0.2, "bytes")).whole
    assert run.sent > 1
    assert run.payload_share <= 0.2


def test_labels_give_identity(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """One labelled person in every frame, followed by tracks; boxes that are only held have no numbers."""
    labels = tmp_path / "gt.txt"
    labels.write_text("".join(MOT.format(frame=frame) for frame in range(1, FRAMES + 1)))
    evaluation = judged(pair, labels)
    assert evaluation.truth == "gt.txt"
    carried = run_of(evaluation, "carried")
    assert carried.idf1 is not None
    assert 0.5 < carried.idf1 <= 1.0
    assert carried.switches is not None
    assert run_of(evaluation, "held").idf1 is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,1,16,12\n", "line 1: needs frame"),
        ("\n1,1,16,12,x,24\n", "line 2: could not convert"),
        ("99,1,16,12,32,24\n", r"frame 99, and the clip has 1 to 24"),
        ("1,1,16,12,32,24,1,7\n", "no row is of a class"),
        ("", "no row is of a class"),
    ],
)
def test_labels_that_do_not_fit_are_named(
    pair: tuple[Path, Path, Path], tmp_path: Path, content: str, words: str
) -> None:
    """File and line."""
    labels = tmp_path / "gt.txt"
    labels.write_text(content)
    with pytest.raises(SourceError, match=words):
        judged(pair, labels)


def test_models_that_cannot_answer_for_one_another_are_refused(
    pair: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Other classes, or no boxes at all."""
    edge, _, clip = pair
    other = centre_detector(tmp_path / "models", "other")
    name_classes(other, "teapot")
    with pytest.raises(ModelError, match="class 0 is 'person' of edge@1 and 'teapot' of other@1"):
        judged((edge, other, clip))
    with pytest.raises(ModelError, match="only boxes can be followed"):
        judged((colour_classifier(tmp_path / "models"), edge, clip))


def test_the_command_writes_figures_and_plot(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A table on the terminal, every run in the JSON, a picture of the curves."""
    edge, cloud, clip = pair
    out, plot = tmp_path / "o" / "v.json", tmp_path / "o" / "v.png"
    words = ["--edge", edge, "--cloud", cloud, "--video", clip, "--json", out, "--plot", plot]
    words += ["--sent", "0.2,0.5", "--late-s", "0", "--threads", "1"]
    done = CliRunner().invoke(evaluate, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "carried" in done.output
    runs = json.loads(out.read_text())["runs"]
    assert {run["setup"]["method"] for run in runs} == {"edge_only", "held", "carried", "cloud_only"}
    assert len(runs) == 1 + 2 * 2 * 2 + 2
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--data or --video"),
        (["--video", "{clip}", "--data", "{clip}"], "--data or --video"),
        (["--video", "{clip}", "--sent", "0.1,x"], "numbers with commas"),
        (["--video", "{clip}", "--late-s", "-1"], "from 0 to 60"),
        (["--video", "{clip}", "--gain", "{clip}"], "--gain ranks pictures"),
        (["--video", "{clip}", "--crf", "28"], "--crf is for --payload video"),
        (["--video", "{clip}", "--payload", "video", "--crf", "60"], "from 0 to 51"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    pair: tuple[Path, Path, Path], tmp_path: Path, words: list[str], said: str
) -> None:
    """Before a model is run."""
    edge, cloud, clip = pair
    whole = ["--edge", str(edge), "--cloud", str(cloud), "--json", str(tmp_path / "o.json")]
    done = CliRunner().invoke(evaluate, [*whole, *(word.format(clip=clip) for word in words)])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
