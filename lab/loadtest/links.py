"""The links of load.yaml over time: constant figures, or the traces that `lab replay` uses."""

from pathlib import Path

from spillover.lab.loadtest.config import LinkConfig
from spillover.lab.pairs.replay.trace import MODELS, LinkTrace, model_trace, read_trace
from spillover.lab.shaper.link import Link, Schedule, constant


def schedule_of(config: LinkConfig) -> Schedule:
    """The link over time; a trace is the name of a modelled one, or a CSV file.

    Raises:
        SourceError: the trace's file cannot be read.
    """
    if not config.trace:
        return constant(config.constant())
    if config.trace in MODELS:
        return schedule_of_trace(model_trace(config.trace))
    return schedule_of_trace(read_trace(Path(config.trace).expanduser()))


def schedule_of_trace(trace: LinkTrace) -> Schedule:
    """A trace for the shaper; it knows one rate, that of the uplink, and the way back gets the same."""
    *steps, end = trace.steps

    def link(rate_bytes_per_s: float, rtt_s: float) -> Link:
        mbit_per_s = rate_bytes_per_s * 8e-6
        return Link(rtt_ms=rtt_s * 1e3, up_mbit_per_s=mbit_per_s, down_mbit_per_s=mbit_per_s)

    return Schedule(
        starts_s=tuple(step.at_s for step in steps),
        links=tuple(link(step.rate_bytes_per_s, step.rtt_s) for step in steps),
        period_s=end.at_s,
    )
