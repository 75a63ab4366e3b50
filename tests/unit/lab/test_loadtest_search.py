"""Searches and models of the load test: capacity, queueing, arrivals."""

import asyncio
import math
import os
import subprocess
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import ConfigError, SourceError
from spillover.lab.loadtest import room
from spillover.lab.loadtest.answer.months import month_of
from spillover.lab.loadtest.buyer import BuyerConfig
from spillover.lab.loadtest.capacity import bisect, bounds_of, cpu_limit_per_s
from spillover.lab.loadtest.config import CloudPart, FleetConfig, LoadConfig
from spillover.lab.loadtest.estimate import estimate
from spillover.lab.loadtest.extrapolate import ServerModel, extrapolate
from spillover.lab.loadtest.meters import open_energy_meter, open_gpu_meter
from spillover.lab.loadtest.report.load_report import _capacity, _times
from spillover.lab.loadtest.report.plots import Palette
from spillover.lab.loadtest.results import Capacity, FleetCheck, Probe
from spillover.lab.loadtest.room import require_room
from spillover.lab.loadtest.simulated.arrivals import arrivals_of
from spillover.lab.loadtest.simulated.job import Job, LoggedFrame, Payload, decode_job, encode_job
from spillover.lab.loadtest.simulated.recording import Recording, scaled
from spillover.lab.loadtest.slow import CgroupBrake, clear_groups
from spillover.lab.shaper.link import Link, constant
from spillover.lab.shaper.listener import first_complaint
from tests.support.models import colour_classifier
from tests.unit.lab.test_loadtest_report import cell


@given(limit=st.integers(0, 3000), first=st.integers(1, 64), most=st.integers(1, 2000))
def test_search_ends_beside_the_limit(limit: int, first: int, most: int) -> None:
    """Whatever the server holds, the bounds that are found enclose it, and are as close as was asked for."""
    probes = bisect(lambda n: Probe(n, 1.0, 1.0, 0, held=n <= limit), first, most, 0.1)
    held = max((p.edges for p in probes if p.held), default=0)
    failed = min((p.edges for p in probes if not p.held), default=None)
    assert held <= limit
    if failed is None:
        assert held == most
    else:
        assert limit < failed
        assert failed - held <= max(1, 0.1 * failed)
    assert max(p.edges for p in probes) <= most


@pytest.mark.parametrize(
    ("windows", "held"), [((0, 1, 1), 64), ((1, 0, 1), 64), ((0, 1, 0), 0), ((1, 0, 0), 0)]
)
def test_two_of_three_windows_decide(windows: tuple[int, ...], held: int) -> None:
    """One hiccup does not end the search, and one lucky window does not make a number hold."""
    tried: Counter[int] = Counter()

    def probe(edges: int) -> Probe:
        tried[edges] += 1
        return Probe(edges, 1.0, 1.0, 0, held=bool(windows[tried[edges] - 1]))

    assert bounds_of(bisect(probe, 8, 64, 0.1))[0] == held


def test_a_rate_above_its_own_cpu_bound_is_marked() -> None:
    """What a request costs with the fewest edges bounds the rate; the page marks more than that."""
    probes = [
        Probe(edges, 1.0, rate, 0, held=True, server_cpu_s=cpu_s)
        for edges, rate, cpu_s in (
            (240, 50.0, 0.02),
            (240, 50.0, 0.025),
            (480, 98.0, 0.02),
            (480, 99.0, 0.02),
        )
    ]
    limit = cpu_limit_per_s(probes, 2)
    assert limit == pytest.approx(2 / 0.0225)
    search = Capacity("s", "h", "home", 0.99, 480, None, probes, cpu_limit_per_s=limit)
    assert search.held_per_s == pytest.approx(98.5)
    assert search.is_above_cpu_limit
    assert "above its CPU bound" in _capacity([search], Palette())["rows"][0][6]
    assert cpu_limit_per_s([Probe(1, 1.0, 1.0, 0, held=True)], 2) is None


def test_wait_of_the_textbook_queues() -> None:
    """M/M/1 at half load waits one service time, M/D/1 half of that; Erlang's C of M/M/2 at load 1 is 1/3."""
    assert ServerModel(0.1, 1.0, 0.1, 1, 1).mean_wait_s(5) == pytest.approx(0.1)
    assert ServerModel(0.1, 0.0, 0.1, 1, 1).mean_wait_s(5) == pytest.approx(0.05)
    assert ServerModel(0.1, 1.0, 0.1, 2, 2).mean_wait_s(10) == pytest.approx(0.1 / 3)
    assert math.isinf(ServerModel(0.1, 1.0, 0.1, 1, 1).mean_wait_s(10))


