"""The plots of the report, each as an SVG image."""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.results import Capacity, Cell, Moment, by_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers too. A mode has the same colour everywhere.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "os^DvPX*<>"
_INCHES = (8.4, 4.0)
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "spillover",  # the same figures give the same file
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


class Palette:
    """Colours of modes, in the order of their first use."""

    def __init__(self) -> None:
        self._modes: list[str] = []

    def of(self, mode: str) -> str:
        """The colour of a mode."""
        if mode not in self._modes:
            self._modes.append(mode)
        return _COLOURS[self._modes.index(mode) % len(_COLOURS)]


def latency_distribution(cells: Sequence[Cell], deadline_s: float, palette: Palette) -> bytes:
    """Share of the answers over the time they took; first answers solid, final ones dashed."""

    def draw(axes: "Axes") -> None:
        for cell in cells:
            for quantiles, style in ((cell.first_quantiles_ms, "-"), (cell.final_quantiles_ms, "--")):
                if not quantiles or (style == "--" and quantiles == cell.first_quantiles_ms):
                    continue
                name = cell.mode if style == "-" else f"{cell.mode}, final answer"
                shares = np.linspace(0, 100, len(quantiles))
                axes.plot(quantiles, shares, style, color=palette.of(cell.mode), label=name)
        axes.axvline(deadline_s * 1e3, color="0.4", linewidth=1, linestyle=":", label="deadline")
        axes.set(xscale="log", ylim=(0, 101), ylabel="% of the frames answered")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("milliseconds from when the frame was due")
        _legend(axes)

    return _svg(draw)


def quality_over_bytes(cells: Sequence[Cell], measure: str, palette: Palette) -> bytes:
    """Quality of each mode's answers over the bytes that it sends; bars are the range of the repeats.

    A line joins those of a link that no other beats in both.
    """

    def draw(axes: "Axes") -> None:
        for index, cell in enumerate(cells):
            quality, size = cell.summary[measure], cell.summary["up_bytes_per_frame"]
            x, y = size.median / 1e3, quality.median * 100
            x_bar = [[x - size.low / 1e3], [size.high / 1e3 - x]]
            y_bar = [[y - quality.low * 100], [quality.high * 100 - y]]
            style: dict[str, Any] = {
                "color": palette.of(cell.mode),
                "marker": _MARKERS[index % len(_MARKERS)],
            }
            axes.errorbar(
                [x], [y], xerr=x_bar, yerr=y_bar, ls="", capsize=3, label=_short(cell, cells), **style
            )
            bound, sent = cell.figure("ideal_agreement"), cell.figure("ideal_up_bytes_per_frame")
            if measure == "agreement" and bound is not None and sent is not None:
                style |= {"markersize": 11, "fillstyle": "none", "marker": "*", "ls": ""}
                axes.plot([sent / 1e3], [bound * 100], label=f"{cell.mode}, ideal", **style)
        for group in by_place(cells):
            here = [
                (c.summary["up_bytes_per_frame"].median / 1e3, c.summary[measure].median * 100) for c in group
            ]
            best = [p for p in sorted(here) if p[1] > max((q[1] for q in here if q < p), default=-1.0)]
            axes.plot(*zip(*best, strict=True), color="0.7", linewidth=1, zorder=0)
        axes.margins(0.1)
        axes.set(xlabel="kB on the wire up, a frame", ylabel=f"{MEASURES[measure].title}, %")
        _legend(axes)

    return _svg(draw)


def timeline(cell: Cell, links: int) -> bytes:
    """Latency, offload and so many links of one run, second by second."""

    def draw(figure: "Figure") -> None:
        upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 2))
        moments = cell.timeline
        at = [m.at_s for m in moments]
        limits = [m.link_up_mbit_per_s for m in moments]
        upper.step(at, _or_nan([m.first_p95_ms for m in moments]), where="post", color=_COLOURS[0])
        middle.step(at, [m.sent_share * 100 for m in moments], where="post", label="sent")
        degraded = [m.degraded_share * 100 for m in moments]
        middle.step(at, degraded, where="post", color=_COLOURS[1], label="degraded")
        _shade_open(middle, moments)
        passed = [m.up_mbit_per_s for m in moments]
        lower.step(at, passed, where="post", color=_COLOURS[2], label="passed")
        if any(limit is not None for limit in limits):
            offered = [None if limit is None else limit * links for limit in limits]
            style = {"color": "0.4", "linestyle": "--", "label": "offered"}
            lower.step(at, _or_nan(offered), where="post", **style)
        upper.set_ylabel("first answer\np95, ms")
        middle.set(ylabel="% of frames", ylim=(-4, 104))
        lower.set(ylabel="Mbit/s up", xlabel="seconds of the steady window, first repeat")
        lower.set_ylim(bottom=0)
        for axes in (middle, lower):
            _legend(axes)

    return _svg_of_figure(draw, (_INCHES[0], 5.0))


def capacity(searches: Sequence[Capacity], palette: Palette) -> bytes:
    """Share answered in time over the number of edges, at every number that was tried."""
    from matplotlib.ticker import LogLocator

    def draw(axes: "Axes") -> None:
        for search in searches:
            colour = palette.of(search.mode)
            tried: defaultdict[int, list[float]] = defaultdict(list)
            for probe in search.probes:
                tried[probe.edges].append(probe.on_time_share * 100)
                axes.plot(probe.edges, probe.on_time_share * 100, ".", color=colour, alpha=0.5)
            numbers = sorted(tried)
            name = f"{search.mode}, {search.link}:\n{search.held} held"
            axes.plot(numbers, [np.median(tried[n]) for n in numbers], "o-", color=colour, label=name)
        goal: dict[str, Any] = {"color": "0.4", "linewidth": 1, "linestyle": ":", "label": "asked for"}
        axes.axhline(searches[0].goal_share * 100, **goal)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.set(xlabel="edges", ylabel="% of the frames wanted that were answered in time", ylim=(-3, 103))
        _legend(axes)

    return _svg(draw)


def _short(cell: Cell, cells: Sequence[Cell]) -> str:
    """The mode, and link and edges where the cells differ in them."""
    parts = [cell.mode]
    if len({c.link for c in cells}) > 1:
        parts.append(cell.link)
    if len({c.edges for c in cells}) > 1:
        parts.append(f"{cell.edges} edges")
    return ", ".join(parts)


def _legend(axes: "Axes") -> None:
    """A legend beside the plot, where it covers nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)


def _shade_open(axes: "Axes", moments: Sequence[Moment]) -> None:
    opened = [m.breaker_open for m in moments]
    if any(opened):
        at = [m.at_s for m in moments]
        axes.fill_between(at, 0, 100, where=opened, step="post", color="0.85", label="breaker open")


def _or_nan(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _svg(draw: "Callable[[Axes], None]") -> bytes:
    return _svg_of_figure(lambda figure: draw(figure.add_subplot()), _INCHES)


def _svg_of_figure(draw: "Callable[[Figure], None]", inches: tuple[float, float]) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
