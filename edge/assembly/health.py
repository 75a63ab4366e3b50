"""Builds what looks after the device: the reading, the ladder with all that it relieves, and the report."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.edge.config.paths import written_folders
from spillover.edge.device import Device, Run
from spillover.edge.health.keeper import Keeper, Relief
from spillover.edge.health.ladder import Step
from spillover.edge.health.monitor import HealthMonitor, Power
from spillover.edge.health.readings import HealthReport, LadderState
from spillover.edge.health.sensors import wall_celsius
from spillover.edge.results.delivery import Event
from spillover.edge.runtime.parts import Worker
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.health_report import HealthFile, HealthReporter


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """What looks after the device, as one part of the daemon. What a configuration does without is None."""

    monitor: HealthMonitor
    keeper: Keeper | None
    reporter: HealthReporter
    file: HealthFile | None
    workers: tuple[Worker, ...]

    def start(self) -> None:
        """Begin to read, to step, and to report."""
        if self.file:
            self.file.start()
        for worker in self.workers:
            worker.start()

    def stop(self, deadline_s: float) -> bool:
        """End; one that waits for a disk is left behind. `deadline_s` is monotonic."""
        if self.keeper:
            self.keeper.stop()
        self.reporter.stop()
        ended = [worker.ended_by(deadline_s) for worker in self.workers]
        if self.file:
            ended.append(self.file.stop(deadline_s))
        return all(ended)


def build_health(
    run: Run,
    device: Device,
    streams: Sequence[CameraStream],
    use: Callable[[int], None],
    root: Path = Path("/"),
) -> Health:
    """Build it; `use` has a variant of the model answer. `root` stands for `/`.

    Raises:
        ConfigError: `health.file` can never be written.
    """
    config, power = run.config.health, run.config.health.power
    monitor = HealthMonitor(
        written_folders(run.config),
        root,
        cores=os.cpu_count() or 1,
        power=Power(power.idle_watts, power.busy_watts) if power else None,
    )
    file = HealthFile(config.file, run.on_end) if config.file else None
    keeper = None
    told: list[Callable[[], None]] = []

    def stepped(now: LadderState, before: int) -> None:
        device.reporting.events.stepped(now, before)
        for tell in told:
            tell()

    if config.ladder:
        wall_c = wall_celsius(root / "sys") if config.wall_c is None else config.wall_c
        keeper = Keeper(monitor.sample, wall_c, stepped)
        keeper.relieve(_slower(streams))
        keeper.relieve(lambda step, _cause, _why: use(step.variant))

    def tell(event: Event) -> None:
        device.reporting.outlets.notice(event)
        if file:
            file.put(event)

    reporter = HealthReporter(_report(run, device, monitor, keeper), tell)
    told.append(reporter.now)
    workers = [Worker("health report", reporter.run, run.on_end)]
    workers += [Worker("health", keeper.run, run.on_end)] if keeper else []
    return Health(monitor, keeper, reporter, file, tuple(workers))


def _slower(streams: Sequence[CameraStream]) -> Relief:
    def slow_down(step: Step, cause: str, why: str) -> None:
        del why
        for stream in streams:
            stream.slow_down(step.share, cause or "heat")

    return slow_down


def _report(
    run: Run, device: Device, monitor: HealthMonitor, keeper: Keeper | None
) -> Callable[[], HealthReport]:
    began_s = time.monotonic()
    before = (0.0, 0)

    def report() -> HealthReport:
        nonlocal before
        readings, work = monitor.latest(), device.reporting.events.work()
        joules = readings.energy_estimate_joules
        done = work.inferences - before[1]
        per_frame = (joules - before[0]) / done if joules is not None and done > 0 else None
        before = (joules or 0.0, work.inferences)
        return HealthReport(
            device_id=run.config.device_id,
            boot_id=run.boot_id,
            uptime_s=round(time.monotonic() - began_s, 3),
            model=str(device.predictor.model_id),
            ladder=keeper.state() if keeper else None,
            work=work,
            joules_estimate_per_frame=per_frame,
            device=readings,
        )

    return report
