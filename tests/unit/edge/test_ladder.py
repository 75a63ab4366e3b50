"""The ladder: up when it is too hot or short, down when it is well; simulated devices and any reading."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.heat.heat_report import AMBIENTS_C, CHOSEN, MOST_CHANGES_PER_H, MOST_HOT, back_at_full_rate_s
from benchmarks.heat.plant import run
from spillover.edge.health.keeper import Keeper
from spillover.edge.health.ladder import (
    DOWN_S,
    GAP_S,
    HIGHEST,
    SERIOUS_UP_S,
    STEPS,
    UP_S,
    Cause,
    Ladder,
    Step,
)
from spillover.edge.health.readings import LadderState, Readings, Throttling

WALL_C = 85.0
PERIOD_S = 5.0
HOT, COOL = Readings(temperature_celsius=78.0), Readings(temperature_celsius=60.0)


def after(ladder: Ladder, seconds: float, readings: Readings, now_s: float | None = None) -> Ladder:
    """The ladder with the same reading every 5 s for so long."""
    now_s = (ladder.at_s or 0.0) + PERIOD_S if now_s is None else now_s
    for number in range(int(seconds / PERIOD_S) + 1):
        ladder = ladder.after(readings, now_s + number * PERIOD_S, WALL_C)
    return ladder


@pytest.mark.parametrize("ambient_c", AMBIENTS_C)
def test_a_device_in_the_heat_stays_below_the_wall(ambient_c: float) -> None:
    """Above 80 °C without the ladder, below with it; and no step up follows soon on one down."""
    assert run(CHOSEN, ambient_c, 2.0, ladder=False).hot_share > 0.15
    course = run(CHOSEN, ambient_c, 2.0)
    assert course.hot_share <= MOST_HOT[ambient_c]
    assert (course.changes_per_h <= MOST_CHANGES_PER_H, course.quick_changes) == (True, 0)


def test_the_full_rate_comes_back_by_itself() -> None:
    """Once the heat is over, in less time than all the steps together take."""
    assert back_at_full_rate_s() <= (len(STEPS) - 1) * DOWN_S + 120


@pytest.mark.parametrize(
    ("readings", "cause", "words"),
    [
        (HOT, Cause.HEAT, "78.0 °C"),
        (Readings(under_voltage=True, supply_volts=4.51), Cause.VOLTAGE, "4.51 V"),
        (Readings(memory_pressure=0.2), Cause.MEMORY, "20%"),
        (Readings(memory_available_bytes=40_000_000, memory_size_bytes=1_000_000_000), Cause.MEMORY, "40 MB"),
        (Readings(memory_limit_bytes=100, memory_limit_used_bytes=97), Cause.MEMORY, "97%"),
    ],
)
def test_each_cause_leads_up_with_its_reason(readings: Readings, cause: Cause, words: str) -> None:
    """One step after 30 s, and as far as that cause may lead; down by itself once it is over."""
    assert after(Ladder(), UP_S - PERIOD_S, readings).step == 0
    first = after(Ladder(), UP_S, readings)
    assert (first.step, first.cause) == (1, cause)
    assert words in first.reason
    highest = after(first, 20 * UP_S, readings)
    assert highest.step == HIGHEST[cause]
    well = Readings(under_voltage=False, memory_pressure=0.0, temperature_celsius=40.0)
    down = after(highest, 7 * DOWN_S, well)
    assert (down.step, down.cause) == (0, None)


@pytest.mark.parametrize(
    "readings",
    [
        Readings(temperature_celsius=84.0),
        Readings(temperature_celsius=76.0, throttling=Throttling(now=("throttled",))),
        Readings(throttling=Throttling(now=("throttled",))),
    ],
)
def test_what_is_serious_leads_up_two_steps_at_once(readings: Readings) -> None:
    """After 10 s: near the wall, or where the firmware throttles already, whatever the sensor says."""
    assert after(Ladder(), SERIOUS_UP_S, readings).step == 2


def test_the_firmware_throttles_a_cool_device_for_want_of_voltage() -> None:
    """That is not heat."""
    readings = Readings(temperature_celsius=50.0, throttling=Throttling(now=("throttled",)))
    assert after(Ladder(), 300, readings).step == 0


def test_an_ended_process_counts_for_a_minute() -> None:
    """The kernel's count since boot says nothing until it grows."""
    ladder = after(Ladder(), 60, Readings(oom_kills=3))
    assert ladder.step == 0
    ladder = after(ladder, SERIOUS_UP_S, Readings(oom_kills=4))
    assert (ladder.step, ladder.cause) == (2, Cause.MEMORY)
    assert after(ladder, 120, Readings(oom_kills=4)).step <= HIGHEST[Cause.MEMORY]


