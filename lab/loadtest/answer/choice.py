"""Which mode to take, what would be better, and what stands between."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from spillover.lab.loadtest.answer.parts import Month
from spillover.lab.loadtest.buyer import BuyerConfig
from spillover.lab.loadtest.results import Cell

GOOD_ENOUGH = 0.01
"""Of the modes within the limits the cheapest is taken whose quality is within this of the best one's."""
MANY = 0.02
"""So many of the frames, wanted and not had, are what keeps a mode from more."""
BUDGET, ON_TIME, QUALITY = "budget", "on time", "quality"
LINK, SERVER, DEVICE, RULE = "link", "server", "device", "rule"
_DEVICES = "no time left"
"""The reason of a frame whose deadline had passed before the cloud could be asked."""
_SERVERS = frozenset({"pushback", "resource_exhausted", "internal", "stream_refused", "reference_lost"})
"""Reasons for which a server is to blame, whatever it has to do."""


def judged(month: Month, buyer: BuyerConfig) -> Month:
    """The month with the limits that it breaks."""
    broken = {
        BUDGET: buyer.gb_month_camera is not None and month.gb > buyer.gb_month_camera,
        ON_TIME: month.on_time_share < buyer.least_on_time,
        QUALITY: month.quality < buyer.least_quality,
    }
    return msgspec.structs.replace(month, fails=[name for name, is_broken in broken.items() if is_broken])


def choose(months: Sequence[Month]) -> Month | None:
    """The cheapest within the limits that is as good as the best of them; None where none is within."""
    allowed = [month for month in months if not month.fails]
    if not allowed:
        return None
    best = max(month.quality for month in allowed)
    good = [month for month in allowed if month.quality >= best - GOOD_ENOUGH]
    return min(good, key=lambda month: (month.costs.total, month.gb, -month.quality))


def closest(months: Sequence[Month]) -> Month:
    """The mode that breaks fewest limits; of these the best."""
    return min(months, key=lambda month: (len(month.fails), -month.quality))


def next_step(chosen: Month, months: Sequence[Month], spent: Callable[[Month], float]) -> Month | None:
    """The mode that buys most quality for each unit of `spent` beyond the chosen one; None if none does."""
    more = [
        month
        for month in months
        if month.quality > chosen.quality + GOOD_ENOUGH / 2 and spent(month) > spent(chosen)
    ]
    return max(more, key=lambda month: points_a_unit(chosen, month, spent), default=None)


def points_a_unit(chosen: Month, other: Month, spent: Callable[[Month], float]) -> float:
    """Percentage points of quality for each unit of `spent`, from one mode to the other."""
    return (other.quality - chosen.quality) * 100 / (spent(other) - spent(chosen))


def what_binds(taken: Month, months: Sequence[Month], cells: Mapping[str, Cell]) -> tuple[str, Month | None]:
    """What keeps the mode from more quality, and the better mode that it keeps from being taken, if any."""
    better = [month for month in months if month.quality > taken.quality + GOOD_ENOUGH and month.fails]
    if better and not taken.fails:
        best = max(better, key=lambda month: month.quality)
        return _of(best.fails[0], best, cells), best
    if taken.fails:
        return _of(taken.fails[0], taken, cells), None
    return (cause_of(cells[taken.mode]) if taken.degraded_share > MANY else RULE), None


def _of(broken: str, month: Month, cells: Mapping[str, Cell]) -> str:
    """What is behind a broken limit; more late answers than frames not had from the cloud: the device."""
    if broken != ON_TIME:
        return broken
    return DEVICE if 1 - month.on_time_share > month.degraded_share else cause_of(cells[month.mode])


def cause_of(cell: Cell) -> str:
    """Why most frames that were wanted from the cloud were not had: `budget`, `server`, `link` or `device`.

    A frame whose answer came, or would have come, too late counts for the side that takes more of an answer's
    time: the server's wait and network, or all the rest of it. Where nothing was wanted, it is the device.
    """
    answer_ms = cell.figure("cloud_answer_ms") or 0.0
    in_server_ms = (cell.figure("server_queue_ms") or 0.0) + (cell.figure("server_infer_ms") or 0.0)
    slower = SERVER if in_server_ms > answer_ms - in_server_ms else LINK
    counts = dict.fromkeys((LINK, SERVER, BUDGET, DEVICE), 0)
    for reason, count in cell.reasons.items():
        named = {_DEVICES: DEVICE} | dict.fromkeys(_SERVERS, SERVER)
        side = BUDGET if "budget" in reason else named.get(reason, slower)
        counts[side] += count
    return max(counts, key=lambda side: counts[side]) if any(counts.values()) else DEVICE