def fleet_test(buyer: BuyerConfig | None = None, mode: str = "hybrid", share: int = 1) -> LoadConfig:
    """A test of that buyer with one mode, `h`, over links of which `share` edges use one."""
    scenarios = {"s": {"modes": ["h"], "links": ["home"]}}
    raw = {"modes": {"h": {"mode": mode}}, "links": {"home": {"share": share}}, "scenarios": scenarios}
    return msgspec.structs.replace(msgspec.convert(raw, LoadConfig), buyer=buyer or BuyerConfig())


def test_fleet_is_calibrated_where_a_request_is_known_best_and_checked_elsewhere() -> None:
    """Servers cover the rate at the utilisation allowed; the check shows prediction beside measurement."""

    def measured(edges: int) -> dict[str, float]:
        return {
            "server_infer_ms": 20.0,
            "server_infer_cv2": 0.5,
            "server_cpu_share": edges * 0.0004,
            "server_queue_ms": 1.5,
            "sent_per_s": edges * 0.01,
            "up_bytes_per_frame": 2000.0,
            "down_bytes_per_frame": 500.0,
            "fps": 0.1,
        }

    small, large, overrun = (
        msgspec.structs.replace(cell("h", measured(n)), edges=n) for n in (100, 1000, 4000)
    )
    buyer = BuyerConfig(hours_a_day=12, gigabyte=2.0, sim_month=3.0, device=72.0, server_core_hour=0.05)
    cells = [overrun, large, small]
    fleet = extrapolate(FleetConfig(scenario="s"), cells, fleet_test(buyer), channels=1, cores=2)
    assert "Calibrated at 1000 edges" in fleet.assumptions[0]  # ten times as many requests; 4000 are too many
    check = fleet.checks[-1]
    assert check.edges == 100
    assert check.predicted_utilization == pytest.approx(check.measured_utilization)
    ten_thousand = fleet.points[0]
    assert ten_thousand.requests_per_s == pytest.approx(100)
    # 40 ms of CPU a request on two cores, 20 ms of the network: at most 50 a second, at 70 % 35.
    assert ten_thousand.servers == 3
    assert fleet.server_limit_per_s == pytest.approx(50)
    # A month has 360 hours: 10 000 edges at 0.1 frames a second of 2500 bytes; 3 servers of 2 cores.
    month = ten_thousand.month
    assert month.data == pytest.approx(1000 * 2500 * 360 * 3600 / 1e9 * 2)
    assert (month.sim, month.device, month.server) == pytest.approx((30_000, 20_000, 3 * 2 * 0.05 * 360))
    assert month.total == pytest.approx(month.data + 50_000 + 108)


def test_a_fleet_sends_what_was_asked_not_what_few_edges_drew() -> None:
    """Twenty edges that sent 23 % where 20 % was asked do not make 200 edges cost 17 % more."""
    drawn = {
        "server_infer_ms": 20.0,
        "server_infer_cv2": 0.5,
        "server_cpu_share": 0.1,
        "sent_per_s": 4.66,
        "up_bytes_per_frame": 2330.0,
        "fps": 1.0,
    }
    base = msgspec.structs.replace(cell("h", drawn), edges=20)
    config = FleetConfig(scenario="s", edges=(200,))
    fleet = extrapolate(config, [base], fleet_test(), channels=1, cores=2, asked_per_s=0.2)
    assert fleet.points[0].requests_per_s == pytest.approx(40)
    assert fleet.points[0].up_mbit_per_s == pytest.approx(200 * 2000 * 8e-6)
    assert "sent 4.66 requests a second of 4.00 asked for" in fleet.assumptions[0]


@pytest.mark.parametrize(
    ("mode", "sender", "device"),
    [("cloud_only", 40.0, 4.0), ("cloud_only", None, 40.0), ("hybrid", 40.0, 40.0)],
)
def test_a_fleet_pays_for_devices_and_links_as_each_of_its_cameras_does(
    mode: str, sender: float | None, device: float
) -> None:
    """Devices that only send have their own price, and four cameras behind one modem one SIM."""
    sent = {"server_infer_ms": 20.0, "server_infer_cv2": 0.5, "server_cpu_share": 0.1, "sent_per_s": 4.0}
    base = cell("h", sent | {"up_bytes_per_frame": 2000.0, "fps": 1.0})
    test = fleet_test(BuyerConfig(device=400, sender=sender, months=10, sim_month=8), mode, share=4)
    config = FleetConfig(scenario="s", edges=(1000,))
    of_fleet = extrapolate(config, [base], test, channels=1, cores=2).points[0].month
    of_camera = month_of(base, "agreement", test).costs
    assert (of_camera.device, of_camera.sim) == (device, 2.0)
    assert (of_fleet.device, of_fleet.sim) == (1000 * device, 2000.0)


