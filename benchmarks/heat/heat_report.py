"""Runs simulated devices with and without the ladder; writes figures beside goals, and a plot."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.heat.plant import HOT_C, Course, Plant, run
from benchmarks.reports import markdown_table, verdict

HOURS = 6.0
AMBIENTS_C = (35.0, 45.0, 52.0)
MOST_HOT = {35.0: 0.0, 45.0: 0.0, 52.0: 0.02}
"""Goals: the largest share of the time above 80 °C."""
MOST_CHANGES_PER_H = 8.0
BACK_S = 20 * 60.0
CHOSEN = Plant("the one the ladder was chosen on")
OTHERS = (
    Plant("reads with noise, slow swings", noise_c=0.5, swing_s=7200.0),
    Plant("small: hot soon", k_per_w=8.0, tau_s=60.0, frame_j=0.18, noise_c=0.5),
    Plant("large: hot late", k_per_w=6.0, tau_s=150.0, frame_j=0.27, noise_c=0.5),
)
"""Devices that nothing was chosen on."""


def write_report(out: Path) -> Path:
    """Run all; return the path of the report. The plot is beside it."""
    out.mkdir(parents=True, exist_ok=True)
    courses = {ambient_c: run(CHOSEN, ambient_c, HOURS) for ambient_c in AMBIENTS_C}
    headings = ("device", "ambient", "above 80 °C without", "with", "frames/s of 14", "changes/h", "flapping")
    rows = [_row(plant, ambient_c) for plant in (CHOSEN, *OTHERS) for ambient_c in AMBIENTS_C]
    text = "\n\n".join(
        (
            "# The ladder on simulated devices",
            f"{HOURS:.0f} h each, ambient ±6 °C; the constants of the devices are invented.",
            markdown_table(("measure", "goal", "figure", ""), _goals(courses)),
            markdown_table(headings, rows),
            "![Temperature and step](heat.png)",
        )
    )
    _plot(courses, out / "heat.png")
    path = out / "report.md"
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


def _goals(courses: dict[float, Course]) -> Iterator[tuple[str, str, str, str]]:
    for ambient_c, course in courses.items():
        most = MOST_HOT[ambient_c]
        measure = f"time above {HOT_C:.0f} °C at {ambient_c:.0f} °C"
        yield measure, f"<= {most:.0%}", f"{course.hot_share:.2%}", verdict(met=course.hot_share <= most)
    for ambient_c in (52.0, 45.0):
        most, others = MOST_HOT[ambient_c], max(run(plant, ambient_c, HOURS).hot_share for plant in OTHERS)
        measure = f"the same at {ambient_c:.0f} °C, worst of the other devices"
        yield measure, f"<= {most:.0%}", f"{others:.2%}", verdict(met=others <= most)
    changes = max(course.changes_per_h for course in courses.values())
    yield (
        "changes an hour",
        f"<= {MOST_CHANGES_PER_H:.0f}",
        f"{changes:.1f}",
        verdict(met=changes <= MOST_CHANGES_PER_H),
    )
    flaps = sum(course.quick_changes for course in courses.values())
    yield "steps up within 2 min of one down", "0", str(flaps), verdict(met=not flaps)
    back_s = back_at_full_rate_s()
    yield (
        "back at the full rate after the heat",
        "<= 20 min",
        f"{back_s / 60:.0f} min",
        verdict(met=back_s <= BACK_S),
    )


def back_at_full_rate_s() -> float:
    """Seconds from the end of an hour at 52 °C, when it is 30 °C colder at once, to the full frame rate."""
    course = run(CHOSEN, 52.0, 2.0, cools_c=30.0)
    return next(
        (
            now_s - 3600.0
            for now_s, step in zip(course.times_s, course.steps, strict=True)
            if now_s > 3600 and not step
        ),
        float("inf"),
    )


def _row(plant: Plant, ambient_c: float) -> tuple[str, ...]:
    without, course = run(plant, ambient_c, HOURS, ladder=False), run(plant, ambient_c, HOURS)
    return (
        plant.name,
        f"{ambient_c:.0f} °C",
        f"{without.hot_share:.0%}",
        f"{course.hot_share:.2%}",
        f"{course.fps:.1f}",
        f"{course.changes_per_h:.1f}",
        str(course.quick_changes),
    )


def _plot(courses: dict[float, Course], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(len(courses), 1, sharex=True)
    for panel, (ambient_c, course) in zip(panels, courses.items(), strict=True):
        without = run(CHOSEN, ambient_c, HOURS, ladder=False)
        hours = [now_s / 3600 for now_s in course.times_s]
        panel.plot(hours, without.temperatures_c, color="tab:gray", linewidth=0.8, label="without the ladder")
        panel.plot(hours, course.temperatures_c, color="tab:red", label="with it")
        panel.axhline(HOT_C, color="black", linewidth=0.6, linestyle="--")
        panel.set_ylabel(f"°C at {ambient_c:.0f} °C")
        steps = panel.twinx()
        steps.step(hours, course.steps, color="tab:blue", alpha=0.6, where="post")
        steps.set_ylim(0, 12)
        steps.set_yticks(range(7))
        steps.set_ylabel("step", color="tab:blue")
    panels[0].legend(loc="lower right")
    panels[-1].set_xlabel("hours")
    figure.savefig(path, dpi=80)
