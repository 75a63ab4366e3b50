"""The plots of the report, each as an SVG image."""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.results import Capacity, Cell, Fleet, Moment, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers too. A mode has the same colour everywhere.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_INCHES = (7.6, 4.2)
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
        axes.axvline(deadline_s * 1e3, color="0.4", linewidth=1, linestyle=":")
        text = {"rotation": 90, "ha": "right", "va": "center", "color": "0.3"}
        _annotate(axes, "deadline", (deadline_s * 1e3, 50), (-3, 0), 8, **text)
        axes.set(xscale="log", ylim=(0, 101), ylabel="% of the frames answered")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("milliseconds from when the frame was due")
        axes.legend(loc="upper left")

    return _svg(draw)


def quality_over_bytes(cells: Sequence[Cell], measure: str, palette: Palette) -> bytes:
    """Quality of each mode's answers over the bytes that it sends; bars are the range of the repeats."""

    def draw(axes: "Axes") -> None:
        for index, cell in enumerate(cells):
            quality, size = cell.summary[measure], cell.summary["up_bytes_per_frame"]
            x, y = size.median / 1e3, quality.median * 100
            x_bar = [[x - size.low / 1e3], [size.high / 1e3 - x]]
            y_bar = [[y - quality.low * 100], [quality.high * 100 - y]]
            colour = palette.of(cell.mode)
            axes.errorbar([x], [y], xerr=x_bar, yerr=y_bar, fmt="o", color=colour, capsize=3)
            _annotate(axes, _short(cell, cells), (x, y), (6, -14 if index % 2 else 7))
            bound, sent = cell.figure("ideal_agreement"), cell.figure("ideal_up_bytes_per_frame")
            if measure == "agreement" and bound is not None and sent is not None:
                axes.plot([sent / 1e3], [bound * 100], "*", color=colour, markersize=11, fillstyle="none")
        axes.margins(0.18)
        axes.set_xlim(left=min(-0.2, axes.get_xlim()[0]))
        axes.set(xlabel="kB on the wire up, a frame", ylabel=f"{MEASURES[measure].title}, %")

    return _svg(draw)


def timeline(cell: Cell) -> bytes:
    """Latency, offload and link of one run, second by second."""

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
        if cell.edges == 1 and any(limit is not None for limit in limits):
            style = {"color": "0.4", "linestyle": "--", "label": "the link's limit"}
            lower.step(at, _or_nan(limits), where="post", **style)
        upper.set_ylabel("first answer\np95, ms")
        middle.set(ylabel="% of frames", ylim=(-4, 104))
        lower.set(ylabel="Mbit/s up", xlabel="seconds of the steady window, first repeat")
        lower.set_ylim(bottom=0)
        for axes in (middle, lower):
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return _svg_of_figure(draw, (_INCHES[0], 5.0))


def capacity(searches: Sequence[Capacity], palette: Palette) -> bytes:
    """Share answered in time over the number of edges, at every number that was tried."""

    def draw(axes: "Axes") -> None:
        for search in searches:
            colour = palette.of(search.mode)
            tried: defaultdict[int, list[float]] = defaultdict(list)
            for probe in search.probes:
                tried[probe.edges].append(probe.on_time_share * 100)
                axes.plot(probe.edges, probe.on_time_share * 100, ".", color=colour, alpha=0.5)
            numbers = sorted(tried)
            name = f"{search.mode} over {search.link}: {search.held} held"
            axes.plot(numbers, [np.median(tried[n]) for n in numbers], "o-", color=colour, label=name)
        axes.axhline(searches[0].goal_share * 100, color="0.4", linewidth=1, linestyle=":")
        axes.set_xscale("log")
        edges = sorted({probe.edges for search in searches for probe in search.probes})
        axes.set_xticks(edges, [f"{n:,}" for n in edges], rotation=45)
        axes.minorticks_off()
        axes.set(xlabel="edges", ylabel="% of the frames wanted that were answered in time", ylim=(-3, 103))
        axes.legend(loc="lower left")

    return _svg(draw)


def sweep(swept: Sweep) -> bytes:
    """Every point of the sweep, the Pareto front of each link joined, the recommended ones ringed."""

    def draw(axes: "Axes") -> None:
        for index, link in enumerate(dict.fromkeys(point.link for point in swept.points)):
            colour = _COLOURS[index % len(_COLOURS)]
            points = [point for point in swept.points if point.link == link]
            front = sorted((p for p in points if p.on_front), key=lambda p: p.bytes_per_frame)
            for drawn, style, label in ((front, "-", None), (points, "o", link)):
                x, y = [p.bytes_per_frame / 1e3 for p in drawn], [p.quality * 100 for p in drawn]
                axes.plot(x, y, style, color=colour, label=label)
            modes = {p.mode for p in points}
            for p in points:
                where = (p.bytes_per_frame / 1e3, p.quality * 100)
                _annotate(
                    axes, f"{p.value:g}" if len(modes) == 1 else f"{p.mode} {p.value:g}", where, (5, 5), 8
                )
                if link in swept.recommended and p is swept.points[swept.recommended[link]]:
                    axes.plot(*where, "o", markersize=13, fillstyle="none", color=colour)
        axes.margins(0.1)
        axes.set(xlabel="kB on the wire up, a frame", ylabel=f"{MEASURES[swept.quality].title}, %")
        axes.legend(loc="lower right")

    return _svg(draw)


def fleet(larger: Fleet) -> bytes:
    """Servers needed over the size of the fleet."""

    def draw(axes: "Axes") -> None:
        axes.plot(
            [p.edges for p in larger.points], [p.servers for p in larger.points], "o-", color=_COLOURS[0]
        )
        for point in larger.points:
            _annotate(axes, f"{point.servers:,}", (point.edges, point.servers), (6, -12))
        axes.set(xscale="log", yscale="log")
        axes.margins(0.15)
        axes.set(xlabel="edges", ylabel="servers like this one")

    return _svg(draw)


def _short(cell: Cell, cells: Sequence[Cell]) -> str:
    """The mode, and link and edges where the cells differ in them."""
    parts = [cell.mode]
    if len({c.link for c in cells}) > 1:
        parts.append(cell.link)
    if len({c.edges for c in cells}) > 1:
        parts.append(f"{cell.edges} edges")
    return ", ".join(parts)


def _annotate(
    axes: "Axes",
    text: str,
    at: tuple[float, float],
    offset: tuple[int, int],
    size: int = 9,
    **style: Any,  # noqa: ANN401 - as matplotlib has it
) -> None:
    axes.annotate(text, at, xytext=offset, textcoords="offset points", fontsize=size, **style)


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
