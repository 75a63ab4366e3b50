"""Compares a float model with its INT8 form on this device, and recommends the one to run."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from rich.console import Console

from spillover.common.model.manifest import ModelFolder
from spillover.common.model.session import Model
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.data.pictures import Picture
from spillover.lab.models.profile.timing import interleaved_seconds
from spillover.lab.models.quantize.cost import ONE_THREAD, peak_memory_mb
from spillover.lab.models.quantize.outputs import EXACT_PICTURES, Answers, compare_answers
from spillover.lab.pairs.evaluate.mixture import mixture_of
from spillover.lab.terminal import Progress, table

WORTHWHILE_SPEEDUP = 1.05
"""Less is within the noise of a quiet machine."""
MAX_ACCURACY_LOSS = 0.05
"""The most that INT8 may lose where there are labels, as a share of the float model's accuracy."""
MIN_AGREEMENT = 0.8
"""The least agreement with the float model's answers where there are no labels."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One model on this device; `accuracy` is None without labels."""

    model: str
    size_mb: float
    median_ms: float
    peak_memory_mb: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models' figures, and how far their answers are apart."""

    float_model: Figures
    int8_model: Figures
    pictures: int
    metric: str | None
    """`top1` or `map`; None without labels."""
    speedup: float
    agreement: float
    output_error: float
    exact_output_error: float
    saturates: bool
    recommendation: str
    reason: str


def compare(
    float_folder: ModelFolder,
    int8_folder: ModelFolder,
    pictures: Sequence[Picture],
    labelled: LabelledSet | None,
    progress: Progress,
    rounds: int = 60,
) -> Comparison:
    """Measure both models over the labelled set, or over `pictures` where there is none.

    Raises:
        ModelError: a model cannot be run.
        SourceError: a picture cannot be read.
    """
    shown = labelled.pictures if labelled else pictures
    answers = compare_answers(float_folder, int8_folder, shown, progress)
    float_model, int8_model = Model(float_folder, ONE_THREAD), Model(int8_folder, ONE_THREAD)
    tensor, _ = float_model.prepare(shown[0].image())
    runs = {"float": lambda: float_model.run(tensor[None]), "int8": lambda: int8_model.run(tensor[None])}
    float_s, int8_s = interleaved_seconds(runs, rounds).values()
    # The median of the rounds' ratios: a disturbance of the machine affects both models of a round alike.
    speedup = median(a / b for a, b in zip(float_s, int8_s, strict=True))
    metric, before, after = _accuracy(labelled, answers)
    recommendation, reason = recommend(speedup, answers.agreement, before, after)
    return Comparison(
        float_model=_figures(float_folder, 1e3 * median(float_s), before),
        int8_model=_figures(int8_folder, 1e3 * median(int8_s), after),
        pictures=len(shown),
        metric=metric,
        speedup=speedup,
        agreement=answers.agreement,
        output_error=answers.output_error,
        exact_output_error=answers.exact_error,
        saturates=answers.saturates,
        recommendation=recommendation,
        reason=reason,
    )


def recommend(
    speedup: float, agreement: float, before: float | None = None, after: float | None = None
) -> tuple[str, str]:
    """`int8` or `fp32`, and why: INT8 must be faster, and its answers still good.

    With labels that is accuracy `before` and `after`, without them `agreement` with the float model.
    """
    if speedup < WORTHWHILE_SPEEDUP:
        return "fp32", f"INT8 is not faster on this device ({speedup:.2f} times as fast): run the FP32 model"
    fast = f"INT8 is {speedup:.2f} times as fast on this device"
    if before is not None and after is not None:
        if after < before * (1 - MAX_ACCURACY_LOSS):
            loses = (
                f"its accuracy falls from {before:.3f} to {after:.3f}, by more than {MAX_ACCURACY_LOSS:.0%}"
            )
            return "fp32", f"{fast}, but {loses}: run the FP32 model"
    elif agreement < MIN_AGREEMENT:
        agrees = f"its answers agree with FP32 on {agreement:.3f}, less than {MIN_AGREEMENT}"
        return "fp32", f"{fast}, but {agrees}: run the FP32 model, or quantise otherwise"
    return "int8", fast


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print both models' figures and the recommendation."""
    before, after = comparison.float_model, comparison.int8_model
    rows = [
        ("file, MB", f"{before.size_mb:.1f}", f"{after.size_mb:.1f}"),
        ("median, ms", f"{before.median_ms:.2f}", f"{after.median_ms:.2f}"),
        ("peak memory of a process, MB", f"{before.peak_memory_mb:.0f}", f"{after.peak_memory_mb:.0f}"),
    ]
    if before.accuracy is not None and after.accuracy is not None:
        rows.append((f"accuracy ({comparison.metric})", f"{before.accuracy:.3f}", f"{after.accuracy:.3f}"))
    rows += [
        ("agreement with FP32", "", f"{comparison.agreement:.3f}"),
        ("output error over spread", "", f"{comparison.output_error:.3f}"),
        (f"  in exact arithmetic (first {EXACT_PICTURES})", "", f"{comparison.exact_output_error:.3f}"),
    ]
    kind = "labelled" if comparison.metric else "calibration"
    title = f"FP32 and INT8 over {comparison.pictures} {kind} pictures, one thread, interleaved"
    console.print(table(("", before.model, after.model), rows, title=title))
    if comparison.saturates:
        console.print(
            "8-bit products overflow on this processor (x86 without VNNI): use --seven-bit dense or all."
        )
    console.print(f"Recommended here: {comparison.recommendation.upper()}. {comparison.reason}.")


def _figures(folder: ModelFolder, median_ms: float, accuracy: float | None) -> Figures:
    size_mb = folder.onnx_path.stat().st_size / 1e6
    return Figures(str(folder.model_id), size_mb, median_ms, peak_memory_mb(folder), accuracy)


def _accuracy(
    labelled: LabelledSet | None, answers: Answers
) -> tuple[str | None, float | None, float | None]:
    if labelled is None:
        return None, None, None
    both = mixture_of(labelled.truth, answers.float_predictions, answers.int8_predictions)
    nothing = np.zeros(len(both), np.bool_)
    return both.metric, both.accuracy(nothing), both.accuracy(~nothing)
