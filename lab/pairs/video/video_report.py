"""An evaluation on a clip as tables on the terminal and as a plot in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spillover.lab.pairs.video.evaluation import (
    BYTES,
    CLOUD_ONLY,
    EDGE_ONLY,
    FRAMES,
    FULL,
    SMALL,
    VideoEvaluation,
)
from spillover.lab.pairs.video.figures import Part, Run
from spillover.lab.terminal import open_console, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADINGS = ("late", "way", "form", "frames", "bytes", "wire")
_FIGURES = ("F1", "stream F1", "AP50", "delay")
_IDENTITY = ("IDF1", "switches")
_FORMS = {FULL.name: "full size, q85", SMALL.name: "416 px, q40", "": "-"}
_SMALL_SHARE = 0.02
_LINES = {"held": "--", "carried": "-"}


def print_tables(evaluation: VideoEvaluation) -> None:
    """One row a run, by how late answers are; then F1 of either half."""
    numbered = any(run.idf1 is not None for run in evaluation.runs)
    made = table(
        (*_HEADINGS, *_FIGURES, *(_IDENTITY if numbered else ())),
        (_cells(run, numbered=numbered) for run in in_order(evaluation.runs)),
        title=f"{evaluation.edge_model} -> {evaluation.cloud_model} on {evaluation.clip}: "
        f"{evaluation.frames} frames, {evaluation.fps:.4g} a second",
        caption=f"truth: {evaluation.truth}. frames: sent. bytes, wire: of cloud_only's (full size, JPEG "
        "quality 85), payload alone and with headers. F1: what is known of a frame at its own instant. "
        "stream F1, AP50: what is newest at each instant. delay: seconds from an object's entry to its "
        "first detection",
        left=("way", "form"),
    )
    console = open_console()
    console.print(made)


def in_order(runs: Sequence[Run]) -> list[Run]:
    """By lateness, way, form, and bytes; what needs no cloud comes first."""
    ways = {EDGE_ONLY: 0, "held": 1, "carried": 2, CLOUD_ONLY: 3}

    def place(run: Run) -> tuple[bool, float, int, str, float]:
        setup = run.setup
        is_first = setup.method == EDGE_ONLY
        way = ways.get(setup.method, len(ways))
        return not is_first, setup.late_s, way, setup.variant, run.whole.payload_share

    return sorted(runs, key=place)


def _cells(run: Run, *, numbered: bool) -> list[str]:
    setup, whole = run.setup, run.whole
    cells = [
        "-" if setup.method == EDGE_ONLY else f"{setup.late_s:g} s",
        f"{setup.method}, {setup.sender}" if setup.sender not in {"", "bytes"} else setup.method,
        _FORMS.get(setup.variant, setup.variant),
        f"{whole.sent / whole.frames:.1%}",
        _share(whole.payload_share),
        _share(whole.wire_share),
        f"{whole.f1:.3f}",
        f"{whole.streaming_f1:.3f}",
        _number(run.streaming_ap50, ".3f"),
        _number(run.delay_s, ".2f"),
    ]
    return [*cells, _number(run.idf1, ".3f"), _number(run.switches, "d")] if numbered else cells


def _share(value: float) -> str:
    """Video takes hundredths of a percent."""
    return f"{value:.1%}" if value >= _SMALL_SHARE else f"{value:.2%}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def save_plot(evaluation: VideoEvaluation, path: Path) -> None:
    """F1 above and streaming F1 below over the bytes, a column for each lateness."""
    from matplotlib.figure import Figure

    late = sorted({run.setup.late_s for run in evaluation.runs if run.setup.method != EDGE_ONLY})
    figure = Figure(figsize=(3.1 * len(late) + 1.6, 6.2), layout="constrained")
    axes = figure.subplots(2, len(late), sharex=True, sharey=True, squeeze=False)
    for column, late_s in enumerate(late):
        axes[0][column].set_title(f"answers {late_s:g} s late", fontsize=11)
        axes[1][column].set_xlabel("payload bytes, % of cloud_only's")
        for row, name in enumerate(("f1", "streaming_f1")):
            _draw(axes[row][column], evaluation, late_s, name)
    axes[0][0].set_ylabel("F1 at the frame's instant")
    axes[1][0].set_ylabel("streaming F1")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=9)
    figure.suptitle(f"{evaluation.edge_model} → {evaluation.cloud_model} on {evaluation.clip}", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(axes: "Axes", evaluation: VideoEvaluation, late_s: float, name: str) -> None:
    drawn = in_order([run for run in evaluation.runs if run.setup.method in _LINES])
    forms = list(dict.fromkeys(run.setup.variant for run in drawn))
    sender = BYTES if any(run.setup.sender == BYTES for run in drawn) else FRAMES
    for number, variant in enumerate(forms):
        for method, line in _LINES.items():
            points = [
                run.whole
                for run in drawn
                if run.setup.method == method
                and (run.setup.variant, run.setup.late_s, run.setup.sender) == (variant, late_s, sender)
                and run.whole.sent
            ]
            axes.plot(
                [100 * point.payload_share for point in points],
                [_figure(point, name) for point in points],
                f"C{number}{line}",
                marker=".",
                label=f"{method}, {_FORMS.get(variant, variant)}",
            )
    for run in evaluation.runs:
        setup = run.setup
        if setup.method == EDGE_ONLY:
            axes.axhline(_figure(run.whole, name), color="0.5", linewidth=1, label=EDGE_ONLY)
        elif setup.method == CLOUD_ONLY and setup.late_s == late_s:
            mark = "k*" if setup.variant == FULL.name else "k+"
            label = f"{CLOUD_ONLY}, {_FORMS.get(setup.variant, setup.variant)}"
            axes.plot([100 * run.whole.payload_share], [_figure(run.whole, name)], mark, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, alpha=0.3)


def _figure(part: Part, name: str) -> float:
    return part.f1 if name == "f1" else part.streaming_f1