def test_a_sensor_that_vanishes_neither_drives_up_nor_holds() -> None:
    """A gap of a reading changes nothing; one that stays leads back down."""
    ladder = after(after(Ladder(), 20, HOT), 0, Readings())
    assert after(ladder, 0, HOT).step == 1
    gone = after(after(Ladder(), 20, HOT), 120, Readings())
    assert gone.step == 0
    assert after(gone, 0, HOT).step == 0
    assert after(after(Ladder(), 200, HOT), 7 * DOWN_S, Readings()).step == 0


@pytest.mark.parametrize("jump_s", [GAP_S + PERIOD_S, 1e6, -50.0])
def test_a_clock_that_jumps_is_no_time_of_heat_or_rest(jump_s: float) -> None:
    """What was not watched does not count, in either direction."""
    hot = after(Ladder(), 20, HOT)
    assert after(hot, 0, HOT, (hot.at_s or 0.0) + jump_s).step == hot.step == 0
    high = after(after(Ladder(), 200, HOT), 20, COOL)
    assert after(high, 0, COOL, (high.at_s or 0.0) + jump_s).step == high.step > 0


readings = st.builds(
    Readings,
    temperature_celsius=st.none() | st.floats(-50, 150),
    under_voltage=st.none() | st.booleans(),
    memory_pressure=st.none() | st.floats(0, 1),
    oom_kills=st.none() | st.integers(0, 5),
    memory_limit_bytes=st.none() | st.integers(0, 100),
    memory_limit_used_bytes=st.none() | st.integers(0, 100),
)


@given(st.lists(st.tuples(readings, st.floats(-100, 100)), max_size=60))
def test_whatever_is_read_the_ladder_holds(course: list[tuple[Readings, float]]) -> None:
    """At most two steps up at a time, with a cause; one down, and only when well; never beyond its ends."""
    ladder, now_s = Ladder(), 0.0
    for found, passed_s in course:
        now_s += passed_s
        before, ladder = ladder, ladder.after(found, now_s, WALL_C)
        assert 0 <= ladder.step < len(STEPS)
        assert -1 <= ladder.step - before.step <= 2
        assert (ladder.cause is None) == (ladder.step == 0)
        if ladder.step < before.step:
            assert not found.under_voltage
            assert (found.temperature_celsius or 0.0) <= WALL_C - 14
        if ladder.step > HIGHEST[Cause.MEMORY] and ladder.step > before.step:
            assert ladder.cause is Cause.HEAT


@settings(max_examples=20)
@given(st.lists(readings, max_size=30))
def test_rest_always_leads_back(course: list[Readings]) -> None:
    """From wherever it is, when all is well for long enough."""
    ladder = Ladder()
    for number, found in enumerate(course):
        ladder = ladder.after(found, number * PERIOD_S, WALL_C)
    assert after(ladder, len(STEPS) * DOWN_S + 120, Readings(temperature_celsius=30.0)).step == 0


def test_the_keeper_relieves_each_part_and_tells() -> None:
    """Each change once, with cause and figure, to all that can do less; and the state for whoever asks."""
    now_s, steps, told = 0.0, [], []
    keeper = Keeper(
        lambda: HOT if now_s < 100 else COOL,
        WALL_C,
        lambda state, before: told.append((before, state.step, state.cause)),
        lambda: now_s,
    )

    def relief(step: Step, cause: str, why: str) -> None:
        steps.append((step.share, cause, why))

    keeper.relieve(relief)
    while now_s < 800:
        keeper.look()
        now_s += PERIOD_S
    assert told == [
        (0, 1, "heat"),
        (1, 2, "heat"),
        (2, 3, "heat"),
        (3, 2, "heat"),
        (2, 1, "heat"),
        (1, 0, ""),
    ]
    assert [share for share, _, _ in steps] == [1.0, 0.75, 0.5, 0.75, 1.0, 1.0]
    assert steps[0][1:] == ("heat", "heat: 78.0 °C")
    assert keeper.state() == LadderState(
        step=0, does="everything", cause="", reason="well for 180 s at 60.0 °C", age_s=keeper.state().age_s
    )
