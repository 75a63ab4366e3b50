"""Health readings from folders that stand in for /sys and /proc: right where they are, None where not."""

import os
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.health import sensors
from spillover.edge.health.monitor import PERIOD_S, HealthMonitor, Power
from spillover.edge.health.readings import Readings, Throttling
from spillover.edge.health.work import WorkMeter
from spillover.edge.telemetry.health_report import HealthReporter

FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """The current second."""
        return self.now_s


def put(root: Path, **files: str) -> None:
    """Write files; `__` in a name stands for `/`."""
    for name, text in files.items():
        write(root / name.replace("__", "/"), text)


def write(path: Path, text: str) -> None:
    """Write one file and the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def monitor(root: Path, clock: Clock | None = None, *folders: Path) -> HealthMonitor:
    """A monitor of one core that has taken no time."""
    return HealthMonitor(folders, root, clock or Clock(), lambda: 0.0)


def test_a_machine_that_tells_nothing_gives_no_error(tmp_path):
    """Neither /sys nor /proc: every reading is absent."""
    assert monitor(tmp_path).latest() == Readings()


def test_this_machine_is_read():
    """Whatever it is, Linux tells these."""
    found = HealthMonitor([Path("/")]).latest()
    assert found.process_anon_bytes is not None
    assert found.memory_available_bytes is not None
    assert found.load is not None
    assert found.disks[0].size_bytes >= found.disks[0].free_bytes


def test_the_processor_counts_among_the_zones(tmp_path):
    """A hotter battery does not matter; without a zone of the processor the hottest counts."""
    put(tmp_path, sys__class__thermal__thermal_zone0__type="battery\n")
    put(tmp_path, sys__class__thermal__thermal_zone0__temp="71000\n")
    assert monitor(tmp_path).latest().temperature_celsius == 71.0
    put(tmp_path, sys__class__thermal__thermal_zone1__type="cpu-thermal\n")
    put(tmp_path, sys__class__thermal__thermal_zone1__temp="61234\n")
    assert monitor(tmp_path).latest().temperature_celsius == 61.234


def test_chips_of_hwmon_count_too(tmp_path):
    """Where there are no thermal zones; what is no number or absurd is passed over."""
    put(tmp_path, sys__class__hwmon__hwmon0__name="coretemp\n")
    for index, text in ((1, "48000\n"), (2, "52000\n"), (3, "255000\n"), (4, "")):
        write(tmp_path / f"sys/class/hwmon/hwmon0/temp{index}_input", text)
    assert monitor(tmp_path).latest().temperature_celsius == 52.0


def test_throttling_by_the_firmwares_file(tmp_path):
    """Bits 0 to 3 are now, 16 to 19 since the start."""
    write(tmp_path / FIRMWARE, "50005\n")
    found = monitor(tmp_path).latest().throttling
    assert found == Throttling(now=("under_voltage", "throttled"), since_boot=("under_voltage", "throttled"))


def test_throttling_by_the_firmwares_program(tmp_path, monkeypatch):
    """Where the kernel has no such file; it is asked once a minute."""
    program, calls = tmp_path / "vcgencmd", tmp_path / "calls"
    answers = "get_throttled) echo throttled=0x80008;; pmic_read_adc) echo ' EXT5V_V volt(24)=5.09V'"
    program.write_text(f"#!/bin/sh\necho $1 >> {calls}\ncase $1 in {answers};; esac\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    clock = Clock()
    watched = monitor(tmp_path, clock)
    for _ in range(3):
        found = watched.latest()
        assert found.throttling == Throttling(
            now=("soft_temperature_limit",), since_boot=("soft_temperature_limit",)
        )
        assert (found.supply_volts, found.under_voltage) == (5.09, False)
        clock.now_s += PERIOD_S
    assert calls.read_text() == "get_throttled\npmic_read_adc\n"


@pytest.mark.parametrize("text", ["", 'error=1 error_msg="VCHI initialization failed"', "0xzz", "123456789"])
def test_what_is_no_word_of_the_firmware_is_no_reading(text):
    """Also the text of a program that may not ask."""
    assert sensors.throttling_of(text) is None


def test_files_with_rubbish_tell_nothing(tmp_path, monkeypatch):
    """A driver that is broken costs its figure, not the status and the metrics."""
    put(tmp_path, proc__stat="cpu a b c d e f g h\n", proc__loadavg="rubbish 0 0\n")
    put(tmp_path, proc__meminfo=f"MemTotal:  {'9' * 5000} kB\n", proc__self__status="RssAnon: -1 kB\n")
    put(tmp_path, sys__class__thermal__thermal_zone0__temp="9" * 5000)
    put(tmp_path, bin__vcgencmd="#!/bin/sh\nprintf '\\377'\n")
    (tmp_path / "bin" / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    assert monitor(tmp_path).latest() == Readings()


@given(st.integers(0, 2**32 - 1))
def test_every_word_of_the_firmware_is_understood(word):
    """Names stand for their bits, with either way of writing it."""
    found = sensors.throttling_of(f"throttled={word:#x}\n")
    assert found is not None
    assert found == sensors.throttling_of(f"{word:x}")
    assert found.now == tuple(cause for bit, cause in enumerate(sensors.CAUSES) if word & 1 << bit)
    assert found.since_boot == tuple(
        cause for bit, cause in enumerate(sensors.CAUSES) if word & 1 << bit + 16
    )


def test_processor_and_memory(tmp_path):
    """Shares are of the time between two readings; kernel's kB are 1024 bytes."""
    put(tmp_path, proc__stat="cpu  100 0 0 900 0 0 0 0 0 0\n", proc__loadavg="0.52 0.4 0.3 1/99 4\n")
    put(tmp_path, proc__meminfo="MemTotal:  4000 kB\nMemAvailable:   1000 kB\n")
    put(tmp_path, proc__self__status="Name:\tx\nRssAnon:\t     30 kB\nRssFile:\t   70 kB\n")
    clock = Clock()
    spent = iter([0.0, 2.0])
    watched = HealthMonitor([tmp_path], tmp_path, clock, lambda: next(spent), cores=4)
    clock.now_s += 10
    write(tmp_path / "proc/stat", "cpu  110 0 0 920 10 0 0 0 0 0\n")
    found = watched.latest()
    assert (found.cpu_share, found.process_cpu_share) == (0.25, 0.05)
    assert (found.load, found.memory_available_bytes, found.memory_size_bytes) == (
        0.52,
        1000 * 1024,
        4000 * 1024,
    )
    assert (found.process_anon_bytes, found.process_file_bytes) == (30 * 1024, 70 * 1024)
    assert [disk.folder for disk in found.disks] == [str(tmp_path)]


