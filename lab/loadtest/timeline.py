"""One run over time: what was sent, how late answers were, what the link and the server did."""

import itertools
from collections.abc import Sequence

import numpy as np

from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.outcomes import DEGRADED, Outcomes, Window
from spillover.lab.loadtest.results import Moment
from spillover.lab.loadtest.sampling import TICK_S, Sample
from spillover.lab.loadtest.stats import percentile_ms

_OPEN = "breaker"


def timeline_of(
    outcomes: Outcomes, samples: Sequence[Sample], window: Window, records: Sequence[Record] = ()
) -> list[Moment]:
    """One moment for each pair of samples next to each other inside the window."""
    opened = np.array([r.captured_unix_s for r in records if _OPEN in r.decision.reason])
    moments = []
    for before, after in itertools.pairwise(samples):
        length_s = after.unix_s - before.unix_s
        if length_s < TICK_S / 2:  # the closing sample right after a tick: too few frames to say anything
            continue
        here = (outcomes.intended_s >= before.unix_s) & (outcomes.intended_s < after.unix_s)
        count = max(1, int(here.sum()))
        moments.append(
            Moment(
                at_s=round(before.unix_s - window.begin_s, 2),
                sent_share=float(outcomes.sent[here].sum()) / count,
                degraded_share=float((outcomes.ending[here] == DEGRADED).sum()) / count,
                first_p95_ms=percentile_ms(outcomes.first_s[here], 95),
                server_cores=(after.server_cpu_s - before.server_cpu_s) / length_s,
                up_mbit_per_s=(after.up_bytes - before.up_bytes) * 8e-6 / length_s,
                link_up_mbit_per_s=before.up_mbit_per_s,
                breaker_open=bool(((opened >= before.unix_s) & (opened < after.unix_s)).any()),
            )
        )
    return moments
