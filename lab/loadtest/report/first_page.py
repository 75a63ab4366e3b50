"""The first page: verdicts in words, and each mode as a month of one camera; for page, text and log."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from spillover.lab.loadtest.answer.choice import BUDGET, ON_TIME, QUALITY
from spillover.lab.loadtest.answer.numbers import digits, percent
from spillover.lab.loadtest.answer.parts import COST_PARTS, Month, Verdict
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.results import Report

Show = Callable[[Month], str]

_NONE = (
    "There is no verdict: no scenario of real edges that the buyer asks about has a quality to be judged by."
)
_MEANINGS = {
    "quality": "mean over the cameras; {measure}",
    "streaming": MEASURES["streaming"].meaning,
    "confirmed": f"{MEASURES['confirmed_share'].title}, {MEASURES['confirmed_share'].meaning}",
    "on time": f"{MEASURES['on_time_share'].meaning}, {{deadline_ms:g}} ms",
    "sent": MEASURES["sent_share"].meaning,
    "degraded": MEASURES["degraded_share"].meaning,
    "GB": "10^9 bytes on the wire of one camera in a month, headers and answers included",
    "{currency}": "costs of one camera in a month; the columns behind it are its parts",
    "data": "traffic both ways",
    "SIM": "of the camera's link, for modes that ask the cloud",
    "device": "its price over {months:g} months",
    "server": "the camera's share of whole cores and GPUs, at most 70 % busy, rented while the cameras work",
    "power": "the device's electricity",
    "kWh": "energy of the device and of its share of the server in a month",
}


_BROKEN = {BUDGET: "over budget", ON_TIME: "too late", QUALITY: "too little"}


@dataclass(frozen=True, slots=True)
class MonthTable:
    """A verdict with its table: headings, rows, and by row whether the mode is the one to take."""

    title: str
    sentences: Sequence[str]
    """The first says what to take."""
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    chosen: Sequence[bool]


@dataclass(frozen=True, slots=True)
class FirstPage:
    """All verdicts, what they rest on, and what their words mean."""

    tables: Sequence[MonthTable]
    basis: str
    glossary: Sequence[tuple[str, str]]


def first_page(report: Report) -> FirstPage:
    """The first page of a report."""
    tables = [_table(verdict, report) for verdict in report.verdicts]
    if not tables:
        return FirstPage((), _NONE, ())
    buyer = report.config["buyer"]
    repeats = {len(cell.runs) for cell in report.cells if cell.kind == "real"}
    runs = (
        "one run, which says nothing of how much it varies: set repeats to 3 for a range"
        if max(repeats) == 1
        else f"medians of {max(repeats)} runs"
    )
    basis = (
        f"A camera and month: {buyer['hours_a_day']:g} hours a day on 30 days, from windows of real edges on "
        f"this machine. Figures are of {runs}."
    )
    shown = {heading for table in tables for heading in table.headings}
    measures = dict.fromkeys(verdict.measure for verdict in report.verdicts)
    words = {
        "measure": " or ".join(f"{MEASURES[name].title}: {MEASURES[name].meaning}" for name in measures),
        "deadline_ms": report.config["deadline_s"] * 1e3,
        "currency": buyer["currency"],
        "months": buyer["months"],
    }
    named = ((word.format(**words), text.format(**words)) for word, text in _MEANINGS.items())
    glossary = [(word, text) for word, text in named if word in shown]
    return FirstPage(tables, basis, glossary)


def _table(verdict: Verdict, report: Report) -> MonthTable:
    columns = list(_columns(verdict.months, report.config["buyer"]["currency"]))
    rows = [[show(month) for _, show in columns] for month in verdict.months]
    chosen = [month.mode == verdict.chosen for month in verdict.months]
    edges = f"{verdict.edges} camera{'s' if verdict.edges > 1 else ''}"
    return MonthTable(
        title=f"{verdict.link}, {edges}: {verdict.scenario}",
        sentences=verdict.sentences,
        headings=["mode", "", *(heading for heading, _ in columns)],
        rows=[
            [month.mode, _word(month, is_chosen), *row]
            for row, month, is_chosen in zip(rows, verdict.months, chosen, strict=True)
        ],
        chosen=chosen,
    )


def _columns(months: Sequence[Month], currency: str) -> Iterator[tuple[str, Show]]:
    """Those of which a mode has something."""
    yield "quality", lambda m: percent(m.quality)
    if any(month.streaming is not None for month in months):
        yield "streaming", lambda m: _percent(m.streaming)
    if any(month.confirmed_share is not None for month in months):
        yield "confirmed", lambda m: _percent(m.confirmed_share)
    yield "on time", lambda m: percent(m.on_time_share)
    yield "sent", lambda m: percent(m.sent_share)
    yield "degraded", lambda m: percent(m.degraded_share)
    yield "GB up", lambda m: digits(m.up_gb)
    yield "GB down", lambda m: digits(m.down_gb)
    yield "GB", lambda m: digits(m.gb)
    if any(month.costs.total for month in months):
        yield currency, lambda m: digits(m.costs.total, 2)
        yield from ((heading, _cost(name)) for name, heading in COST_PARTS.items())
    if any(month.kwh for month in months):
        yield "kWh", lambda m: digits(m.kwh)


def _cost(part: str) -> Show:
    return lambda m: digits(getattr(m.costs, part), 2)


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _word(month: Month, is_chosen: bool) -> str:
    return "take this" if is_chosen else ", ".join(_BROKEN[name] for name in month.fails)