def test_nothing_is_read_more_often_than_every_few_seconds(tmp_path):
    """However many ask."""
    put(tmp_path, proc__loadavg="1.0 0 0\n")
    clock = Clock()
    watched = monitor(tmp_path, clock)
    assert watched.latest().load == 1.0
    put(tmp_path, proc__loadavg="2.0 0 0\n")
    clock.now_s += PERIOD_S - 0.1
    assert watched.latest().load == 1.0
    clock.now_s += 0.1
    assert watched.latest().load == 2.0


def test_a_disk_that_does_not_answer_holds_up_one_thread(tmp_path, monkeypatch):
    """All others get the reading before."""
    asked, answers = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        asked.set()
        answers.wait(30)

    monkeypatch.setattr(sensors, "disk_space", slow)
    watched = monitor(tmp_path, None, tmp_path)
    first = threading.Thread(target=watched.latest)
    first.start()
    assert asked.wait(30)
    assert watched.latest() == Readings()
    answers.set()
    first.join(30)
    assert not first.is_alive()


def test_a_stop_at_any_moment_ends_the_reports():
    """Also one just before the wake-up is cleared: nothing is waited for after it."""
    lost = []

    class Woken(threading.Event):
        """Is set by a stop just before it is cleared."""

        def wait(self, timeout: float | None = None) -> bool:
            lost.append(reporter._stopping and not self.is_set())
            return True

        def clear(self) -> None:
            reporter.stop()
            super().clear()

    reporter = HealthReporter(dict, lambda _: None)
    reporter._wake = Woken()
    reporter.run()
    assert lost == [False]


HWMON = "sys/class/hwmon/hwmon0"
GROUP = "sys/fs/cgroup/system.slice"


def full_machine(root: Path) -> None:
    """A machine that tells of limits, pressure, fan, voltage and wear."""
    for path, text in {
        f"{HWMON}/name": "rpi_volt\n",
        f"{HWMON}/in0_lcrit_alarm": "1\n",
        "sys/class/hwmon/hwmon1/fan1_input": "3120\n",
        "sys/class/hwmon/hwmon2/in1_input": "4870\n",
        "sys/class/hwmon/hwmon2/in1_label": "VIN\n",
        "sys/class/hwmon/hwmon2/in2_input": "850\n",
        "sys/class/hwmon/hwmon2/in2_label": "Vcore\n",
        "proc/self/cgroup": "0::/system.slice/edge.service\n",
        f"{GROUP}/edge.service/memory.max": "max\n",
        f"{GROUP}/edge.service/memory.current": "70000\n",
        f"{GROUP}/edge.service/memory.events": "low 0\noom 2\noom_kill 2\n",
        f"{GROUP}/memory.max": "100000\n",
        f"{GROUP}/memory.current": "90000\n",
        f"{GROUP}/memory.stat": "anon 60000\ninactive_file 20000\n",
        "proc/pressure/memory": "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=0.00\n",
        "sys/block/mmcblk0/stat": "1 2 3 4 5 6 1000 8 9\n",
        "sys/block/mmcblk0/device/type": "SD\n",
        "sys/block/loop0/stat": "1 2 3 4 5 6 77 8 9\n",
    }.items():
        write(root / path, text)