def test_a_prediction_that_is_far_off_is_red() -> None:
    """Predicted stands beside measured with the ratio; beyond 1.5, either way, it is marked."""
    ratios = [_times(FleetCheck(9, 1, 0.1, 0.1, measured, 2).wait_ratio) for measured in (2.9, 3.1, 1.3)]
    assert ratios[0] == "1.45"
    assert ["missed" in ratio for ratio in ratios] == [False, True, True]
    overrun = FleetCheck(9, 1, 0.1, 0.1, 2, -1)
    assert _times(overrun.wait_ratio) == "-"


def test_a_server_is_predicted_between_clock_and_cpu_time() -> None:
    """A network that waits for busy cores takes longer by the clock: both limits are said."""
    server = ServerModel(infer_s=0.03, infer_cv2=0.1, cpu_s=0.04, channels=1, cores=2)
    assert server.limit_per_s == pytest.approx(1 / 0.03)
    assert server.limit_most_per_s == pytest.approx(50)


def test_fleet_needs_a_cell_to_calibrate_on() -> None:
    """Without a measured cell there is no extrapolation, and the error names the scenario."""
    with pytest.raises(SourceError, match="scenario s"):
        extrapolate(FleetConfig(scenario="s"), [], fleet_test(), channels=1, cores=1)


def job(**changes: object) -> Job:
    """A job of 40 edges at 2 frames a second for 10 s."""
    fields: dict[str, object] = {
        "server": "127.0.0.1:1",
        "schedule": constant(Link()),
        "first_edge": 0,
        "edges": 40,
        "fps": 2.0,
        "warm_up_s": 0.0,
        "window_s": 10.0,
        "deadline_s": 0.3,
        "margin_s": 0.005,
        "late_window_s": 1.0,
        "max_in_flight": 4,
        "breaker_failures": 5,
        "breaker_pause_max_s": 4.0,
        "model_name": "",
        "model_version": "",
        "max_classes": 5,
        "log": [
            LoggedFrame(wanted=n == 0, local_s=0.01 * (n + 1), encode_s=0.002, payload=0) for n in range(4)
        ],
        "payloads": [Payload(b"jpeg")],
    }
    return Job(**(fields | changes))


def test_arrivals_keep_each_edges_rate_whatever_becomes_of_its_frames() -> None:
    """Frames are due at even steps from each edge's own phase: an open loop."""
    arrivals = arrivals_of(job(), range(40))
    for edge in range(40):
        due_s = arrivals.due_s[arrivals.edge == edge]
        assert np.allclose(np.diff(due_s), 0.5)
    assert len({round(float(arrivals.due_s[arrivals.edge == e][0]), 6) for e in range(40)}) == 40
    assert (np.diff(arrivals.due_s) >= 0).all()


def test_arrivals_replay_the_recorded_share_or_the_one_asked_for() -> None:
    """One frame in four is wanted as recorded; a share in its place is drawn at random."""
    recorded = arrivals_of(job(), range(40))
    assert recorded.wanted.mean() == pytest.approx(0.25, abs=0.03)
    drawn = arrivals_of(job(offload_share=0.5), range(40))
    assert drawn.wanted.mean() == pytest.approx(0.5, abs=0.08)


def test_an_edge_does_the_same_whoever_plays_it() -> None:
    """Edges dealt out over processes or hosts have the frames that they have in one."""
    whole, part = arrivals_of(job(), range(40)), arrivals_of(job(), range(30, 40))
    ours = whole.edge >= 30
    assert np.array_equal(whole.due_s[ours], part.due_s)
    assert np.array_equal(whole.entry[ours], part.entry)


def test_job_travels_unchanged() -> None:
    """What a generator reads is what was written."""
    assert decode_job(encode_job(job())) == job()


def test_a_slower_device_stretches_the_recorded_times() -> None:
    """The median local time is the one asked for, decisions and payloads stay."""
    slower = scaled(Recording(job().log, job().payloads), 0.05)
    assert np.median([frame.local_s for frame in slower.log]) == pytest.approx(0.05)
    assert [frame.wanted for frame in slower.log] == [frame.wanted for frame in job().log]


