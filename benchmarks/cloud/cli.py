"""The command `python -m benchmarks cloud`."""

from pathlib import Path

import click

_CONTENDERS = ("spillover", "triton", "mlserver")


@click.command("cloud")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Turns of each.")
@click.option("--seconds", type=float, default=1.5, show_default=True, help="Length of one turn.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 4, 16, 64),
    show_default=True,
    help="Connections, each with one request at a time; may be repeated.",
)
@click.option(
    "--server",
    "servers",
    type=click.Choice(_CONTENDERS),
    multiple=True,
    default=_CONTENDERS,
    help="Which servers; may be repeated. Default: all that install here.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Threads of ONNX Runtime, the same for all; 0 is all cores.",
)
@click.option(
    "--device",
    type=click.Choice(("cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="What networks run on, the same for all; cuda is left out with a reason where there is none.",
)
@click.option("--growth/--no-growth", default=True, help="Also send 100 000 requests and watch the memory.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/bench-cloud/bench-cloud.json"),
    show_default=True,
    help="All figures, as JSON.",
)
def bench_cloud(
    rounds: int,
    seconds: float,
    concurrency: tuple[int, ...],
    servers: tuple[str, ...],
    threads: int,
    device: str,
    growth: bool,
    out: Path,
) -> None:
    """Compare the cloud server with Triton and MLServer: same networks, same client, taking turns.

    Needs h2load (Debian's nghttp2-client). Triton and MLServer are installed into environments of their own
    in the cache folder; one that does not install is left out, and the report says why. Figures compare what
    ran side by side on this machine, and promise nothing elsewhere.
    """
    from benchmarks.cloud.engine import Device, Engine, why_no_cuda

    engine = Engine(threads, Device(device))
    if engine.device is Device.CUDA and (reason := why_no_cuda()):
        click.echo(f"bench-gpu skipped: {reason}")
        return
    from benchmarks.cloud.bench import Plan, run
    from benchmarks.cloud.report import print_report, write_json
    from spillover.lab.terminal import open_console

    plan = Plan(servers, concurrency, rounds, seconds, engine, growth)
    outcome = run(plan)
    console = open_console()
    print_report(outcome, console)
    write_json(outcome, plan, out)
    console.print(f"all figures: {out}")
