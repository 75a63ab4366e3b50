"""What is done to an edge, its link, cloud, disk and clock. Each fault ends with all in order again."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from spillover.common.wire.pb import spillover_pb2 as pb
from tests.chaos.clock import JumpingClock
from tests.chaos.disk import CannotHappenHereError, LateSyncs
from tests.chaos.field import FPS, SPOOL_MB, Field
from tests.chaos.streams import (
    calls_lost,
    calls_reordered,
    calls_repeated,
    stream_server_killed,
    two_stream_servers,
)
from tests.support.faulty_link import FaultyProxy, Mode, Weather
from tests.support.http_camera import HttpCamera
from tests.support.mosquitto import MOSQUITTO, Broker, Listener
from tests.support.processes import free_port
from tests.support.scripted_cloud import answers, scripted_cloud

_YEAR_S = 365 * 86_400
_BROKER_CUT_S = 60.0
Fault = Callable[[Field, random.Random], None]


def _hold(field: Field, rng: random.Random, longest_s: float = 3.0) -> None:
    """Let the fault last; between a tenth of a second and `longest_s` times the run's scale."""
    time.sleep(0.1 + rng.random() * longest_s * field.scale)


def cut(field: Field, rng: random.Random) -> None:
    """No link at all: connections are reset, new ones refused."""
    field.link.set(Mode.CUT)
    _hold(field, rng)


def flap(field: Field, rng: random.Random) -> None:
    """The link comes and goes many times a second."""
    for _ in range(6):
        field.link.set(rng.choice([Mode.CUT, Mode.PASS, Mode.STALL]))
        time.sleep(0.05 + 0.2 * rng.random())


def stall(field: Field, rng: random.Random) -> None:
    """Connections stay, nothing passes."""
    field.link.set(Mode.STALL)
    _hold(field, rng)


def half_open(field: Field, rng: random.Random) -> None:
    """Requests arrive, answers do not."""
    field.link.set(Mode.HALF)
    _hold(field, rng)


def reset(field: Field, rng: random.Random) -> None:
    """Connections end in the middle of a call."""
    for _ in range(5):
        field.link.reset()
        time.sleep(0.2 * rng.random())


def one_kilobit(field: Field, rng: random.Random) -> None:
    """1 kbit/s: a handshake takes seconds, a picture minutes."""
    field.link.set(Mode.PASS, Weather(rate_bytes_per_s=125))
    _hold(field, rng)
    field.link.reset()  # or what is queued would take minutes to pass


def bad_weather(field: Field, rng: random.Random) -> None:
    """Delay, jitter, loss."""
    field.link.set(Mode.PASS, Weather(0.05, 0.1, 50_000, 0.1))
    _hold(field, rng)


def garbage(field: Field, rng: random.Random) -> None:
    """Answers are noise."""
    field.link.set(Mode.GARBAGE)
    _hold(field, rng)
    field.link.reset()


def wrong_ids(field: Field, rng: random.Random) -> None:
    """A server that answers for other frames than it was asked about."""

    def lie(request: pb.InferRequest, context: object) -> pb.InferReply:
        reply = answers(request, context)  # type: ignore[arg-type]
        reply.frame_id = "another"
        return reply

    with scripted_cloud(lie) as liar:
        field.link.lead_to(liar.address)
        _hold(field, rng)
        field.link.lead_to(field.cloud_address)


def cloud_killed(field: Field, rng: random.Random) -> None:
    """Kill -9 of the server; another comes back on the same port."""
    field.kill_cloud()
    _hold(field, rng)
    field.start_cloud()


def cloud_paused(field: Field, rng: random.Random) -> None:
    """The server is stopped as by a debugger, then goes on."""
    with field.cloud_frozen():
        _hold(field, rng)


def edge_killed(field: Field, rng: random.Random) -> None:
    """Kill -9 of the edge at a random moment, with the link down half of the time; now and then twice."""
    if rng.random() < 0.5:
        field.link.set(Mode.CUT)
    time.sleep(rng.random())
    field.kill_edge()
    if rng.random() < 0.25:  # the second time while it starts: it finds its spool and its last line again
        field.start_edge(wait=False)
        time.sleep(rng.random())
        field.kill_edge()
    field.start_edge()


