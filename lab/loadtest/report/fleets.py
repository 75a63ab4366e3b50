"""The table of extrapolated fleets, for page and log."""

from spillover.lab.loadtest.answer.numbers import digits
from spillover.lab.loadtest.answer.parts import COST_PARTS
from spillover.lab.loadtest.results import Fleet


def fleet_table(fleet: Fleet, currency: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; of the parts of a month's costs those that are not nothing."""
    parts = [
        (name, heading)
        for name, heading in COST_PARTS.items()
        if any(getattr(p.month, name) for p in fleet.points)
    ]
    headings = ["edges", "requests/s", "servers", "wait p99, ms", "Mbit/s up", "Mbit/s down"]
    headings += [f"{currency} a month", *(heading for _, heading in parts)] if parts else []
    rows = []
    for p in fleet.points:
        row = [f"{p.edges:,}", f"{p.requests_per_s:,.0f}", f"{p.servers:,}", f"{p.wait_p99_ms:,.1f}"]
        row += [digits(p.up_mbit_per_s), digits(p.down_mbit_per_s)]
        row += (
            [f"{p.month.total:,.0f}", *(f"{getattr(p.month, name):,.0f}" for name, _ in parts)]
            if parts
            else []
        )
        rows.append(row)
    return headings, rows
