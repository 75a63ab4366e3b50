"""With tracks between the frames that are sent: F1 and streaming accuracy over the bytes of all frames."""

from dataclasses import dataclass
from pathlib import Path

from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.evaluation import (
    CLOUD_ONLY,
    FRAMES,
    FULL,
    Question,
    VideoEvaluation,
    clock,
    evaluate_video,
)
from spillover.lab.pairs.video.figures import Part, Run, Setup
from spillover.lab.pairs.video.streamed import VideoForm
from spillover.lab.terminal import Progress

CARRIED = "carried"
EVERY = (1, 2, 3, 5, 8, 15, 30)
LATE_S = (0.0, 0.2)
STREAMS = (VideoForm(28), VideoForm(33))
FAIR = VideoForm(33)
"""The stream beside which goals stand: every frame of it is what cloud_only would send if it sent video."""


@dataclass(frozen=True, slots=True)
class TrackRow:
    """Every `every`th frame sent in a form, boxes carried to the others."""

    form: str
    every: int
    late_s: float
    run: Run
    of_jpeg: float
    """Share of cloud_only's bytes as JPEG of quality 85 and full size."""
    of_video: float
    """Share of cloud_only's bytes as video of `FAIR`, every frame."""
    bytes_a_frame: float
    """Of all frames that were captured."""


def evaluate(edge: Path, cloud: Path, clip: Clip, progress: Progress, threads: int) -> VideoEvaluation:
    """Play the clip with every distance, delay and form."""
    question = Question(clock(EVERY, LATE_S), forms=STREAMS, ways=(CARRIED,))
    return evaluate_video(edge, cloud, clip, question, progress, threads=threads)


def track_rows(evaluation: VideoEvaluation) -> list[TrackRow]:
    """The carried runs beside both baselines, and every frame of either stream without tracks."""
    fair = evaluation.run(Setup(CLOUD_ONLY, 0.0, FAIR.name, 1.0)).whole
    rows = []
    for form in STREAMS:
        for late_s in LATE_S:
            for every in EVERY:
                run = evaluation.run(Setup(CARRIED, late_s, form.name, 1 / every, FRAMES))
                rows.append(_row(form.name, every, late_s, run, fair))
    return rows


def baselines(evaluation: VideoEvaluation) -> list[TrackRow]:
    """cloud_only in each form, answers at once: every frame is sent, nothing is carried."""
    fair = evaluation.run(Setup(CLOUD_ONLY, 0.0, FAIR.name, 1.0)).whole
    return [
        _row(form.name, 1, 0.0, evaluation.run(Setup(CLOUD_ONLY, 0.0, form.name, 1.0)), fair)
        for form in (FULL, *STREAMS)
    ]


def _row(form: str, every: int, late_s: float, run: Run, fair: Part) -> TrackRow:
    whole = run.whole
    return TrackRow(
        form,
        every,
        late_s,
        run,
        whole.payload_share,
        whole.payload_bytes / fair.payload_bytes,
        whole.payload_bytes / whole.frames,
    )
