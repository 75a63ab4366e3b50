"""What `spillover lab split` shows: a table of the kept cuts, and a plot of latency over bandwidth."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spillover.common.model.split import DeviceProfile, SplitPlan
from spillover.lab.console import open_console
from spillover.lab.shaper.link import Link
from spillover.lab.split.link import picture_seconds, split_seconds
from spillover.lab.split.plan import SplitReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUND_TRIP_MS = 50.0


def print_table(report: SplitReport) -> None:
    """The kept cuts on standard output, one a row; a time column for each device."""
    from rich.table import Table

    plan = report.plan
    table = Table(title=f"{len(plan.cuts)} of {report.cuts_found} cuts kept")
    for heading in ("cut", "tensors", "bytes/frame", "bits/element", "fidelity"):
        table.add_column(heading, justify="left" if heading == "cut" else "right")
    for profile in plan.profiles:
        table.add_column(f"head / tail ms\n{profile.device}", justify="right")
    for cut in plan.cuts:
        table.add_row(
            cut.name,
            str(len(cut.seams)),
            f"{cut.feature_bytes:.0f}",
            f"{cut.bits_per_element:.2f}",
            f"{cut.fidelity:.3f}",
            *(f"{p.head_s[cut.name] * 1e3:.1f} / {p.tail_s[cut.name] * 1e3:.1f}" for p in plan.profiles),
        )
    console = open_console()
    console.print(table)
    for profile in plan.profiles:
        console.print(f"whole network on {profile.device}: {profile.whole_s * 1e3:.1f} ms")
    console.print(
        f"JPEG quality 90 of the whole frame: {report.jpeg_bytes:.0f} bytes; "
        f"head + tail differ from the whole network by {report.largest_difference:.1g} at most"
    )


def save_plot(report: SplitReport, path: Path) -> None:
    """Predicted latency over bandwidth for each cut and for JPEG, beside bytes against head time.

    The first profile of the plan stands for the edge, the last for the cloud.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    sizes, latency = figure.subplots(1, 2)
    plan = report.plan
    edge, cloud = plan.profiles[0], plan.profiles[-1]
    _draw_sizes(sizes, plan, edge, cloud)
    bandwidths = np.geomspace(0.5, 200, 60)
    links = [Link(rtt_ms=ROUND_TRIP_MS, up_mbit_per_s=float(megabits)) for megabits in bandwidths]
    for cut in plan.cuts:
        seconds = [split_seconds(cut, edge, cloud, link) for link in links]
        latency.plot(bandwidths, np.array(seconds) * 1e3, label=cut.name)
    jpeg = [picture_seconds(report.jpeg_bytes, cloud, link) for link in links]
    latency.plot(bandwidths, np.array(jpeg) * 1e3, "k--", label="JPEG quality 90")
    latency.set(xscale="log", yscale="log", xlabel="bandwidth, Mbit/s", ylabel="predicted latency, ms")
    latency.set_title(f"round trip {ROUND_TRIP_MS:.0f} ms, edge {edge.device}, cloud {cloud.device}")
    latency.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _draw_sizes(axes: "Axes", plan: SplitPlan, edge: DeviceProfile, cloud: DeviceProfile) -> None:
    head = [edge.head_s[cut.name] * 1e3 for cut in plan.cuts]
    tail = [cloud.tail_s[cut.name] * 1e3 for cut in plan.cuts]
    size = [cut.feature_bytes for cut in plan.cuts]
    axes.plot(head, size, "o-", label="over head time")
    axes.plot(tail, size, "s:", label="over tail time")
    axes.set(xlabel="ms", ylabel="bytes a frame, coded", yscale="log", title="features of each cut")
    axes.legend(fontsize="small")
