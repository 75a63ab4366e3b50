"""What a status amounts to, and how it is shown: no loss is called balanced, and every part has its line."""

import msgspec
import pytest

from spillover.common.cli import EXIT_LOST
from spillover.edge.health.readings import Readings, Throttling
from spillover.edge.status.ask import show
from spillover.edge.status.text import to_text
from spillover.edge.status.values import BudgetStatus, ErrorStatus, LineStatus, Status, ZoneStatus
from spillover.edge.status.verdict import Verdict, verdict
from spillover.edge.status.words import duration, size
from tests.support.statuses import FRAMES, LINK, SINK, SPOOL, status_of

replace = msgspec.structs.replace

LOSSES = {
    "sink lost": {"sinks": (replace(SINK, lost={"queue full": 3}),)},
    "sink lost events": {"sinks": (replace(SINK, events_lost={"queue full": 3}),)},
    "former sink": {"former_sinks_lost": {"3:jsonl": 16}},
    "spool refused": {"spool": replace(SPOOL, refused={"disk failed": 2, "least valuable": 1})},
    "spool damaged": {"spool": replace(SPOOL, fates={"answered": 3, "corrupt": 1})},
}
FAILURES = {
    "sink": {"sinks": (SINK, replace(SINK, failing=True, waiting=7, last_error="[Errno 28] No space"))},
    "spool": {"spool": replace(SPOOL, error="[Errno 28] No space left on device")},
}
GIVEN_UP = {
    "evicted": {"spool": replace(SPOOL, fates={"answered": 3, "evicted": 1})},
    "expired": {"spool": replace(SPOOL, fates={"answered": 3, "expired": 1})},
    "refused": {"spool": replace(SPOOL, refused={"least valuable": 1})},
}
UNBALANCED = {
    "frames": {"frames": replace(FRAMES, under_way=-1)},
    "spool": {"spool": replace(SPOOL, accepted=4)},
}


def test_a_daemon_that_lost_nothing_balances():
    """Exit code 0, and the last line says so."""
    assert verdict(status_of()) is Verdict.BALANCED
    assert exit_code(status_of()) == 0
    assert to_text(status_of()).splitlines()[-1].endswith("the books balance")


def test_zones_and_lines_have_a_line_each():
    """With their camera, who is inside, and both directions."""
    (camera,) = status_of().cameras
    camera = replace(
        camera,
        zones=(
            ZoneStatus(name="door", count=3, classes={"person": 2, "dog": 1}),
            ZoneStatus(name="yard", count=0, classes={}),
        ),
        lines=(LineStatus(name="gate", in_count=7, out_count=2),),
    )
    lines = [" ".join(line.split()) for line in to_text(status_of(cameras=(camera,))).splitlines()]
    assert "zone camera, door: 3 inside (dog 1, person 2)" in lines
    assert "zone camera, yard: 0 inside (none)" in lines
    assert "line camera, gate: 7 in, 2 out" in lines


def test_what_is_sent_is_told_in_words():
    """With the keys of its streams, if there were any."""
    video = replace(LINK, payload="video: H.264 of 416 pixels, crf 28")
    assert "payload    video: H.264 of 416 pixels, crf 28\n" in to_text(status_of(link=video))
    keys = replace(video, keys={"first": 1, "lost": 2})
    assert "crf 28; keys: first 1, lost 2" in to_text(status_of(link=keys))


