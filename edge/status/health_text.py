"""The lines of a status for people that say how the device is."""

from collections.abc import Iterator

from spillover.edge.health.ladder import STEPS
from spillover.edge.health.readings import DiskSpace, LadderState, Readings, Work
from spillover.edge.status.values import Status
from spillover.edge.status.words import duration, held_back, size


def health_lines(status: Status) -> Iterator[tuple[str, str]]:
    """The step of the ladder above the lowest, what the model does, and the readings."""
    if status.ladder and status.ladder.step:
        yield "LADDER", ladder_words(status.ladder)
    if status.work and status.work.mean_s is not None:
        yield "inference", _work(status.work)
    yield from _health(status.health)


def ladder_words(ladder: LadderState) -> str:
    """The step, and why."""
    why = f"for {duration(ladder.age_s)} because of {ladder.cause}: {ladder.reason}"
    return f"step {ladder.step} of {len(STEPS) - 1}, {ladder.does}, {why}"


def _work(work: Work) -> str:
    took = f"{(work.mean_s or 0.0) * 1000:.1f} ms mean, {(work.p99_s or 0.0) * 1000:.1f} ms p99"
    return f"{took}, {work.per_s:.1f} a second; {work.inferences} in all"


def _health(health: Readings) -> Iterator[tuple[str, str]]:
    if health.temperature_celsius is not None or health.throttling is not None:
        yield "heat", ", ".join(_heat(health))
    if health.cpu_share is not None:
        own = f", this process {health.process_cpu_share:.0%}" if health.process_cpu_share is not None else ""
        load = f", load {health.load:.2f}" if health.load is not None else ""
        yield "processor", f"{health.cpu_share:.0%} busy{own}{load}"
    if health.process_anon_bytes is not None:
        resident = health.process_anon_bytes + (health.process_file_bytes or 0)
        left = health.memory_available_bytes
        free = f", {size(left)} available" if left is not None else ""
        limit = ""
        if health.memory_limit_bytes is not None:
            taken = size(health.memory_limit_used_bytes or 0)
            limit = f"; {taken} of a limit of {size(health.memory_limit_bytes)}"
        killed = f"; ENDED FOR WANT OF MEMORY: {health.oom_kills}" if health.oom_kills else ""
        own = f"this process {size(resident)} ({size(health.process_anon_bytes)} its own)"
        yield "memory", f"{own}{free}{limit}{killed}"
    if waited := [f"{one} {share:.0%}" for one, share in _pressures(health) if share]:
        yield "waits", f"of the last 10 s for {', '.join(waited)}"
    if health.power_estimate_watts is not None:
        yield "power", f"about {health.power_estimate_watts:.1f} W, an estimate"
    for disk in health.disks:
        yield "disk", _disk(disk)


def _pressures(health: Readings) -> Iterator[tuple[str, float | None]]:
    yield from (
        ("cores", health.cpu_pressure),
        ("memory", health.memory_pressure),
        ("disks", health.io_pressure),
    )


def _heat(health: Readings) -> Iterator[str]:
    if health.temperature_celsius is not None:
        yield f"{health.temperature_celsius:.0f} °C"
    if health.fan_rpm is not None:
        yield f"fan {health.fan_rpm} turns a minute"
    if health.supply_volts is not None:
        yield f"supply {health.supply_volts:.2f} V"
    if health.throttling is not None:
        yield f"held back now: {held_back(health.throttling.now) or 'no'}"
        if health.throttling.since_boot:
            yield f"since boot: {held_back(health.throttling.since_boot)}"
    elif health.under_voltage:
        yield "UNDER-VOLTAGE"


def _disk(disk: DiskSpace) -> str:
    return f"{disk.folder}: {size(disk.free_bytes)} of {size(disk.size_bytes)} free"
