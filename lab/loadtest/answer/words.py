"""The verdict in sentences."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from spillover.lab.loadtest.answer.choice import (
    BUDGET,
    DEVICE,
    GOOD_ENOUGH,
    LINK,
    ON_TIME,
    QUALITY,
    RULE,
    SERVER,
    next_step,
    points_a_unit,
)
from spillover.lab.loadtest.answer.numbers import digits, money, percent
from spillover.lab.loadtest.answer.parts import Month
from spillover.lab.loadtest.buyer import BuyerConfig
from spillover.lab.loadtest.results import Cell

_NEARLY_ALL = 0.98
_MANY_REASONS = 2
_WHAT = {
    BUDGET: "the budget",
    LINK: "the link",
    SERVER: "the server",
    DEVICE: "the device, here this machine",
    QUALITY: "quality: no mode measured here is better",
}
_BEYOND_ONE = f"No mode measured here is better by more than {GOOD_ENOUGH * 100:.0f} point."


class Words:
    """The sentences about one link with one number of cameras."""

    def __init__(
        self,
        buyer: BuyerConfig,
        measure: str,
        months: Sequence[Month],
        cells: Mapping[str, Cell],
        absent: Sequence[str] = (),
    ) -> None:
        self._buyer = buyer
        self._measure = measure
        self._months = months
        self._cells = cells
        self._absent = absent
        self._has_prices = any(month.costs.total for month in months)

    def verdict(self, where: str, taken: Month, binds: str, better: Month | None) -> Iterator[str]:
        """What to take, what else there is, what binds, what more would buy, and where it breaks even."""
        so_far = "of the modes measured so far: " if self._absent else ""
        yield f"Over {where}{self._limits()} {so_far}{self._taken(taken)}"
        if self._absent:
            yield f"The test ended before it had measured {', '.join(self._absent)}: this is no verdict yet."
        others = [month for month in self._months if month.kind != "hybrid" and month is not taken]
        yield from map(self._other, others)
        yield self._limit(taken, binds, better)
        if not taken.fails:
            yield from self._more(taken)
        if self._has_prices:
            yield from self._break_even(taken)
            yield self._of_all(taken)

    def _taken(self, taken: Month) -> str:
        reached = f"{self._reach(taken)} for {self._price(taken)}"
        if not taken.fails:
            return f"take {taken.mode}: it reaches {reached} a month and camera."
        broken = ", ".join(self._broken(name) for name in taken.fails)
        return f"no mode keeps to the limits. {taken.mode} comes closest, with {reached}; it breaks {broken}."

    def _reach(self, month: Month) -> str:
        quality = percent(month.quality)
        return (
            f"an accuracy of {quality}"
            if self._measure == "accuracy"
            else f"{quality} of the cloud's answers"
        )

    def _price(self, month: Month) -> str:
        cost = f" and {money(month.costs.total, self._buyer.currency)}" if self._has_prices else ""
        return f"{digits(month.gb)} GB{cost}"

    def _limits(self) -> str:
        buyer = self._buyer
        parts = [f"{buyer.gb_month_camera:g} GB a month and camera"] if buyer.gb_month_camera else []
        parts += [f"a quality of {percent(buyer.least_quality)} or more"] if buyer.least_quality else []
        return f", with {' and '.join(parts)}," if parts else ""

    def _other(self, month: Month) -> str:
        if month.kind == "edge_only":
            return f"{month.mode} reaches {percent(month.quality)} for {self._price(month)}."
        if 0 < month.sent_share < _NEARLY_ALL:
            return (
                f"{month.mode} would need {digits(month.every_frame_gb)} GB for every frame; it could send "
                f"{percent(month.sent_share)}, and reaches {percent(month.quality)} for {self._price(month)}."
            )
        return f"{month.mode} would need {self._price(month)}, and reaches {percent(month.quality)}."

    def _broken(self, name: str) -> str:
        return {
            BUDGET: "the budget",
            ON_TIME: f"{percent(self._buyer.least_on_time)} on time",
            QUALITY: "the least quality",
        }[name]

    def _limit(self, taken: Month, binds: str, better: Month | None) -> str:
        if better is not None:
            late = f", but {percent(better.on_time_share)} on time" if ON_TIME in better.fails else ""
            reached = f"{better.mode} would reach {percent(better.quality)} for {self._price(better)}{late}"
            return f"The limit is {_WHAT[binds]}: {reached}."
        if binds == RULE and taken.kind == "hybrid":
            return (
                f"The limit is the rule: it sends {percent(taken.sent_share)} of the frames, and link, "
                "server and budget let them pass."
            )
        if binds == RULE:
            return _BEYOND_ONE
        if binds in {LINK, SERVER, DEVICE}:
            most = sorted(self._cells[taken.mode].reasons.items(), key=lambda item: -item[1])[:_MANY_REASONS]
            why = f" ({', '.join(reason for reason, _ in most)})" if most else ""
            late = f"{percent(taken.on_time_share)} of the frames have an answer by the deadline"
            missed = f"{percent(taken.degraded_share)} were wanted from the cloud and not had in time{why}"
            return f"The limit is {_WHAT[binds]}: {late}, and {missed}."
        return f"The limit is {_WHAT[binds]}."

    def _more(self, taken: Month) -> Iterator[str]:
        """What the next gigabyte and the next unit of money buy."""
        units: list[tuple[str, Callable[[Month], float]]] = [("GB", lambda month: month.gb)]
        if self._has_prices:
            units.append((self._buyer.currency, lambda month: month.costs.total))
        steps = [(unit, spent, next_step(taken, self._months, spent)) for unit, spent in units]
        bought = [
            f"the next {unit} buys {digits(points_a_unit(taken, step, spent))} points of quality, by "
            f"{step.mode} ({percent(step.quality)} for {self._price(step)})"
            for unit, spent, step in steps
            if step is not None
        ]
        if bought:
            yield f"A month and camera: {'; '.join(bought)}."
        else:
            yield "More gigabytes or money buy nothing: no mode measured here is better for more."

    def _break_even(self, taken: Month) -> Iterator[str]:
        """At which price of a gigabyte a hybrid mode and each baseline cost the same."""
        hybrids = [month for month in self._months if month.kind == "hybrid"]
        if hybrids:
            best = max(hybrids, key=lambda month: (month is taken, not month.fails, month.quality))
            yield from (self._even(best, other) for other in self._months if other.kind == "cloud_only")

    def _even(self, hybrid: Month, other: Month) -> str:
        dearer = (hybrid.costs.total - hybrid.costs.data) - (other.costs.total - other.costs.data)
        saved_gb = other.gb - hybrid.gb
        if dearer * saved_gb <= 0:
            less, more = (hybrid, other) if dearer <= 0 and saved_gb >= 0 else (other, hybrid)
            return f"{less.mode} costs less than {more.mode} at any price of a GB."
        less, more = (other, hybrid) if saved_gb > 0 else (hybrid, other)
        price = money(dearer / saved_gb, self._buyer.currency)
        return f"Break-even at {price} a GB: below it {less.mode} costs less than {more.mode}, above it more."

    def _of_all(self, taken: Month) -> str:
        buyer, many = self._buyer, self._buyer.cameras
        monthly = money((taken.costs.total - taken.costs.device) * many, buyer.currency)
        once = money(taken.costs.device * buyer.months * many, buyer.currency)
        whole = [(taken.server_cores, "server core"), (taken.gpus, "GPU")]
        servers = [f"{count} {what}{'s' if count > 1 else ''}" for count, what in whole if count]
        parts = [
            f"{once} once for devices",
            f"{monthly} a month",
            f"{digits(taken.gb * many)} GB a month",
            *servers,
        ]
        return f"All {many:,} cameras with {taken.mode}: {', '.join(parts)}."
