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
    disks: tuple[DiskSpace, ...] = ()