def test_energy_counter_may_wrap(tmp_path: Path) -> None:
    """RAPL's counter begins again at its range; packages are added, their parts are not."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone = tmp_path / name
        zone.mkdir()
        (zone / "max_energy_range_uj").write_text("999999")
        (zone / "energy_uj").write_text("900000")
    meter = open_energy_meter(tmp_path, tmp_path)
    assert meter is not None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100000")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("950000")
    assert meter.read_j() == pytest.approx(0.2)


def test_no_power_meter_is_no_figure(tmp_path: Path) -> None:
    """A machine without a meter gives none, not zero."""
    assert open_energy_meter(tmp_path, tmp_path) is None


@pytest.mark.parametrize("version", [1, 2])
def test_brake_sets_the_quota_of_a_group_for_each_process(tmp_path: Path, version: int) -> None:
    """A quarter of a core is 2.5 ms every 10 ms, in the files of either version of cgroups."""
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu")
    brake = CgroupBrake(tmp_path, 0.25)
    brake.hold(4242)
    (group,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (group / "cgroup.procs").read_text() == "4242"
    if version == 2:
        assert (group / "cpu.max").read_text() == "2500 10000"
    else:
        assert (group / "cpu.cfs_quota_us").read_text() == "2500"
        assert (group / "cpu.cfs_period_us").read_text() == "10000"
    assert f"v{version}" in brake.description


def test_busy_gpus_are_added_up(tmp_path: Path) -> None:
    """Half a second at 100 % and one GPU at 50 % are three quarters; a GPU that does not say adds nothing."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nprintf '100\\n50\\n[N/A]\\n'\n", encoding="utf-8")
    tool.chmod(0o755)
    with open_gpu_meter((str(tool),)) as meter:
        assert meter is not None
        meter._thread.join(30)
        assert meter.read_s() == pytest.approx(0.75)


def test_no_driver_is_no_gpu_figure() -> None:
    """Where the driver's tool is not installed there is no meter."""
    with open_gpu_meter(("no-such-tool-here",)) as meter:
        assert meter is None


def test_groups_of_a_test_that_was_killed_are_removed(tmp_path: Path) -> None:
    """Those of a process that is gone; those of one that runs stay."""
    with subprocess.Popen(["true"]) as gone:
        pass
    orphan, ours = (tmp_path / f"spillover-loadtest-{pid}-7" for pid in (gone.pid, os.getpid()))
    orphan.mkdir()
    ours.mkdir()
    clear_groups([tmp_path])
    assert not orphan.exists()
    assert ours.exists()


def test_edges_that_this_machine_cannot_hold_are_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each limit by its name and with the cure: open files, ports, and the connections of the server."""
    raw = {"modes": {"a": {}}, "links": {"l": {}}, "scenarios": {"s": {"modes": ["a"], "links": ["l"]}}}
    config = msgspec.convert(raw, LoadConfig)
    require_room(config, 100)
    with pytest.raises(ConfigError, match=r"open files.*LimitNOFILE="):
        require_room(config, 2_000_000_000)
    few = msgspec.structs.replace(config, cloud=CloudPart(config={"limits": {"max_connections": 150}}))
    with pytest.raises(ConfigError, match=r"cloud\.config\.limits\.max_connections to 160"):
        require_room(few, 80)
    ports = tmp_path / "ports"
    ports.write_text("1000 1050\n")
    monkeypatch.setattr(room, "_PORTS", ports)
    with pytest.raises(ConfigError, match="ip_local_port_range"):
        require_room(config, 60)


def test_a_loop_complains_once(caplog: pytest.LogCaptureFixture) -> None:
    """Of many connections that cannot be accepted the first is kept, and no traceback is written."""
    loop = asyncio.new_event_loop()
    complaints = first_complaint(loop)
    for _ in range(3):
        loop.call_exception_handler({"message": "accept failed", "exception": OSError("too many open files")})
    loop.close()
    assert complaints == ["accept failed: too many open files"]
    assert not caplog.records


def test_an_estimate_counts_every_run_and_process(tmp_path: Path) -> None:
    """Two modes over two links with two repeats, 40 pictures at 4 a second, and 2 s of warm-up."""
    for number in range(40):
        (tmp_path / f"{number}.jpg").touch()
    scenario = {"modes": ["a", "b"], "links": ["l", "m"], "edges": [3], "repeats": 2, "fps": 4}
    config = msgspec.convert(
        {
            "modes": {"a": {"mode": "edge_only"}, "b": {"mode": "edge_only"}},
            "links": {"l": {}, "m": {}},
            "edge_model": str(colour_classifier(tmp_path)),
            "scenarios": {"s": scenario | {"source": str(tmp_path), "window_s": None}},
        },
        LoadConfig,
    )
    made = estimate(config, ["s"])
    assert 8 * 15 < made.parts["s"] < 8 * 20
    assert made.processes == 5  # this one, a server, three edges
    assert made.text().startswith("This will take about 2 min:")
