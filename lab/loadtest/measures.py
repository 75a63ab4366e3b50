"""Every figure that a load test reports: name, title, unit, and whether more or less is better."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Better(enum.Enum):
    """Whether a lower or a higher figure is better."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: its title, how it is shown, and which direction is better."""

    title: str
    unit: str
    better: Better = Better.NEITHER
    decimals: int = 1
    scale: float = 1.0
    """The shown number is the figure times this."""
    meaning: str = ""
    """Its definition, where the title is not one."""

    def show(self, figure: float | None) -> str:
        """The figure with its unit, or a dash."""
        if figure is None:
            return "-"
        return f"{figure * self.scale:,.{self.decimals}f}{'' if self.unit == '%' else ' '}{self.unit}".strip()


def _share(title: str, better: Better, decimals: int = 1, meaning: str = "") -> Measure:
    return Measure(title, "%", better, decimals, 100.0, meaning)


def _latency(title: str, meaning: str = "") -> Measure:
    return Measure(title, "ms", Better.LOWER, meaning=meaning)


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "frames": Measure("frames in the window", "", decimals=0),
        "fps": Measure("answers a second and edge", "/s", Better.HIGHER, 2),
        "on_time_share": _share(
            "answered by the deadline",
            Better.HIGHER,
            2,
            "frames whose first answer came by the deadline, whoever gave it",
        ),
        "first_p50_ms": _latency("to first answer, p50"),
        "first_p95_ms": _latency("to first answer, p95"),
        "first_p99_ms": _latency(
            "to first answer, p99", "from when a frame was due, also where a stall was before it"
        ),
        "first_p999_ms": _latency("to first answer, p99.9"),
        "emit_p99_ms": _latency("to first answer, p99, from capture"),
        "final_p50_ms": _latency("to final answer, p50"),
        "final_p95_ms": _latency("to final answer, p95"),
        "final_p99_ms": _latency(
            "to final answer, p99", "likewise, to the last answer: the cloud's, where it came later"
        ),
        "final_p999_ms": _latency("to final answer, p99.9"),
        "accuracy": _share(
            "accuracy of the first answers",
            Better.HIGHER,
            2,
            "by the labels; of detectors the mAP of the boxes reported, which is less than that of all boxes",
        ),
        "agreement": _share(
            "agreement with the cloud's model",
            Better.HIGHER,
            meaning="of the first answers, with its own on the uncompressed frame; of detectors the F1 of "
            "the boxes of 30 % confidence or more, matched within a class at an IoU of 0.5",
        ),
        "final_agreement": _share("agreement of the final answers", Better.HIGHER),
        "agreement_spread": _share(
            "agreement, best edge less worst", Better.LOWER, meaning="between the edges of one run, in points"
        ),
        "accuracy_spread": _share(
            "accuracy, best edge less worst", Better.LOWER, 2, "between the edges of one run, in points"
        ),
        "streaming": _share(
            "streaming accuracy",
            Better.HIGHER,
            meaning="agreement of what is newest at the instant of each frame: an old answer is judged by "
            "what is there now",
        ),
        "detection_delay_s": Measure("from an object's entry to its first detection", "s", Better.LOWER, 2),
        "tracks": Measure("objects followed", "", decimals=0),
        "confirmed_share": _share(
            "boxes that the cloud confirmed last",
            Better.NEITHER,
            meaning="of the boxes of tracked objects that first answers show",
        ),
        "idf1": _share("IDF1 of the tracks", Better.HIGHER),
        "switches": Measure("identity switches", "", Better.LOWER, 0),
        "wanted_share": _share(
            "frames wanted",
            Better.NEITHER,
            meaning="of all frames due, those for which the mode wanted the cloud's answer",
        ),
        "offered_share": _share(
            "frames offered",
            Better.NEITHER,
            meaning="of all frames due, those that no rule of link, server or budget held back",
        ),
        "sent_share": _share(
            "frames sent",
            Better.NEITHER,
            meaning="of all frames due, those of which a payload was handed to a call",
        ),
        "answered_share": _share(
            "frames answered by the cloud",
            Better.NEITHER,
            meaning="of all frames due, those that the cloud answered, in time or later",
        ),
        "in_time_share": _share(
            "frames answered by the cloud in time",
            Better.NEITHER,
            meaning="of all frames due, those whose first answer was the cloud's, by the deadline",
        ),
        "ideal_in_time_share": _share(
            "an ideal sender's in time",
            Better.NEITHER,
            meaning="of all frames due, those that one who knows the link would have had answered in time",
        ),
        "ideal_agreement": _share(
            "an ideal sender's agreement",
            Better.NEITHER,
            meaning="the cloud's answers on those frames, the edge's on the others",
        ),
        "ideal_up_bytes_per_frame": Measure("an ideal sender's bytes up, a frame", "B", decimals=0),
        "cloud_share": _share("first answers by the cloud", Better.NEITHER),
        "degraded_share": _share(
            "frames degraded",
            Better.LOWER,
            meaning="of all frames due, those that were wanted and whose first answer was the edge's",
        ),
        "late_share": _share("revised after the deadline", Better.LOWER),
        "dropped_share": _share("frames without an answer", Better.LOWER, 2),
        "sent_in_time_share": _share(
            "of frames sent, cloud's answer in time", Better.HIGHER, 2, "in time, divided by sent"
        ),
        "wanted_in_time_share": _share(
            "of frames wanted, cloud's answer in time", Better.HIGHER, 2, "in time, divided by wanted"
        ),
        "lost": Measure("frames sent that the cloud never answered", "", Better.LOWER, 0),
        "payload_bytes_per_frame": Measure("pictures sent, a frame", "B", Better.LOWER, 0),
        "up_bytes_per_frame": Measure("on the wire up, a frame", "B", Better.LOWER, 0),
        "down_bytes_per_frame": Measure("on the wire down, a frame", "B", Better.LOWER, 0),
        "up_mb_per_day": Measure("on the wire up, a day and edge", "MB", Better.LOWER, 0),
        "down_mb_per_day": Measure("on the wire down, a day and edge", "MB", Better.LOWER, 1),
        "cloud_answer_ms": _latency("to the cloud's answer, mean"),
        "server_queue_ms": Measure("wait in the server, mean", "ms", Better.LOWER, 2),
        "server_infer_ms": Measure("the network in the server, mean", "ms", Better.LOWER, 2),
        "server_infer_cv2": Measure("its squared coefficient of variation", "", decimals=2),
        "server_cpu_s_per_1000_frames": Measure("server CPU, 1000 frames", "s", Better.LOWER, 2),
        "server_gpu_s_per_1000_frames": Measure("server GPU, 1000 frames", "s", Better.LOWER, 2),
        "server_cpu_share": Measure("server CPU", "cores", Better.NEITHER, 2),
        "server_rss_mb": Measure("server memory, peak", "MB", Better.LOWER, 0),
        "edge_cpu_share": Measure("CPU of an edge", "cores", Better.LOWER, 3),
        "edge_rss_mb": Measure("memory of an edge, peak", "MB", Better.LOWER, 0),
        "energy_j_per_frame": Measure("energy of this machine, a frame", "J", Better.LOWER, 3),
        "sent_per_s": Measure("requests sent, all edges", "/s", Better.NEITHER, 1),
        "generator_cpu_share": Measure("CPU of the generator", "cores", Better.LOWER, 3),
        "generator_cpu_share_per_100_edges": Measure(
            "CPU of the generator, 100 edges", "cores", Better.LOWER, 3
        ),
        "shaper_cpu_share": Measure("CPU of the link shaper", "cores", Better.NEITHER, 3),
        "generator_delay_p99_ms": Measure("generator behind its schedule, p99", "ms", Better.LOWER, 1),
    }
)
