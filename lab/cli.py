"""`spillover lab ...`: the table of the workbench's commands. A new command is one line here."""

import click

from spillover.common.cli import LazyGroup
from spillover.lab.processes import terminable


@click.group(
    cls=LazyGroup,
    package="spillover.lab",
    commands_at={
        "prepare": (
            "models.prepare.cli:prepare",
            "Build the default pair of models into the cache folder.",
        ),
        "import": (
            "models.prepare.cli:import_model",
            "Wrap an ONNX file as a model folder, by a preset.",
        ),
        "quantize": (
            "models.quantize.cli:quantize",
            "Quantise a model to INT8 and compare it with the float one.",
        ),
        "evaluate": ("pairs.evaluate.cli:evaluate", "Accuracy of a pair over the share of frames sent."),
        "fit": ("pairs.fit.cli:fit", "Fit the expected gain of the cloud's answer, cross-fitted."),
        "replay": ("pairs.replay.cli:replay", "What another policy, budget or link would have done."),
        "split": ("split.cli:split", "Find where to cut a model between edge and cloud."),
        "profile": ("models.profile.cli:profile", "Time a split model's heads and tails on this device."),
        "early-exit": ("split.early_exit.cli:early_exit", "Give a split model an exit on its own backbone."),
        "demo": ("runs.demo.cli:demo", "Edge and cloud on this machine, three modes, one table."),
        "loadtest": (
            "loadtest.cli:loadtest",
            "Modes side by side over links, against a real server, in one report.",
        ),
        "loadtest-generator": (
            "loadtest.cli:generator",
            "Play simulated edges for a load test on another host.",
        ),
        "overlay": ("runs.overlay.cli:overlay", "Draw a run's boxes into its frames, with who answered."),
        "check": ("runs.check.cli:check", "Prove that every frame of a run ended exactly once."),
    },
)
@click.pass_context
def lab(context: click.Context) -> None:
    """The workbench: prepare models, quantise them, evaluate pairs and policies. Never needed on a Pi."""
    context.with_resource(terminable())
