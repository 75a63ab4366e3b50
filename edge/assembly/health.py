"""Builds what looks after the device: the readings, the ladder with what it relieves, and the report."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.edge.config.paths import written_folders
from spillover.edge.device import Device, Run
from spillover.edge.health.keeper import Keeper
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


BuildHealth = Callable[[Run, Device, Sequence[CameraStream], Callable[[int], None]], Health]


def build_health(
    run: Run,
    device: Device,
    streams: Sequence[CameraStream],
    use: Callable[[int], None],
    root: Path = Path("/"),
    clock: Callable[[], float] = time.monotonic,
) -> Health:
    """Build it; `use` has a variant of the model answer. `root` stands for `/`.

    Raises:
        ConfigError: `health.file` can never be written.
    """
    config, reporting = run.config.health, device.reporting
    power = Power(config.power.idle_watts, config.power.busy_watts) if config.power else None
    monitor = HealthMonitor(written_folders(run.config), root, clock, cores=os.cpu_count() or 1, power=power)
    file = HealthFile(config.file, run.on_end) if config.file else None

    def tell(event: Event) -> None:
        reporting.outlets.notice(event)
        if file:
            file.put(event)

    keeper = None
    report = _Report(run, device, monitor, clock)
    reporter = HealthReporter(report, tell)

    def stepped(now: LadderState, before: int) -> None:
        reporting.events.stepped(now, before)
        reporter.now()

    def relieve(step: Step, cause: str, _why: str) -> None:
        use(step.variant)
        for stream in streams:
            stream.camera.slow_down(step.share, cause)

    if config.ladder:
        wall_c = wall_celsius(root / "sys") if config.wall_c is None else config.wall_c
        keeper = report.keeper = Keeper(monitor.sample, wall_c, stepped, clock)
        keeper.relieve(relieve)
    workers = [Worker("health report", reporter.run, run.on_end)]
    workers += [Worker("health", keeper.run, run.on_end)] if keeper else []
    return Health(monitor, keeper, reporter, file, tuple(workers))


class _Report:
    """Makes reports; for one thread."""

    def __init__(self, run: Run, device: Device, monitor: HealthMonitor, clock: Callable[[], float]) -> None:
        self.keeper: Keeper | None = None
        self._run = run
        self._device = device
        self._monitor = monitor
        self._clock = clock
        self._began_s = clock()
        self._joules, self._inferences = 0.0, 0

    def __call__(self) -> HealthReport:
        """How the device is now; waits for its disks."""
        device, work = self._monitor.latest(), self._device.reporting.events.work()
        joules, done = device.energy_estimate_joules, work.inferences - self._inferences
        per_frame = (joules - self._joules) / done if joules is not None and done > 0 else None
        self._joules, self._inferences = joules or 0.0, work.inferences
        return HealthReport(
            device_id=self._run.config.device_id,
            boot_id=self._run.boot_id,
            uptime_s=round(self._clock() - self._began_s, 3),
            model=str(self._device.predictor.model_id),
            ladder=self.keeper.state() if self.keeper else None,
            work=work,
            joules_estimate_per_frame=per_frame,
            device=device,
        )
