"""F1 over bytes, of what is sent and of all frames with tracks between."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.inter.payloads import EVERY, Row
from benchmarks.inter.tracks import LATE_S, TrackRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {"picture": ("JPEG", "C3"), "video": ("video", "C0"), "features": ("features", "C2")}


def save_payloads(rows: Sequence[Row], clip: str, path: Path) -> None:
    """A panel for each distance between two sends; a line of each kind from coarse to fine."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(EVERY), 3.4), layout="constrained")
    axes = figure.subplots(1, len(EVERY), sharex=True, sharey=True)
    for axis, every in zip(axes, EVERY, strict=True):
        for kind, (label, colour) in _KINDS.items():
            found = [row for row in rows if row.every == every and row.form.startswith(kind)]
            found.sort(key=lambda row: row.whole.mean_bytes)
            if found:
                x, y = [row.whole.mean_bytes for row in found], [row.whole.f1 for row in found]
                axis.plot(x, y, f"{colour}.-", label=label)
        axis.set_title("every frame sent" if every == 1 else f"one of {every} sent", fontsize=10)
        _dress(axis, "bytes of a sent frame")
    axes[0].set_ylabel("F1")
    axes[0].legend(fontsize=9)
    figure.suptitle(clip, fontsize=11)
    figure.savefig(path, dpi=110)


def save_tracks(rows: Sequence[TrackRow], alone: Sequence[TrackRow], clip: str, path: Path) -> None:
    """A panel for each delay: F1 over bytes a captured frame; stars are cloud_only without tracks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(LATE_S), 3.6), layout="constrained")
    axes = figure.subplots(1, len(LATE_S), sharex=True, sharey=True)
    forms = list(dict.fromkeys(row.form for row in rows))
    for axis, late_s in zip(axes, LATE_S, strict=True):
        for number, form in enumerate(forms):
            found = [row for row in rows if row.form == form and row.late_s == late_s]
            x, y = [row.bytes_a_frame for row in found], [row.run.whole.f1 for row in found]
            axis.plot(x, y, f"C{number}.-", label=f"{form}, tracks")
        if not late_s:
            for row in alone:
                colour = f"C{forms.index(row.form)}" if row.form in forms else "k"
                axis.plot([row.bytes_a_frame], [row.run.whole.f1], "*", color=colour, markersize=9)
                place = row.bytes_a_frame, row.run.whole.f1
                axis.annotate(
                    f"every {row.form}", place, (-7, 3), textcoords="offset points", ha="right", fontsize=7
                )
        axis.set_title(f"answers {late_s:g} s late", fontsize=10)
        _dress(axis, "bytes a captured frame")
    axes[0].set_ylabel("F1 at the frame's instant")
    axes[-1].legend(fontsize=8)
    figure.suptitle(clip, fontsize=11)
    figure.savefig(path, dpi=110, metadata={"Date": None})


def _dress(axis: "Axes", label: str) -> None:
    axis.set_xscale("log")
    axis.set_xlabel(label)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(visible=True, alpha=0.3)
