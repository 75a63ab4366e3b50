"""Tables and plots of the split benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.split.latency import AUTO, EDGE_ONLY, Latency, judge_choice
from benchmarks.split.split_benchmark import BenchResult
from spillover.lab.terminal import open_console, table

if TYPE_CHECKING:
    from rich.table import Table


def print_tables(result: BenchResult) -> None:
    """Rates, then latencies, on standard output."""
    console = open_console()
    console.print(
        f"{result.model} on {result.pictures} pictures of {result.data}: {result.accuracy:.3f} uncompressed; "
        f"the edge's own model {result.edge_accuracy:.3f}"
    )
    console.print(_rates(result))
    console.print(_latencies(result))
    for megabits, latencies in result.latencies.items():
        choice = judge_choice(latencies)
        console.print(
            f"{megabits:g} Mbit/s: the run-time choice took {choice.ratio:.2f} ({choice.low:.2f} to "
            f"{choice.high:.2f}) of the median of the best fixed form, {choice.best}"
        )


def _rates(result: BenchResult) -> "Table":
    profile = result.plan.profiles[0]
    rows = []
    for cut in result.plan.cuts:
        point = result.chosen(cut.name)
        same_bytes = result.jpeg_accuracy_at(point.frame_bytes)
        equal = result.jpeg_bytes_at(point.accuracy)
        row = [
            cut.name,
            f"{point.frame_bytes:.0f}",
            f"{point.frame_bytes * 8 / cut.elements:.2f}",
            f"{point.accuracy:.3f}",
            "-" if same_bytes is None else f"{same_bytes:.3f}",
            "-" if equal is None else f"{equal:.0f}",
            f"{profile.head_s[cut.name] * 1e3:.1f}",
            f"{profile.tail_s[cut.name] * 1e3:.1f}",
        ]
        rows.append(row)
    jpeg = ("JPEG, same bytes", "JPEG bytes, equal accuracy")
    headings = ("cut", "bytes", "bits/el.", "accuracy", *jpeg, "head ms", "tail ms")
    return table(headings, rows, title="Bytes a frame, bits an element, accuracy")


def _latencies(result: BenchResult) -> "Table":
    first = next(iter(result.latencies.values()))
    rows = [
        [
            name,
            f"{first[name].payload_bytes:.0f}",
            *(_latency(by_form[name]) for by_form in result.latencies.values()),
        ]
        for name in _forms(result)
    ]
    headings = ("form", "bytes", *(f"{megabits:g} Mbit/s" for megabits in result.latencies))
    title = "Latency ms: measured p50 / p99 (predicted); picture is JPEG quality 90"
    return table(headings, rows, title=title)


def _latency(latency: Latency) -> str:
    predicted = "" if latency.predicted_s is None else f" ({latency.predicted_s * 1e3:.0f})"
    return f"{latency.p50_s * 1e3:.0f} / {latency.p99_s * 1e3:.0f}{predicted}"


def _forms(result: BenchResult) -> list[str]:
    """All that were timed: those of pictures first, then the cuts from the input on, the choice last."""
    cuts = [cut.name for cut in result.plan.cuts]
    timed = list(next(iter(result.latencies.values())))
    rest = sorted(name for name in timed if name not in cuts and name != AUTO)
    return rest + [name for name in cuts if name in timed] + [name for name in timed if name == AUTO]


def save_plot(result: BenchResult, path: Path) -> None:
    """Rate-accuracy curves of JPEG and of every cut on one pair of axes; latency over bandwidth beside."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6), layout="constrained")
    rates, latency = figure.subplots(1, 2)
    colors = {cut.name: f"C{index % 8 + 2}" for index, cut in enumerate(result.plan.cuts)}
    for form, curve in result.jpeg.items():
        rates.plot([p.frame_bytes for p in curve], [p.accuracy for p in curve], "x", label=f"JPEG, {form}")
    for name, curve in result.cuts.items():
        bytes_, accuracy = [p.frame_bytes for p in curve], [p.accuracy for p in curve]
        rates.plot(bytes_, accuracy, ".-", label=name, color=colors[name])
        chosen = result.chosen(name)
        rates.plot(chosen.frame_bytes, chosen.accuracy, "o", color=colors[name])
    rates.axhline(result.accuracy, color="black", linewidth=0.8, label="uncompressed")
    rates.axhline(result.edge_accuracy, color="black", linewidth=0.8, linestyle=":", label="edge's own model")
    rates.set(xscale="log", xlabel="bytes a frame", ylabel="accuracy", title="rate and accuracy")
    rates.legend(fontsize="small")
    megabits = list(result.latencies)
    styles = {EDGE_ONLY: ":", AUTO: "-."}
    for name in _forms(result):
        milliseconds = [result.latencies[m][name].p50_s * 1e3 for m in megabits]
        style = styles.get(name, "-" if name in colors else "--")
        color = colors.get(name, "black" if name in styles else None)
        latency.plot(megabits, milliseconds, style, color=color, label=name)
    latency.set(xscale="log", yscale="log", xlabel="bandwidth, Mbit/s", ylabel="measured p50, ms")
    latency.set_title("frame to answer, round trip 50 ms")
    latency.legend(fontsize="small")
    figure.savefig(path, dpi=120)
