"""The report of `spillover lab split`: a table of the kept cuts, and a plot of latency over bandwidth."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spillover.common.model.split import AtAge, Cut, DeviceProfile, SplitPlan
from spillover.lab.shaper.link import Link
from spillover.lab.split.plan import SplitReport
from spillover.lab.terminal import open_console, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

ROUND_TRIP_MS = 50.0


def print_table(report: SplitReport) -> None:
    """The kept cuts on standard output, one a row, with a time column for each device; then inter coding."""
    plan = report.plan
    console = open_console()
    made = table(
        (
            *("cut", "tensors", "bytes/frame", "bits/element", "fidelity"),
            *(f"head / tail ms\n{profile.device}" for profile in plan.profiles),
        ),
        (_row(cut, plan) for cut in plan.cuts),
        title=f"{len(plan.cuts)} of {report.cuts_found} cuts kept, {report.cuts_measured} measured",
    )
    console.print(made)
    if any(cut.inter for cut in plan.cuts):
        console.print(_inter_table(report))
    for profile in plan.profiles:
        console.print(f"whole network on {profile.device}: {profile.whole_s * 1e3:.1f} ms")
    console.print(
        f"JPEG quality 90 of the whole frame: {report.jpeg_bytes:.0f} bytes; "
        f"head + tail differ from the whole network by {report.largest_difference:.1g} at most"
    )


def _row(cut: Cut, plan: SplitPlan) -> list[str]:
    return [
        cut.name,
        str(len(cut.seams)),
        f"{cut.feature_bytes:.0f}",
        f"{cut.bits_per_element:.2f}",
        f"{cut.fidelity:.3f}",
        *(f"{p.head_s[cut.name] * 1e3:.1f} / {p.tail_s[cut.name] * 1e3:.1f}" for p in plan.profiles),
    ]


def _inter_table(report: SplitReport) -> "Table":
    """Bytes and fidelity against earlier frames, on those that were chosen on and on others."""
    inter = [(cut.name, cut.inter) for cut in report.plan.cuts if cut.inter]
    ages = sorted({at.frames for _, coding in inter for at in coding.ages})
    where = inter[0][1].clip or "shifted pictures"
    return table(
        ("cut", "dead zone", "key bytes", *(f"every {age}" for age in ages)),
        (
            [name, f"{coding.dead_zone:g}", f"{coding.key_bytes:.0f}"]
            + [_at_age((report.chosen[name], coding.ages), age) for age in ages]
            for name, coding in inter
        ),
        title=f"against earlier frames, {where}: bytes, fidelity; where it was chosen, then elsewhere",
    )


def _at_age(sides: Sequence[Sequence[AtAge]], age: int) -> str:
    """A line for each side."""
    found = [next((at for at in side if at.frames == age), None) for side in sides]
    return "\n".join(f"{at.feature_bytes:.0f}  {at.fidelity:.3f}" if at else "-" for at in found)


def transfer_seconds(link: Link, payload_bytes: float) -> float:
    """From the first byte sent to the (small) answer: serialisation and one round trip."""
    return payload_bytes / link.up_bytes_per_s + link.rtt_ms / 1000


def split_seconds(cut: Cut, edge: DeviceProfile, cloud: DeviceProfile, link: Link) -> float:
    """Head on the edge, features over the link, tail in the cloud."""
    return edge.head_s[cut.name] + transfer_seconds(link, cut.feature_bytes) + cloud.tail_s[cut.name]


def picture_seconds(picture_bytes: float, cloud: DeviceProfile, link: Link) -> float:
    """The picture over the link, the whole network in the cloud."""
    return transfer_seconds(link, picture_bytes) + cloud.whole_s


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