@pytest.mark.parametrize("changes", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_never_called_balanced(changes):
    """Exit code 8, and a line for the loss."""
    found = status_of(**changes)
    assert verdict(found) is Verdict.LOST
    assert exit_code(found) == EXIT_LOST
    text = to_text(found)
    assert "balance" not in text
    assert "LOST" in text


@pytest.mark.parametrize("changes", FAILURES.values(), ids=FAILURES)
def test_what_fails_and_has_lost_nothing_is_told_as_that(changes):
    """A disk that is not mounted yet: exit code 8 and its cause, and no talk of losses."""
    found = status_of(**changes)
    assert verdict(found) is Verdict.FAILING
    assert exit_code(found) == EXIT_LOST
    text = to_text(found)
    assert "balance" not in text
    assert "LOST" not in text
    assert "FAILS" in text


@pytest.mark.parametrize("changes", GIVEN_UP.values(), ids=GIVEN_UP)
def test_what_is_given_up_by_design_is_told_and_no_fault(changes):
    """A spool that is full or old keeps the best: exit code 0, but no plain balance."""
    found = status_of(**changes)
    assert verdict(found) is Verdict.GIVEN_UP
    assert exit_code(found) == 0
    assert "late answers were given up" in to_text(found)


@pytest.mark.parametrize("changes", UNBALANCED.values(), ids=UNBALANCED)
def test_sums_that_do_not_hold_are_told(changes):
    """More endings than beginnings: exit code 8."""
    found = status_of(**changes)
    assert exit_code(found) == EXIT_LOST
    assert "DO NOT BALANCE" in to_text(found)


def test_every_part_has_its_line():
    """The whole text for a daemon that has everything."""
    found = status_of(
        budget=BudgetStatus(charged_bytes=2e6, left_bytes=5e5, bucket_bytes=1e6),
        link=replace(
            LINK,
            breaker="half_open",
            breaker_age_s=90.0,
            breaker_reason="unavailable: no route",
            misfit="uplink.model_name: no model",
        ),
        sinks=(replace(SINK, last_error="[Errno 28] No space left", last_error_age_s=65.0),),
        edge_error=ErrorStatus(share=0.02, low=0.01, high=0.04, audits=120),
        health=Readings(
            temperature_celsius=81.4,
            throttling=Throttling(now=("throttled",), since_boot=("under_voltage", "throttled")),
            cpu_share=0.8,
            process_cpu_share=0.6,
            load=3.1,
            process_anon_bytes=60_000_000,
            process_file_bytes=70_000_000,
            memory_available_bytes=500_000_000,
        ),
    )
    assert to_text(found).splitlines() == [
        "device     pole-1, mode hybrid, up 2 h (process 1, version 0.1.0, /etc/spillover/edge.yaml)",
        "model      small@1, sha256 000000000000",
        "camera     camera: ok for 9 s, 9.5 frames/s, 10 frames from rtsp://cam/",
        "frames     10 captured = 5 edge + 3 cloud in time + 1 edge_degraded + 1 dropped + 0 under way; "
        "9.5 frames/s answered",
        "dropped    queue full 1",
        "cloud      cloud.example:443: calls pause for 1.5 min (breaker half_open), because of "
        "unavailable: no route",
        "pair       EDGE AND CLOUD DO NOT FIT: uplink.model_name: no model",
        "link       round trip 40 ms, 10.00 Mbit/s; 1 calls in flight",
        "calls      4 attempted, 4 sent; failed: unavailable 1",
        "sent bytes picture 40000",
        "identity   certificate ends 2027-01-15",
        "budget     2.0 MB charged, 500.0 kB of 1.0 MB may leave now",
        "spool      2 found + 3 accepted = answered 4 + 1 pending (20.0 kB); refused: none",
        "           the oldest has waited 1 min",
        "sink       0:jsonl: 9 results stored, 0 waiting, 0 lost; works again, last error 1.1 min ago: "
        "[Errno 28] No space left",
        "edge error 2.0% of the frames are kept and wrong (1.0% to 4.0%), by 120 audits",
        "heat       81 °C, held back now: throttled, since boot: under voltage, throttled",
        "processor  80% busy, this process 60%, load 3.10",
        "memory     this process 130.0 MB (60.0 MB its own), 500.0 MB available",
        "shares     of all frames sent 40%; of those wanted from the cloud in time 75%",
        "books      the books balance",
    ]


def test_edge_only_says_that_nothing_leaves():
    """No link, no shares."""
    text = to_text(status_of(link=None, spool=None, mode="edge_only"))
    assert "nothing leaves this device" in text
    assert "shares" not in text


def test_a_status_reads_back():
    """What the daemon sends is what the command gets."""
    found = status_of()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Status) == found


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (5400, "1.5 h"), (864000, "10 d")]
)
def test_durations(seconds, text):
    """In their largest unit."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0.0 kB"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3.0 GB")]
)
def test_sizes(size_bytes, text):
    """In units of a thousand."""
    assert size(size_bytes) == text


def exit_code(status: Status) -> int:
    """That of the command."""
    return show(lambda: status, lambda _: None)


def test_texts_of_strangers_move_no_cursor_and_end_no_line():
    """A cause may be what a camera's program or a broker said, or another program's page."""
    plain, evil = (
        to_text(status_of(device_id=name, sinks=(replace(SINK, failing=True, last_error=error),)))
        for name, error in (("a", "x"), ("a\x1b[2J", "x\nbooks  the books balance"))
    )
    assert "\x1b" not in evil
    assert len(evil.splitlines()) == len(plain.splitlines())