def reloaded(field: Field, rng: random.Random) -> None:
    """SIGHUP again and again under load: other rates and deadlines, files with a fault, a renamed output."""
    field.link.set(rng.choice([Mode.CUT, Mode.PASS]))
    for _ in range(8):
        before = field.edge.reloads()
        if rng.random() < 0.3:
            field.edge.reload(text=rng.choice(["camera: {", "mode: sometimes", "", "\0"]))
        else:
            camera = field.plain["camera"] | {"fps": rng.choice([FPS, 4 * FPS])}
            field.edge.reload(camera=camera, deadline_s=rng.choice([0.2, 0.4, 0.8]))
        if rng.random() < 0.5:  # else the next one comes while this one is under way
            field.wait_for_reloads(before + 1)
    field.rotate_results()
    before = field.edge.reloads()
    field.edge.reload()
    field.wait_for_reloads(before + 1)


def spool_corrupted(field: Field, rng: random.Random) -> None:
    """Kill -9 of the edge while frames wait on the disk, then bytes of the disk go bad."""
    field.link.set(Mode.CUT)
    time.sleep(0.5 + rng.random())
    field.kill_edge()
    field.corrupt_spool(rng)
    field.start_edge()


def disk_full(field: Field, rng: random.Random) -> None:
    """Both disks fill up while the edge runs; then it begins anew and finds no room for a larger spool."""
    field.link.set(Mode.CUT)
    with field.spool_disk.full(), field.results_disk.full():
        _hold(field, rng)
    field.wait_for_results()
    field.kill_edge()
    with field.spool_disk.full():
        field.start_edge(spool_mb=1.5 * SPOOL_MB)
        field.wait_for("spillover_edge_spool_failing", 1.0)
        _hold(field, rng)
    field.wait_for("spillover_edge_spool_failing", 0.0)
    field.kill_edge()
    field.start_edge()  # with the spool as small as before


def disk_read_only(field: Field, rng: random.Random) -> None:
    """After a power cut the spool's disk comes back read-only, and later as it was."""
    field.link.set(rng.choice([Mode.CUT, Mode.PASS]))
    field.kill_edge()
    with field.spool_disk.read_only():
        field.start_edge()
        field.wait_for("spillover_edge_spool_failing", 1.0)
        _hold(field, rng)
    field.wait_for("spillover_edge_spool_failing", 0.0)


def disk_hangs(field: Field, rng: random.Random) -> None:
    """The spool's disk hangs in a sync: frames are answered in spite of it, those without room refused."""
    with _late_syncs(field) as syncs, syncs.hanging():
        field.wait_until_counted('spillover_edge_spool_refused_total{reason="disk too slow"}')
        field.wait_for_frames(round((3 + rng.random()) * FPS))


def disk_slow(field: Field, rng: random.Random) -> None:
    """Each sync takes up to a second: frames are answered all the while, and the spool takes what it can."""
    with _late_syncs(field) as syncs, syncs.slow(0.2 + 0.8 * rng.random()):
        field.wait_until_counted('spillover_edge_spool_frames_total{fate="accepted"}')
        field.wait_for_frames(round((2 + rng.random()) * FPS))


@contextmanager
def _late_syncs(field: Field) -> Iterator[LateSyncs]:
    """An edge whose syncs can be made late, its spool open and its link cut; afterwards one as before."""
    syncs = LateSyncs(field.folder)
    field.kill_edge()
    field.start_edge(environment=syncs.environment)
    field.wait_for("spillover_edge_spool_failing", 0.0)
    field.link.set(Mode.CUT)
    yield syncs
    field.kill_edge()
    field.start_edge()


def no_camera_at_boot(field: Field, rng: random.Random) -> None:
    """After a power cut the camera takes longer to start than the edge; then it goes once more, and comes."""
    camera = HttpCamera(f"127.0.0.1:{free_port()}", fps=FPS)
    field.kill_edge()
    field.start_edge(camera={"source": camera.url})
    for _ in range(2):
        field.wait_for('spillover_edge_source{camera="camera",state="lost"}', 1.0)
        _hold(field, rng, longest_s=1.0)
        camera.start()
        try:
            field.wait_for('spillover_edge_source{camera="camera",state="ok"}', 1.0)
            field.wait_for_frames(5)
        finally:
            camera.stop()
    field.kill_edge()
    field.start_edge()


