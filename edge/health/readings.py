"""The values of one reading of the device's health, as status and metrics show them."""

import msgspec


class Throttling(msgspec.Struct, frozen=True, kw_only=True):
    """What the firmware of a Raspberry Pi holds back, by the names of `edge.health.sensors.CAUSES`."""

    now: tuple[str, ...] = ()
    since_boot: tuple[str, ...] = ()
    """What has happened at least once since the device was switched on."""


class DiskSpace(msgspec.Struct, frozen=True, kw_only=True):
    """The file system of one folder that the daemon writes to."""

    folder: str
    free_bytes: int
    """What a user without special rights may still write."""
    size_bytes: int


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """The device at one moment. None: this machine does not tell."""

    temperature_celsius: float | None = None
    """The hottest sensor of the processor."""
    throttling: Throttling | None = None
    cpu_share: float | None = None
    """Share of all cores that was busy since the reading before, 0 to 1."""
    process_cpu_share: float | None = None
    """Share of all cores that this process took since the reading before, 0 to 1."""
    load: float | None = None
    """Processes that ran or waited to, mean of the last minute."""
    process_anon_bytes: int | None = None
    """Memory of this process that is its own (RssAnon)."""
    process_file_bytes: int | None = None
    """Memory of this process that belongs to files, libraries mostly (RssFile)."""
    memory_available_bytes: int | None = None
    """What programs can still have without swapping (MemAvailable)."""
    memory_size_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """What the process and those beside it may take, by the tightest limit above it (cgroup v2)."""
    memory_limit_used_bytes: int | None = None
    """What of that is taken for good, files that can be read again not counted."""
    oom_kills: int | None = None
    """Processes of this control group that the kernel has ended for want of memory."""
    cpu_pressure: float | None = None
    """Share of the last 10 s in which something waited for a core, 0 to 1 (PSI, `some`)."""
    memory_pressure: float | None = None
    """The same for memory."""
    io_pressure: float | None = None
    """The same for disks."""
    fan_rpm: int | None = None
    """The fastest fan; 0: it stands still."""
    supply_volts: float | None = None
    """Voltage of the power supply."""
    under_voltage: bool | None = None
    """Whether that is too low now."""
    power_estimate_watts: float | None = None
    """Mean since the reading before: an estimate from `health.power` and `cpu_share`."""
    energy_estimate_joules: float | None = None
    """The same added up since the start."""
    disks: tuple[DiskSpace, ...] = ()
    disk_written_bytes: dict[str, int] = msgspec.field(default_factory=dict)
    """Since boot, by card, stick or drive."""


class LadderState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a device stands on the ladder."""

    step: int
    """0: it does everything; 6: it pauses."""
    does: str
    """What it does there, in words."""
    cause: str
    """`heat`, `memory` or `voltage`; empty: it does everything."""
    reason: str
    """With the figure that led to the last step, up or down."""
    age_s: float
    """Since when it stands there."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What the local model does. Durations are of an inference with what is around it, of the last minute."""

    inferences: int
    """Since the start."""
    per_s: float
    """Of the last minute."""
    mean_s: float | None
    """None: there was none."""
    p99_s: float | None


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one moment: what `health.file` and MQTT have."""

    device_id: str
    """The device."""
    boot_id: str
    """This start of the daemon."""
    uptime_s: float
    """Seconds since then."""
    model: str
    """`name@version` of the one that answers."""
    ladder: LadderState | None
    """`step`, what the device `does` there, `cause`, `reason`, `age_s`; null: `health.ladder` is off."""
    work: Work
    """`inferences` since the start; of the last minute `per_s`, `mean_s` and `p99_s` of one."""
    joules_estimate_per_frame: float | None
    """Energy of the whole device since the report before, by its inferences; an estimate."""
    device: Readings
    """All that this machine tells; null where it does not."""
