"""`python -m benchmarks ...`: the table of the benchmarks. A new one is one line here."""

import click

from spillover.common.cli import LazyGroup, run
from spillover.lab.processes import terminable


@click.group(
    "benchmarks",
    cls=LazyGroup,
    package="benchmarks",
    commands_at={
        "edge": ("edge.cli:bench_edge", "What the edge pipeline costs over a bare model loop."),
        "cameras": ("cameras.cli:bench_cameras", "Four cameras in one daemon beside one."),
        "cloud": ("cloud.cli:bench_cloud", "The cloud server against Triton and MLServer."),
        "loop-lag": (
            "cloud.loop_lag:bench_loop_lag",
            "Lag of the server's event loop under hostile requests.",
        ),
        "against": ("against.cli:bench_against", "The cloud server against that of an older commit."),
        "decode": ("decode.cli:bench_decode", "How long pictures take while somebody floods the server."),
        "decode-streams": ("decode.cli:decode_streams", "What streams of video cost a server."),
        "decode-accuracy": ("decode.cli:decode_accuracy", "Accuracy on scaled decodes beside exact ones."),
        "resize": ("resize.cli:bench_resize", "Pixels alike on every processor beside the faster ones."),
        "link": ("link.cli:bench_link", "What the edge's rule makes of slow and changing links."),
        "policy": ("policy.cli:bench_policy", "What policies are worth, on pairs and links."),
        "rate": ("rate.cli:bench_rate", "A frame rate that follows the scene, and a camera at 30 frames/s."),
        "video": ("video.cli:bench_video", "What carrying the cloud's boxes is worth on clips."),
        "inter": ("inter.cli:bench_inter", "What a frame takes as JPEG and as video, and what that keeps."),
        "split": ("split.cli:bench_split", "Split inference beside JPEG: bytes, accuracy, latency."),
        "heat": ("heat.cli:bench_heat", "The ladder on simulated devices in the heat."),
        "path": ("path.cli:trace_path", "The files that an offloaded frame runs through."),
        "disk": ("disk.cli:bench_disk", "What a month of frames takes of a disk, beside its bounds."),
        "spool": ("spool.cli:bench_spool", "What ways to keep frames on disk cost the disk."),
    },
)
def benchmarks() -> None:
    """Measure this project. Run from the root of a checkout; `make` has a target for each."""


if __name__ == "__main__":
    with terminable():
        run(benchmarks, "benchmarks")