def test_limits_pressure_fan_voltage_and_wear(tmp_path):
    """The tightest limit above the process, without what can be read again; disks that are devices."""
    full_machine(tmp_path)
    found = monitor(tmp_path).latest()
    assert (found.memory_limit_bytes, found.memory_limit_used_bytes, found.oom_kills) == (100000, 70000, 2)
    assert (found.memory_pressure, found.cpu_pressure) == (0.125, None)
    assert (found.fan_rpm, found.supply_volts, found.under_voltage) == (3120, 4.87, True)
    assert found.disk_written_bytes == {"mmcblk0": 512_000}


@pytest.mark.parametrize(
    "rubbish", ["", "max\n", "-", "9" * 5000, "nan\n", "\x00\xff", "some avg10=", "-5\n"]
)
def test_rubbish_and_sensors_that_vanish_are_no_figures(tmp_path, rubbish):
    """Neither an error nor a zero: null, until the sensor is back."""
    full_machine(tmp_path)
    clock = Clock()
    watched = monitor(tmp_path, clock)
    whole = watched.latest()
    texts = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {"memory.max", "memory.current", "cgroup", "type"}
    for path in texts:
        path.unlink() if path.name in kept else path.write_text(rubbish)
    clock.now_s += PERIOD_S
    assert watched.latest() == Readings(process_cpu_share=0.0)
    for path, text in texts.items():
        path.write_text(text)
    clock.now_s += PERIOD_S
    assert watched.latest() == msgspec.structs.replace(whole, process_cpu_share=0.0)


def test_a_clock_that_goes_back_does_not_stop_the_reading(tmp_path):
    """A reading from the future would be given for ever."""
    put(tmp_path, proc__loadavg="1.0 0 0\n")
    clock = Clock()
    watched = monitor(tmp_path, clock)
    watched.latest()
    put(tmp_path, proc__loadavg="2.0 0 0\n")
    clock.now_s -= 50
    assert watched.latest().load == 2.0


def test_energy_is_estimated_from_busy_cores(tmp_path):
    """Power between idle and busy, added up over the time that has passed; without the keys there is none."""
    put(tmp_path, proc__stat="cpu  100 0 0 900 0 0 0 0 0 0\n")
    clock = Clock()
    watched = HealthMonitor([], tmp_path, clock, lambda: 0.0, power=Power(2.0, 6.0))
    clock.now_s += 10
    put(tmp_path, proc__stat="cpu  150 0 0 950 0 0 0 0 0 0\n")
    found = watched.latest()
    assert (found.power_estimate_watts, found.energy_estimate_joules) == (4.0, 40.0)
    assert monitor(tmp_path).latest().energy_estimate_joules is None


@pytest.mark.parametrize(
    ("name", "files", "wall_c"),
    [
        ("cpu_thermal", {"temp1_crit": "110000"}, 85.0),
        ("coretemp", {"temp1_crit": "100000", "temp2_crit": "98000"}, 98.0),
        ("k10temp", {}, 95.0),
        ("coretemp", {"temp1_crit": "rubbish"}, 95.0),
    ],
)
def test_the_wall_is_that_of_the_processor(tmp_path, name, files, wall_c):
    """A Pi's is below what the kernel calls critical; a PC's is what its chip says."""
    for file, text in {"name": name, **files}.items():
        write(tmp_path / HWMON / file, text)
    assert sensors.wall_celsius(tmp_path / "sys") == wall_c


def test_the_work_of_the_last_minute():
    """Older durations leave, the count stays; nothing done is no latency of 0."""
    clock = Clock()
    work = WorkMeter(clock)
    assert (work().mean_s, work().p99_s, work().inferences) == (None, None, 0)
    for number in range(100):
        work.mark(0.01 + 0.01 * (number == 99))
    clock.now_s += 20
    found = work()
    assert (found.inferences, found.per_s, found.p99_s) == (100, 5.0, 0.01)
    assert found.mean_s == pytest.approx(0.0101)
    clock.now_s += 60
    assert (work().inferences, work().mean_s) == (100, None)
