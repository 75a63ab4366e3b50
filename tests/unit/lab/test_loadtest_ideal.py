"""The ideal sender: what one who knows the link has answered in time."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from spillover.common.types import Timings
from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.figures import Carried, FigureContext
from spillover.lab.loadtest.ideal import SharedLink, ideal_figures
from spillover.lab.loadtest.reference import Reference
from spillover.lab.shaper.link import Link, Schedule, constant
from tests.support.edge_values import classification
from tests.unit.lab.test_loadtest_outcomes import FPS, START_S, WINDOW, record

SIZE = 12_500
"""Bytes of a picture: a tenth of a second over 1 Mbit/s, which is the time from one frame to the next."""


def sent(number: int) -> Record:
    """A frame that the cloud answered, rightly."""
    times = Timings(infer_s=0.01, encode_s=0.005, server_infer_s=0.01, total_s=0.2)
    return record(number, answered_by="cloud", payload_bytes=SIZE, timings=times)


def figures(
    link: Schedule, records: Sequence[Record] = (), *, edges: int = 1, share: int = 1
) -> dict[str, float]:
    """Of edges that sent every frame, over links that began with the first one."""
    truth = Reference("clip", (classification(0.9, 0.1),))
    runs = [(records or [sent(n) for n in range(30)], truth)] * edges
    context = FigureContext(edges, 0.3, WINDOW)
    carried = Carried(up_bytes=SIZE * 30, payload_bytes=SIZE * 30)
    return ideal_figures(runs, FPS, context, carried, SharedLink(link, START_S, share))


@pytest.mark.parametrize(
    ("mbit_per_s", "share"), [(None, 1.0), (1.001, 1.0), (0.5001, 0.5), (0.1, 0.0), (0.0, 0.0)]
)
def test_an_ideal_sender_fills_the_link_with_frames_that_are_in_time(
    mbit_per_s: float | None, share: float
) -> None:
    """Half the rate carries every second frame; a picture that alone would be late is never sent."""
    found = figures(constant(Link(rtt_ms=20, up_mbit_per_s=mbit_per_s)))
    assert found["ideal_in_time_share"] == pytest.approx(share, abs=0.11)
    assert found["ideal_up_bytes_per_frame"] == pytest.approx(share * SIZE, abs=0.11 * SIZE)


def test_a_server_that_the_mode_overran_does_not_lower_the_bound() -> None:
    """Waits are of the mode's own making, and so are most requests' times: those of a calm one count."""
    busy = Timings(infer_s=0.01, encode_s=0.005, server_queue_s=1.0, server_infer_s=0.4, total_s=1.5)
    late = [record(n, answered_by="cloud", payload_bytes=SIZE, timings=busy) for n in range(5, 30)]
    assert figures(constant(Link()), [*map(sent, range(5)), *late])["ideal_in_time_share"] == 1


def test_edges_behind_one_modem_share_it() -> None:
    """Two of them, each of which could fill the link, have half of their frames answered in time."""
    link = constant(Link(rtt_ms=20, up_mbit_per_s=1.001))
    assert figures(link, edges=2)["ideal_in_time_share"] == 1
    assert figures(link, edges=2, share=2)["ideal_in_time_share"] == pytest.approx(0.5, abs=0.1)


def test_it_knows_where_in_the_trace_the_run_began() -> None:
    """Nothing passes in the first half of the trace: a run that begins in its second half has all in time."""
    outage, fine = Link(up_mbit_per_s=0), Link()
    trace = Schedule((0.0, 10.0), (outage, fine), period_s=20.0)
    assert figures(trace)["ideal_in_time_share"] == 0
    assert figures(replace(trace, begin_s=10.0))["ideal_in_time_share"] == 1


def test_its_agreement_is_made_of_both_sides_answers() -> None:
    """Here the cloud is always right, and the edge answered none: known only where all are in time."""
    whole = figures(constant(Link()))
    assert math.isclose(whole["ideal_agreement"], 1)
    assert "ideal_agreement" not in figures(constant(Link(up_mbit_per_s=0.5)))