def records_duplicated(field: Field, rng: random.Random) -> None:
    """Kill -9 of the edge while frames wait on the disk, then blocks of it are copied over others."""
    field.link.set(Mode.CUT)
    time.sleep(0.5 + rng.random())
    field.kill_edge()
    field.duplicate_blocks(rng)
    field.start_edge()
    field.wait_for("spillover_edge_spool_failing", 0.0)


def two_daemons(field: Field, rng: random.Random) -> None:
    """A second edge on the same spool or the same results: it ends and says why; the first goes on."""
    field.link.set(rng.choice([Mode.CUT, Mode.PASS]))
    output = rng.choice([field.output, field.folder / "second.jsonl"])
    second = field.start_second_edge(output)
    try:
        code, path = second.wait(), field.output if output == field.output else field.spool
    finally:
        second.kill()
    assert code == 3, f"the second edge ended with {code}: {second.tail()}"
    assert f"{path} is in use by process {field.edge.pid}" in second.tail(), second.tail()
    field.wait_for_frames(FPS)


def clock_jumps(field: Field, rng: random.Random) -> None:
    """The wall clock begins in the past, as without a battery, then is set, and set again, both ways."""
    clock = JumpingClock(field.folder)
    field.kill_edge()
    clock.jump(-20 * _YEAR_S)
    field.start_edge(environment=clock.environment)
    for offset_s in (0, 3600, -86_400, 10 * _YEAR_S, 0):
        field.link.set(rng.choice([Mode.CUT, Mode.PASS]))
        _hold(field, rng, longest_s=1.0)
        clock.jump(offset_s)
    field.kill_edge()
    field.start_edge()


def broker_cut(field: Field, rng: random.Random) -> None:
    """No way to the MQTT broker for a minute (a short run: a moment); then what it retains is right."""
    if not MOSQUITTO:
        raise CannotHappenHereError("no mosquitto (Debian: apt-get install mosquitto)")
    broker = Broker(field.folder)
    broker.start()
    line = FaultyProxy(f"127.0.0.1:{broker.port}")
    line.start()
    field.kill_edge()
    host, _, port = line.address.rpartition(":")
    field.start_edge(sinks=[{"kind": "mqtt", "host": host, "port": int(port), "queue_size": 20}])
    try:
        with Listener(broker.port) as listener:
            listener.wait_for("spillover/field/status", b"online")
            # Cut off, or silent as when the cable is drawn; the broker misses the device in either case.
            line.set(rng.choice([Mode.CUT, Mode.STALL]) if field.scale >= 1 else Mode.CUT)
            listener.wait_for("spillover/field/status", b"offline")
            time.sleep(_BROKER_CUT_S if field.scale >= 1 else 0.1)
            lost = 'spillover_edge_results_dropped_total{reason="queue full",sink="1:mqtt"}'
            field.wait_until_counted(lost)
            line.set(Mode.PASS)
            listener.wait_for("spillover/field/status", b"online")
            listener.wait_for("spillover/field/camera/result")
    finally:
        field.kill_edge()
        line.stop()
        broker.kill()
    field.start_edge()


LINK_FAULTS: tuple[Fault, ...] = (
    cut,
    flap,
    stall,
    half_open,
    reset,
    one_kilobit,
    bad_weather,
    garbage,
    wrong_ids,
    cloud_killed,
    cloud_paused,
)
FAULTS: tuple[Fault, ...] = (
    *LINK_FAULTS,
    edge_killed,
    reloaded,
    spool_corrupted,
    disk_full,
    disk_read_only,
    disk_hangs,
    no_camera_at_boot,
    disk_slow,
    records_duplicated,
    two_daemons,
    clock_jumps,
    broker_cut,
    calls_lost,
    calls_repeated,
    calls_reordered,
    stream_server_killed,
    two_stream_servers,
)
