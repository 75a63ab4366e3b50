"""`spillover lab ...`: the table of the workbench's commands. A new command is one line here."""

import click

from spillover.common.cli import LazyGroup
from spillover.lab.processes import terminable


@click.group(
    cls=LazyGroup,
    commands_at={
        "prepare": ("lab.prepare.cli:prepare", "Build the default pair of models into the cache folder."),
        "import": ("lab.prepare.cli:import_model", "Wrap an ONNX file as a model folder, by a preset."),
        "quantize": (
            "lab.quantize.cli:quantize",
            "Quantise a model to INT8 and compare it with the float one.",
        ),
        "evaluate": ("lab.evaluate.cli:evaluate", "Accuracy of a pair over the share of frames sent."),
        "fit": ("lab.policy.cli:fit", "Fit the expected gain of the cloud's answer, cross-fitted."),
        "replay": ("lab.replay.cli:replay", "What another policy, budget or link would have done."),
        "bench-policy": ("lab.policy.bench.cli:bench_policy", "What policies are worth, on pairs and links."),
        "split": ("lab.split.cli:split", "Find where to cut a model between edge and cloud."),
        "profile": ("lab.profile.cli:profile", "Time a split model's heads and tails on this device."),
        "early-exit": ("lab.early_exit.cli:early_exit", "Give a split model an exit on its own trunk."),
        "bench-split": (
            "lab.split_bench.cli:bench_split",
            "Split inference beside JPEG: bytes, accuracy, latency.",
        ),
        "demo": ("lab.demo.cli:demo", "Edge and cloud on this machine, three modes, one table."),
        "loadtest": (
            "lab.loadtest.cli:loadtest",
            "Modes side by side over links, against a real server, in one report.",
        ),
        "loadtest-generator": (
            "lab.loadtest.cli:generator",
            "Play simulated edges for a load test on another host.",
        ),
        "bench-edge": ("lab.bench.cli:bench_edge", "What the edge pipeline costs over a bare model loop."),
        "bench-cloud": ("lab.bench_cloud.cli:bench_cloud", "The cloud server against Triton and MLServer."),
        "bench-spool": ("lab.spool.cli:bench_spool", "What ways to keep frames on disk cost the disk."),
        "overlay": ("lab.overlay.cli:overlay", "Draw a run's boxes into its frames, with who answered."),
        "check": ("lab.check.cli:check", "Prove that every frame of a run ended exactly once."),
    },
)
@click.pass_context
def lab(context: click.Context) -> None:
    """The workbench: prepare models, quantise them, evaluate pairs and policies. Never needed on a Pi."""
    context.with_resource(terminable())
